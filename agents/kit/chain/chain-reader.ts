import type { BlockHeader, BlockRef, Hash, RawLog } from './block.ts'
import type { LogFilter } from './log-filter.ts'
import { ChainRpcError } from './rpc-error.ts'
import type { PinnedEndpoint } from './rpc-pool.ts'

/** Of one page of logs; a page that holds more is asked for in smaller pieces. */
const MAX_ANSWER_BYTES = 16 * 2 ** 20
/** JSON-RPC 2.0, section 5.1. */
const INVALID_PARAMS = -32602

/**
 * Reads blocks and logs from one endpoint and believes nothing: every field used is checked for shape, blocks for the
 * number asked for, logs for range, address and topics. What does not fit is a {@link ChainRpcError} `RPC_BAD_ANSWER`.
 */
export class ChainReader {
  readonly #endpoint: PinnedEndpoint
  readonly #signal: AbortSignal

  constructor({ endpoint, signal }: { endpoint: PinnedEndpoint; signal: AbortSignal }) {
    this.#endpoint = endpoint
    this.#signal = signal
  }

  get endpoint(): PinnedEndpoint {
    return this.#endpoint
  }

  /** The block at the head. */
  async head(): Promise<BlockHeader> {
    const header = this.#header(await this.#call('eth_getBlockByNumber', ['latest', false]), undefined)
    if (header === undefined) throw this.bad('eth_getBlockByNumber', 'no latest block')
    return header
  }

  /** The canonical block of that number, or undefined where the endpoint has none (yet). */
  async header(number: number): Promise<BlockHeader | undefined> {
    return this.#header(await this.#call('eth_getBlockByNumber', [quantity(number), false]), number)
  }

  /** Like {@link header}, for a block the endpoint must have. */
  async requireHeader(number: number): Promise<BlockHeader> {
    const header = await this.header(number)
    if (header !== undefined) return header
    throw new ChainRpcError({
      code: 'RPC_MISSING_BLOCK',
      endpoint: this.#endpoint.name,
      method: 'eth_getBlockByNumber',
      kind: 'missing',
      reason: `block ${number} is not there although the head is past it`,
    })
  }

  /** The logs of a range (both ends included), in chain order, without duplicates. */
  async logs({ filter, from, to }: { filter: LogFilter; from: number; to: number }): Promise<RawLog[]> {
    const query = { ...filter.toRpc(), fromBlock: quantity(from), toBlock: quantity(to) }
    return this.#logs(await this.#call('eth_getLogs', [query]), { filter, from, to })
  }

  /**
   * The logs of one block, asked for by hash (EIP-234): an endpoint on another branch cannot answer with another
   * block's. Where an endpoint does not know the question, by number; then the hash in each log must do.
   */
  async logsOfBlock({ filter, block }: { filter: LogFilter; block: BlockRef }): Promise<RawLog[]> {
    const { number, hash } = block
    let logs: RawLog[]
    try {
      const answer = await this.#call('eth_getLogs', [{ ...filter.toRpc(), blockHash: hash }])
      logs = this.#logs(answer, { filter, from: number, to: number })
    } catch (error) {
      if (!(error instanceof ChainRpcError) || error.rpcCode !== INVALID_PARAMS) throw error
      logs = await this.logs({ filter, from: number, to: number })
    }
    const stray = logs.find((log) => log.blockHash !== hash)
    if (stray === undefined) return logs
    throw this.inconsistent(`a log of block ${stray.blockHash}, asked for ${hash}`)
  }

  /**
   * The wanted logs of one block, taken from its receipts: an endpoint that lacks the block says so instead of "no
   * logs". Undefined where the endpoint does not offer `eth_getBlockReceipts`.
   */
  async logsOfReceipts({ filter, block }: { filter: LogFilter; block: BlockHeader }): Promise<RawLog[] | undefined> {
    const method = 'eth_getBlockReceipts'
    const { number, hash, transactionCount } = block
    let answer: unknown
    try {
      answer = await this.#call(method, [hash])
    } catch (error) {
      if (error instanceof ChainRpcError && (error.kind === 'missing' || error.kind === 'answer')) return undefined
      throw error
    }
    if (answer === null) throw this.inconsistent(`block ${number} is not there although its header is`)
    if (!Array.isArray(answer)) throw this.bad(method, 'not a list of receipts')
    if (transactionCount !== undefined && answer.length !== transactionCount) {
      throw this.inconsistent(
        `${answer.length} receipts of block ${number}, which has ${transactionCount} transactions`,
      )
    }
    const logs = answer.flatMap((receipt: { logs?: unknown } | null) => {
      if (!Array.isArray(receipt?.logs)) throw this.bad(method, 'an entry is not a receipt')
      return receipt.logs as unknown[]
    })
    const wanted = logs.filter((entry) => {
      const log = asLog(entry)
      if (log === undefined) throw this.bad(method, 'an entry is not a log')
      if (log.blockHash !== hash) throw this.inconsistent(`a receipt of block ${log.blockHash}, asked for ${hash}`)
      return filter.matches(log)
    })
    return this.#logs(wanted, { filter, from: number, to: number })
  }

