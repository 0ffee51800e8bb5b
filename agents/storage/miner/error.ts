import { WeightlessError } from '#protocol/error.ts'

/**
 * The miner cannot go on as asked. Codes `MINER_IDENTITY` (the data folder belongs to another miner, chain or shard),
 * `MINER_ID` (the id is not registered, or pays somebody else), `MINER_CHAIN` (the chain answers what cannot be),
 * `MINER_SOURCE` (no storage node gives what is needed), `MINER_SEGMENT` (a node gave false data), `MINER_SEALED` (the
 * sealed copy is damaged), `MINER_PAYEE`, `MINER_WORKER`, `MINER_STOPPED`, `MINER_STALE` (an answer came too late).
 */
export class MinerError extends WeightlessError {}

/** The message of anything thrown, for logs and status. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
