import { encodeEventTopics, type Log, parseEventLogs } from 'viem'
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
  /** Where a search of the chain found them. */
  submitTx?: Hash | undefined
  confirmTx?: Hash | undefined
  confirmBlock?: number | undefined
  /** Whether the signer at this place of the epoch's order signed. */
  signed(index: number): boolean
}

/** Blocks asked for at once where an endpoint refuses the whole range. */
const PAGE_BLOCKS = 2_000
/** How many such pages a reader looks through, and somebody who only wants to save a payment. */
const READ_PAGES = 500
const SAVE_PAGES = 10
/** Submissions of one blob that are looked at, the latest first. */
const MAX_EPOCHS = 8

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
  const found =
    epoch === undefined
      ? (await recordsOf(connection, { dataRoot, maxPages: READ_PAGES })).find(({ confirmed }) => confirmed)
      : await readBlob(connection, { dataRoot, epoch, quorumId })
  if (found?.confirmed === true) return found
  const where = epoch === undefined ? 'on this chain' : `in epoch ${epoch}`
  const reason = found === undefined ? `nothing of it is ${where}` : `its quorum of epoch ${epoch} has not signed yet`
  throw new BlobUnknownError({ dataRoot, reason })
}

/** The last submission of a blob that is not expired, confirmed ones first; undefined when there is none. */
export async function findSubmission(connection: DaConnection, dataRoot: Hash): Promise<BlobRecord | undefined> {
  const records = await recordsOf(connection, { dataRoot, maxPages: SAVE_PAGES })
  const live = records.filter(({ expiryEpoch, currentEpoch: now }) => expiryEpoch >= now)
  return live.find(({ confirmed }) => confirmed) ?? live[0]
}

/** What the chain has of a blob, the latest epoch first. */
async function recordsOf(
  connection: DaConnection,
  { dataRoot, maxPages }: { dataRoot: Hash; maxPages: number },
): Promise<BlobRecord[]> {
  const chain = await connection.chain()
  const { entrance: address } = connection.contracts
  const topicOf = (eventName: 'BlobSubmitted' | 'BlobConfirmed') => {
    const [selector, root] = encodeEventTopics({ abi: entranceAbi, eventName, args: { dataRoot } })
    return { selector, root }
  }
  const [submitted, confirmed] = [topicOf('BlobSubmitted'), topicOf('BlobConfirmed')]
  const topics = [[submitted.selector, confirmed.selector], submitted.root]
  const logs = await searchLogs({ chain, address, topics, fromBlock: connection.startBlock, maxPages })
  const found = new Map<number, Pick<BlobRecord, 'submitTx' | 'confirmTx' | 'confirmBlock'>>()
  for (const event of parseEventLogs({ abi: entranceAbi, eventName: ['BlobSubmitted', 'BlobConfirmed'], logs })) {
    const epoch = Number(event.args.epoch)
    const known = found.get(epoch)
    const { transactionHash, blockNumber } = event
    if (event.eventName === 'BlobSubmitted') found.set(epoch, { ...known, submitTx: transactionHash ?? undefined })
    else found.set(epoch, { ...known, confirmTx: transactionHash ?? undefined, confirmBlock: Number(blockNumber) })
  }
  const records: BlobRecord[] = []
  for (const [epoch, where] of [...found].sort(([a], [b]) => b - a).slice(0, MAX_EPOCHS)) {
    const blob = await readBlob(connection, { dataRoot, epoch })
    if (blob !== undefined) records.push({ ...blob, ...where })
  }
  return records
}

/** Logs of a filter that fits few: the whole range at once, or page by page from the head where that is refused. */
async function searchLogs({
  chain,
  address,
  topics,
  fromBlock,
  maxPages,
}: {
  chain: Chain
  address: Hash
  topics: readonly unknown[]
  fromBlock: number
  maxPages: number
}): Promise<Log[]> {
  const ask = async (from: number, to: number | 'latest'): Promise<Log[]> => {
    const toBlock = to === 'latest' ? to : `0x${to.toString(16)}`
    const filter = { address, topics, fromBlock: `0x${from.toString(16)}`, toBlock }
    const answer = await chain.request('eth_getLogs', [filter])
    return Array.isArray(answer) ? (answer as Log[]) : []
  }
  try {
    return await ask(fromBlock, 'latest')
  } catch (error) {
    const head = Number(await chain.client.getBlockNumber())
    if (head - fromBlock <= PAGE_BLOCKS) throw error
    for (let page = 0, to = head; page < maxPages && to >= fromBlock; page++, to -= PAGE_BLOCKS) {
      const found = await ask(Math.max(fromBlock, to - PAGE_BLOCKS + 1), to)
      if (found.length > 0) return found
    }
    return []
  }
}
