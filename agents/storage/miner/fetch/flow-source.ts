import type { Logger } from '#kit/log.ts'
import { redactUrls } from '#kit/redact.ts'
import type { Hash } from '#protocol/hex.ts'
import { decodeFlowSegments, type FlowSegment } from '#storage/node/http/flow-frame.ts'
import { MinerError, reasonOf } from '../error.ts'
import { verifyFlowSegment } from './segment-tree.ts'

export interface FlowSourceParameters {
  /** In order of preference. */
  urls: readonly string[]
  /** A node that sends nothing for so long is given up. */
  stallTimeoutMs: number
  log: Logger
  now?: (() => number) | undefined
}

interface Source {
  url: string
  /** Not asked before. */
  restUntil: number
  failures: number
  lastError: string | undefined
}

/** What is done with segments as they come. */
export interface SegmentTaker {
  take: (segment: FlowSegment) => Promise<void>
  finish?: (() => Promise<void>) | undefined
}

export interface SegmentRange {
  from: number
  to: number
  flowRoot: Hash
  signal: AbortSignal
}

const REST_MIN_MS = 1_000
const REST_MAX_MS = 120_000
const REASON_BYTES = 2_000

/** Reads the flow from storage nodes; what they send is for the caller to verify. */
export class FlowSource {
  readonly #sources: Source[]
  readonly #parameters: FlowSourceParameters

  constructor(parameters: FlowSourceParameters) {
    this.#parameters = parameters
    this.#sources = parameters.urls.map((url) => ({
      ...{ url: url.replace(/\/+$/, ''), restUntil: 0, failures: 0, lastError: undefined },
    }))
  }

  /** Why nodes are not used at the moment. */
  problems(): { url: string; error: string }[] {
    return this.#sources.flatMap(({ url, lastError }) =>
      lastError === undefined ? [] : [{ url: redactUrls(url), error: lastError }],
    )
  }

  /**
   * Segments of `[from, to)` that the first node that answers has, in order. `take` verifies and uses each of them, or
   * begins to, and `finish` waits until all are; if one throws `MINER_SEGMENT` the node has lied and the next is asked.
   *
   * @throws MinerError `MINER_SOURCE` when no node answers
   */
  async read(range: SegmentRange, { take, finish }: SegmentTaker): Promise<void> {
    let next = range.from
    for (const source of this.#usable()) {
      try {
        for await (const segment of this.#stream(source, { ...range, from: next })) {
          if (segment.segment < next || segment.segment >= range.to) throw outOfRange(segment.segment, range)
          await take(segment)
          next = segment.segment + 1
        }
        await finish?.()
        this.#well(source)
        return
      } catch (error) {
        range.signal.throwIfAborted()
        if (!isSourceFault(error)) throw error
        this.#failed(source, error)
        if (error instanceof MinerError && error.code === 'MINER_SEGMENT') next = range.from
      }
    }
    throw new MinerError({
      code: 'MINER_SOURCE',
      message: `no storage node gives segments ${next} to ${range.to}: ${this.#reasons()}`,
      fix: 'check nodes.urls, and that the nodes hold the shard and follow the chain',
      details: { from: next, to: range.to },
    })
  }

  /** One segment, verified, from the first node that answers; undefined when that one does not hold it. */
  async one(segment: number, options: Omit<SegmentRange, 'from' | 'to'>): Promise<FlowSegment | undefined> {
    let found: FlowSegment | undefined
    const range = { from: segment, to: segment + 1, ...options }
    await this.read(range, {
      take: async (given) => {
        verifyFlowSegment(given, options.flowRoot)
        found = given
      },
    })
    return found
  }

  async *#stream({ url }: Source, { from, to, flowRoot, signal }: SegmentRange): AsyncGenerator<FlowSegment> {
    const { stallTimeoutMs } = this.#parameters
    const stalled = new AbortController()
    const arm = (): NodeJS.Timeout => setTimeout(() => stalled.abort(stall(url, stallTimeoutMs)), stallTimeoutMs)
    let timer = arm()
    try {
      const response = await fetch(`${url}/v1/flow/segments?from=${from}&to=${to}&flowRoot=${flowRoot}`, {
        signal: AbortSignal.any([signal, stalled.signal]),
      })
      if (!response.ok || !response.body) throw await refusal(url, response)
      for await (const segment of decodeFlowSegments(response.body as unknown as AsyncIterable<Uint8Array>)) {
        clearTimeout(timer)
        yield segment
        timer = arm()
      }
    } catch (error) {
      throw stalled.signal.aborted ? stalled.signal.reason : error
    } finally {
      clearTimeout(timer)
    }
  }

  #usable(): Source[] {
    const now = this.#now()
    const rested = this.#sources.filter(({ restUntil }) => restUntil <= now)
    // When all rest, the one that has rested longest is tried all the same.
    return rested.length > 0 ? rested : [...this.#sources].sort((a, b) => a.restUntil - b.restUntil).slice(0, 1)
  }

  #well(source: Source): void {
    source.failures = 0
    source.restUntil = 0
    source.lastError = undefined
  }

  #failed(source: Source, error: unknown): void {
    source.failures += 1
    source.lastError = reasonOf(error)
    source.restUntil = this.#now() + Math.min(REST_MIN_MS * 2 ** Math.min(source.failures - 1, 10), REST_MAX_MS)
    this.#parameters.log.warn({ node: redactUrls(source.url), err: error }, 'a storage node failed')
  }

  #reasons(): string {
    return this.problems()
      .map(({ url, error }) => `${url}: ${error}`)
      .join('; ')
      .slice(0, REASON_BYTES)
  }

  #now(): number {
    return this.#parameters.now?.() ?? Date.now()
  }
}

/** What another node may do better: everything but the miner's own failures. */
function isSourceFault(error: unknown): boolean {
  if (!(error instanceof MinerError)) return true
  return error.code === 'MINER_SEGMENT' || error.code === 'MINER_SOURCE'
}

async function refusal(url: string, response: Response): Promise<MinerError> {
  const text = (await response.text().catch(() => '')).slice(0, REASON_BYTES)
  let reason = text
  try {
    const { code, message } = JSON.parse(text) as { code?: unknown; message?: unknown }
    reason = `${code}: ${message}`
  } catch {
    // Not one of ours: the text says what it says.
  }
  return new MinerError({
    code: 'MINER_SOURCE',
    message: `${redactUrls(url)} answered ${response.status} ${reason}`,
    details: { status: response.status },
  })
}

function stall(url: string, stallTimeoutMs: number): MinerError {
  const message = `${redactUrls(url)} sent nothing for ${stallTimeoutMs} ms`
  return new MinerError({ code: 'MINER_SOURCE', message, details: { stallTimeoutMs } })
}

function outOfRange(segment: number, { from, to }: SegmentRange): MinerError {
  const message = `segment ${segment} was not asked for (${from} to ${to})`
  return new MinerError({ code: 'MINER_SEGMENT', message, details: { segment, from, to } })
}
