import { encodeEventTopics, parseEventLogs } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { blobCommitment } from '#protocol/da/commitment.ts'
import type { Hash } from '#protocol/hex.ts'
import { entranceAbi, signersAbi } from './abi.ts'
import type { DaConnection } from './connection.ts'
import { BlobUnknownError } from './errors.ts'

/** A blob of one epoch, as the chain has it; size and roots are checked to make the data root. */
export interface BlobRecord {
  dataRoot: Hash
  epoch: number
  quorumId: number
  sizeBytes: number
  rowRoot: Hash
  rlcRoot: Hash
  /** The last epoch in which its signers must hold it. */
  expiryEpoch: number
  /** When it was looked up. */
  currentEpoch: number
  /** The quorum's signature is on the chain. */
  confirmed: boolean
  /** Whether the signer at this place of the epoch's order signed. */
  signed(index: number): boolean
}

/** Blocks asked for at once where an endpoint refuses the whole range, and how many such pages at most. */
const PAGE_BLOCKS = 2_000
const MAX_PAGES = 500

/** The epoch now. */
export async function currentEpoch(connection: DaConnection): Promise<number> {
  const { client } = await connection.chain()
  const { signers: address } = connection.contracts
  return Number(await client.readContract({ address, abi: signersAbi, functionName: 'epochNumber' }))
}

/** A blob of a given epoch, confirmed or not; undefined when it was not submitted in it. */
export async function readBlob(
  connection: DaConnection,
  { dataRoot, epoch, quorumId = 0 }: { dataRoot: Hash; epoch: number; quorumId?: number | undefined },
): Promise<BlobRecord | undefined> {
  const { client } = await connection.chain()
  const [blob, now] = await Promise.all([
    client.readContract({
      address: connection.contracts.entrance,
      abi: entranceAbi,
      functionName: 'blobOf',
      args: [dataRoot, BigInt(epoch), BigInt(quorumId)],
    }),
    currentEpoch(connection),
  ])
  if (Number(blob.sizeBytes) === 0) return undefined
  const { rowRoot, rlcRoot } = blob
  const sizeBytes = Number(blob.sizeBytes)
  if (blobCommitment({ sizeBytes, rowRoot, rlcRoot }).dataRoot !== dataRoot) {
    throw new BlobUnknownError({ dataRoot, reason: 'the chain’s answer does not make this data root' })
  }
  return {
    ...{ dataRoot, epoch, quorumId, sizeBytes, rowRoot, rlcRoot },
    expiryEpoch: Number(blob.expiryEpoch),
    currentEpoch: now,
    confirmed: blob.signedBitmap !== 0n,
    signed: (index) => ((blob.signedBitmap >> BigInt(index)) & 1n) === 1n,
  }
}

/**
 * The confirmed blob that is meant: of the given epoch, or the one confirmed last.
 *
 * @throws BlobUnknownError
 */
export async function findBlob(
  connection: DaConnection,
  { dataRoot, epoch, quorumId }: { dataRoot: Hash; epoch?: number | undefined; quorumId?: number | undefined },
): Promise<BlobRecord> {
  const epochs = epoch === undefined ? await epochsOf(connection, { dataRoot, event: 'BlobConfirmed' }) : [epoch]
  for (const at of epochs) {
    const blob = await readBlob(connection, { dataRoot, epoch: at, quorumId })
    if (blob?.confirmed === true) return blob
    if (blob !== undefined) {
      throw new BlobUnknownError({
        dataRoot,
        reason: `it was submitted in epoch ${at}, and its quorum has not signed yet`,
      })
    }
  }
  const where = epoch === undefined ? 'on this chain' : `in epoch ${epoch}`
  throw new BlobUnknownError({ dataRoot, reason: `nothing of it is ${where}` })
}

/** The last submission of a blob that is not expired, confirmed ones first; undefined when there is none. */
export async function findSubmission(connection: DaConnection, dataRoot: Hash): Promise<BlobRecord | undefined> {
  for (const event of ['BlobConfirmed', 'BlobSubmitted'] as const) {
    for (const epoch of (await epochsOf(connection, { dataRoot, event })).slice(0, 8)) {
      const blob = await readBlob(connection, { dataRoot, epoch })
      if (blob !== undefined && blob.expiryEpoch >= blob.currentEpoch) return blob
    }
  }
  return undefined
}

/** Epochs that an event about a blob names, the latest first. */
async function epochsOf(
  connection: DaConnection,
  { dataRoot, event }: { dataRoot: Hash; event: 'BlobSubmitted' | 'BlobConfirmed' },
): Promise<number[]> {
  const chain = await connection.chain()
  const topics = encodeEventTopics({ abi: entranceAbi, eventName: event, args: { dataRoot } })
  const logs = await searchLogs({
    chain,
    address: connection.contracts.entrance,
    topics: topics as Hash[],
    fromBlock: connection.startBlock,
  })
  const epochs = parseEventLogs({ abi: entranceAbi, eventName: event, logs: logs as never }).map(({ args }) =>
    Number((args as { epoch: bigint }).epoch),
  )
  return [...new Set(epochs)].reverse()
}

/** Logs of a filter that fits few: the whole range at once, or page by page from the head where that is refused. */
async function searchLogs({
  chain,
  address,
  topics,
  fromBlock,
}: {
  chain: Chain
  address: Hash
  topics: readonly Hash[]
  fromBlock: number
}): Promise<unknown[]> {
  const ask = async (from: number, to: number | 'latest'): Promise<unknown[]> => {
    const toBlock = to === 'latest' ? to : `0x${to.toString(16)}`
    const filter = { address, topics, fromBlock: `0x${from.toString(16)}`, toBlock }
    const answer = await chain.request('eth_getLogs', [filter])
    return Array.isArray(answer) ? answer : []
  }
  try {
    return await ask(fromBlock, 'latest')
  } catch (error) {
    const head = Number(await chain.client.getBlockNumber())
    if (head - fromBlock <= PAGE_BLOCKS) throw error
    for (let page = 0, to = head; page < MAX_PAGES && to >= fromBlock; page++, to -= PAGE_BLOCKS) {
      const found = await ask(Math.max(fromBlock, to - PAGE_BLOCKS + 1), to)
      if (found.length > 0) return found
    }
    return []
  }
}