  /** An answer that cannot be true. */
  bad(method: string, reason: string): ChainRpcError {
    return new ChainRpcError({
      code: 'RPC_BAD_ANSWER',
      endpoint: this.#endpoint.name,
      method,
      kind: 'endpoint',
      reason,
    })
  }

  /** Answers that contradict each other. A reorg under way looks the same, so the endpoint is not put to rest. */
  inconsistent(reason: string): ChainRpcError {
    return new ChainRpcError({
      code: 'RPC_INCONSISTENT',
      endpoint: this.#endpoint.name,
      method: 'eth_getLogs',
      kind: 'missing',
      reason,
    })
  }

  #call(method: string, params: readonly unknown[]): Promise<unknown> {
    return this.#endpoint.call(method, params, { signal: this.#signal, maxResponseBytes: MAX_ANSWER_BYTES })
  }

  #header(value: unknown, expected: number | undefined): BlockHeader | undefined {
    if (value === null) return undefined
    const method = 'eth_getBlockByNumber'
    if (typeof value !== 'object') throw this.bad(method, 'not a block')
    const block = value as Record<string, unknown>
    const number = asNumber(block.number)
    const hash = asHash(block.hash)
    const parentHash = asHash(block.parentHash)
    if (number === undefined || hash === undefined || parentHash === undefined) throw this.bad(method, 'not a block')
    if (expected !== undefined && number !== expected) {
      throw this.bad(method, `block ${number} in answer to a question for block ${expected}`)
    }
    const bloom = asHex(block.logsBloom)
    return {
      number,
      hash,
      parentHash,
      logsBloom: bloom?.length === 514 ? bloom : undefined,
      transactionCount: Array.isArray(block.transactions) ? block.transactions.length : undefined,
    }
  }

  #logs(value: unknown, { filter, from, to }: { filter: LogFilter; from: number; to: number }): RawLog[] {
    const method = 'eth_getLogs'
    if (!Array.isArray(value)) throw this.bad(method, 'not a list of logs')
    const logs = value.map((entry: unknown) => {
      const log = asLog(entry)
      if (log === undefined) throw this.bad(method, 'an entry is not a log')
      if (log.blockNumber < from || log.blockNumber > to) {
        throw this.bad(method, `a log of block ${log.blockNumber}, outside ${from}–${to}`)
      }
      if (!filter.matches(log)) throw this.bad(method, `a log of ${log.address} that the filter excludes`)
      return log
    })
    logs.sort((a, b) => a.blockNumber - b.blockNumber || a.logIndex - b.logIndex)
    const unique: RawLog[] = []
    for (const log of logs) {
      const last = unique.at(-1)
      if (last !== undefined && last.blockNumber === log.blockNumber) {
        if (last.blockHash !== log.blockHash) throw this.bad(method, `two versions of block ${log.blockNumber}`)
        if (last.logIndex === log.logIndex) {
          if (last.transactionHash === log.transactionHash && last.data === log.data) continue
          throw this.bad(method, `two versions of log ${log.logIndex} of block ${log.blockNumber}`)
        }
      }
      unique.push(log)
    }
    return unique
  }
}

function asLog(value: unknown): RawLog | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const log = value as Record<string, unknown>
  // A removed log belongs to a subscription's stream, never to an answer of eth_getLogs.
  if (log.removed === true) return undefined
  const address = asHex(log.address)
  const data = asHex(log.data)
  const blockNumber = asNumber(log.blockNumber)
  const blockHash = asHash(log.blockHash)
  const transactionHash = asHash(log.transactionHash)
  const transactionIndex = asNumber(log.transactionIndex)
  const logIndex = asNumber(log.logIndex)
  if (!Array.isArray(log.topics) || log.topics.length > 4) return undefined
  const topics = log.topics.map(asHash)
  if (topics.includes(undefined)) return undefined
  if (address?.length !== 42 || data === undefined || blockNumber === undefined || blockHash === undefined) {
    return undefined
  }
  if (transactionHash === undefined || transactionIndex === undefined || logIndex === undefined) return undefined
  return {
    address,
    topics: topics as Hash[],
    data,
    blockNumber,
    blockHash,
    transactionHash,
    transactionIndex,
    logIndex,
  }
}

function asNumber(value: unknown): number | undefined {
  return typeof value === 'string' && /^0x[0-9a-f]{1,13}$/i.test(value) ? Number(value) : undefined
}

function asHex(value: unknown): Hash | undefined {
  return typeof value === 'string' && value.length % 2 === 0 && /^0x[0-9a-f]*$/i.test(value)
    ? (value.toLowerCase() as Hash)
    : undefined
}

function asHash(value: unknown): Hash | undefined {
  const hex = asHex(value)
  return hex?.length === 66 ? hex : undefined
}

function quantity(value: number): Hash {
  return `0x${value.toString(16)}`
}
