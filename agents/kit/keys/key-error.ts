import { WeightlessError } from '#protocol/error.ts'

/** A key that cannot be had. Codes `KEYSTORE_MISSING`, `KEYSTORE_EXISTS`, `KEYSTORE_CORRUPT`, `KEYSTORE_COST`,
 *  `KEYSTORE_PASSWORD` (wrong), `PASSWORD_MISSING`, `PASSWORD_FILE`, `PRIVATE_KEY_INVALID`, `SIGNER_MISSING`. Never holds a secret. */
export class KeyError extends WeightlessError {}
