import type { Chain } from '#kit/chain/client.ts'
import { flowAbi } from '#protocol/abi/flow.ts'
import { storageRewardAbi } from '#protocol/abi/storage-reward.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hex } from '#protocol/hex.ts'
import { MAX_FILE_BYTES, SECTOR_BYTES } from '#protocol/storage/constants.ts'
import { nodeHeights } from '#protocol/storage/submission.ts'
import type { StorageConnection } from './connection.ts'
import { SettingMissingError } from './errors.ts'
import { quoteSubmission, type SubmissionQuote } from './flow-contract.ts'
import { listNodes } from './list-nodes.ts'

export interface StorageQuote extends SubmissionQuote {
  sizeBytes: number
  /** What is paid for: the size in whole sectors, with the padding of the file's tree. */
  chargedBytes: number
  /** How long the fee pays miners, in seconds; undefined where the contracts do not tell. */
  lifetimeSeconds: number | undefined
}

/**
 * What storing a file of this size costs now: `sectors × pricePerSector`, gas apart. Nothing is paid.
 *
 * @throws WeightlessError `FILE_SIZE`; SettingMissingError without a Flow contract to ask
 * @example
 * const { feeWei } = await quoteStorage(connection, { sizeBytes: 10_000_000 })
 */
export async function quoteStorage(
  connection: StorageConnection,
  { sizeBytes, signal }: { sizeBytes: number; signal?: AbortSignal | undefined },
): Promise<StorageQuote> {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 1 || sizeBytes > MAX_FILE_BYTES) {
    throw new WeightlessError({
      code: 'FILE_SIZE',
      message: `no file has ${sizeBytes} bytes here`,
      fix: `give a whole number of bytes from 1 to ${MAX_FILE_BYTES}`,
      details: { sizeBytes, maxBytes: MAX_FILE_BYTES },
    })
  }
  const chain = await connection.chain({ purpose: 'ask for the price', signal })
  const flow = await flowOf(connection, signal)
  const nodes = nodeHeights(sizeBytes).map((height) => ({ height }))
  const quote = await quoteSubmission({ chain, flow, nodes })
  const lifetimeSeconds = await lifetimeOf({ chain, flow })
  return { ...quote, sizeBytes, chargedBytes: quote.sectors * SECTOR_BYTES, lifetimeSeconds }
}

async function flowOf(connection: StorageConnection, signal: AbortSignal | undefined): Promise<Hex> {
  if (connection.flow !== undefined) return connection.flow
  const { nodes } = await listNodes(connection, { signal })
  for (const { node } of nodes) {
    const status = await node.status({ signal }).catch(() => undefined)
    if (status !== undefined) return status.flowAddress
  }
  throw new SettingMissingError({ setting: 'flow', purpose: 'ask for the price' })
}

/** Contracts of other deployments may lack these getters: then the time is not known. */
async function lifetimeOf({ chain, flow }: { chain: Chain; flow: Hex }): Promise<number | undefined> {
  try {
    const reward = await chain.client.readContract({ address: flow, abi: flowAbi, functionName: 'reward' })
    const seconds = await chain.client.readContract({
      address: reward,
      abi: storageRewardAbi,
      functionName: 'releaseSeconds',
    })
    return Number(seconds)
  } catch {
    return undefined
  }
}
