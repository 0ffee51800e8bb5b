import { WeightlessError } from '#protocol/error.ts'

/**
 * A deployment was refused or failed. Codes: `DEPLOY_PARAMETERS` (out of bounds, `details.problems`),
 * `DEPLOY_ARTIFACT` (contracts not built), `DEPLOY_RECORD` (the record cannot be read, or belongs to another chain or
 * other parameters), `DEPLOY_FUNDS` (the account cannot pay), `DEPLOY_CODE` (the chain holds other code than recorded),
 * `DEPLOY_WIRING` (deployed contracts do not point at each other as planned), `DEPLOY_REVERTED`, `DEPLOY_TIMEOUT` (a transaction was not mined in time), `DEPLOY_NONCE`
 * (the account kept sending other transactions), `DEPLOY_NETWORK` (unknown network).
 */
export class DeployError extends WeightlessError {}
