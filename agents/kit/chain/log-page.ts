import type { BlockHeader, BlockRef, RawLog } from './block.ts'
import type { BloomTest } from './bloom.ts'
import type { ChainReader } from './chain-reader.ts'
import type { LogFilter } from './log-filter.ts'
import { ChainRpcError } from './rpc-error.ts'

/** A stretch of the canonical chain with the wanted logs in it. */
export interface LogPage {
  readonly to: BlockRef
  readonly logs: RawLog[]
}

export interface FetchPageParameters {
  reader: ChainReader
  filter: LogFilter
  bloomTest: BloomTest
  /** The block before `from` as we know it; the page must continue it. */
  parent: BlockRef | undefined
  from: number
  to: number
  /** Check every block of the page rather than its ends and a sample. */
  exact: boolean
  /** Another endpoint for second opinions, where there is one. */
  second?: ChainReader | undefined
}

const CONCURRENT_CALLS = 8
const REPEATED_ASKS = 4
/** Log-bearing blocks looked up in a page that is not exact. */
const SAMPLE_BLOCKS = 16

/**
 * Fetches one page and proves that it is of one piece. Near the head (`exact`) every header is read: each must name
 * its predecessor, every log must lie in the block of that hash, and a block whose bloom says "there may be a log here"
 * while the answer has none must show its receipts, so that an endpoint that lags behind its own head cannot hide logs. Far from the head, where reorgs do not reach, the two ends (the last before and after the logs) and a sample of
 * the blocks with logs are checked.
 *
 * @returns undefined when the page does not continue `parent`: a reorg, or an endpoint on another branch.
 * @throws {@link ChainRpcError}, `RPC_INCONSISTENT` where answers contradict each other.
 */
export async function fetchPage(parameters: FetchPageParameters): Promise<LogPage | undefined> {
  return parameters.exact ? fetchExact(parameters) : fetchDeep(parameters)
}

async function fetchExact(parameters: FetchPageParameters): Promise<LogPage | undefined> {
  const { reader, filter, parent, from, to } = parameters
  const numbers = Array.from({ length: to - from + 1 }, (_, index) => from + index)
  const headers = await mapLimited(numbers, (number) => reader.requireHeader(number))
  const [first, last] = [headers[0], headers.at(-1)]
  if (first === undefined || last === undefined) throw new RangeError('a page holds at least one block')
  if (!continues(first, parent)) return undefined
  for (const [index, header] of headers.entries()) {
    const previous = headers[index - 1]
    if (previous !== undefined && header.parentHash !== previous.hash) {
      throw reader.inconsistent(`block ${header.number} does not follow block ${previous.number}`)
    }
  }
  const logs =
    from === to ? await reader.logsOfBlock({ filter, block: first }) : await reader.logs({ filter, from, to })
  const withLogs = new Set<number>()
  for (const log of logs) {
    if (headers[log.blockNumber - from]?.hash !== log.blockHash) {
      throw reader.inconsistent(`a log of block ${log.blockNumber} belongs to another branch`)
    }
    withLogs.add(log.blockNumber)
  }
  const suspects = headers.filter(
    ({ number, logsBloom }) => !withLogs.has(number) && logsBloom !== undefined && parameters.bloomTest(logsBloom),
  )
  if (suspects.length > 0) {
    logs.push(...(await mapLimited(suspects, (block) => askAgain(parameters, block))).flat())
    logs.sort((a, b) => a.blockNumber - b.blockNumber || a.logIndex - b.logIndex)
  }
  return { to: { number: last.number, hash: last.hash }, logs }
}

/**
 * A second opinion on a block without logs whose bloom allows for one: its receipts, which prove it either way. Where
 * there are none to be had, the block is asked for by hash some more times, here and at the second endpoint.
 */
async function askAgain({ reader, filter, second }: FetchPageParameters, block: BlockHeader): Promise<RawLog[]> {
  const proven = await reader.logsOfReceipts({ filter, block })
  if (proven !== undefined) return proven
  for (let ask = 0; ask < REPEATED_ASKS; ask++) {
    const asked = ask % 2 === 1 && second !== undefined ? second : reader
    const logs = await asked.logsOfBlock({ filter, block }).catch((error: unknown) => {
      // The second endpoint's failure is no reason to stop.
      if (asked === second && error instanceof ChainRpcError) return []
      throw error
    })
    if (logs.length > 0) return logs
  }
  return []
}

async function fetchDeep({ reader, filter, parent, from, to }: FetchPageParameters): Promise<LogPage | undefined> {
  const [first, last] = await Promise.all([reader.requireHeader(from), reader.requireHeader(to)])
  if (!continues(first, parent)) return undefined
  const logs = await reader.logs({ filter, from, to })
  const hashes = new Map(logs.map((log) => [log.blockNumber, log.blockHash]))
  const known = [...hashes.keys()]
  const step = Math.max(1, Math.ceil(known.length / SAMPLE_BLOCKS))
  const sample = known.filter((_, index) => index % step === 0 || index === known.length - 1)
  const headers = await mapLimited([...sample, to], (number) => reader.requireHeader(number))
  for (const { number, hash } of headers) {
    if (number === to && hash !== last.hash) throw reader.inconsistent(`block ${number} changed meanwhile`)
    if ((hashes.get(number) ?? hash) !== hash) {
      throw reader.inconsistent(`a log of block ${number} belongs to another branch`)
    }
  }
  return { to: { number: last.number, hash: last.hash }, logs }
}

function continues(first: BlockHeader, parent: BlockRef | undefined): boolean {
  return parent === undefined || parent.number !== first.number - 1 || first.parentHash === parent.hash
}

async function mapLimited<T, R>(items: readonly T[], task: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  for (let start = 0; start < items.length; start += CONCURRENT_CALLS) {
    results.push(...(await Promise.all(items.slice(start, start + CONCURRENT_CALLS).map(task))))
  }
  return results
}
