import { WeightlessError } from '#protocol/error.ts'

/**
 * A devnet could not start or go on. Codes: `DEVNET_RUNNING` (one runs in this directory), `DEVNET_NOT_RUNNING`,
 * `DEVNET_PORTS` (no free ports), `DEVNET_UNHEALTHY` (something did not come up in time; `details.waitingFor`),
 * `DEVNET_DIRECTORY` (not a devnet's directory, or its parts do not fit together), `DEVNET_SHAPE` (numbers of nodes and replicas).
 */
export class DevnetError extends WeightlessError {}
