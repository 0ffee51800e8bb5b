import { WeightlessError } from '#protocol/error.ts'

/** The key-value agent cannot go on as asked. Codes `KV_DOWNLOAD`, `KV_VALUES`, `KV_CHAIN`, `KV_KEY`. */
export class KvError extends WeightlessError {}
