import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { WeightlessError } from '#protocol/error.ts'

/** A request of the proxy bench was not answered. Code `BENCH_PROXY`. */
export class ProxyBenchError extends WeightlessError {}

/** Where requests go, and how they are allowed in. */
export interface Target {
  url: string
  /** Headers of the n-th request. */
  headers: (n: number) => Record<string, string>
}

/** One streamed answer as its client saw it; times in milliseconds. */
export interface StreamSample {
  /** From sending the request to the first token. */
  firstTokenMs: number
  /** From the upstream's sending of each token to its arrival. */
  transitMs: number[]
  tokens: number
}

/** The body of a request for so many tokens, one every `everyMs`. */
export function benchBody({ tokens, everyMs, stream }: { tokens: number; everyMs: number; stream: boolean }): Buffer {
  const messages = [
    { role: 'system', content: 'You are a careful assistant. '.repeat(20) },
    { role: 'user', content: JSON.stringify({ tokens, everyMs }) },
  ]
  const options = stream ? { stream_options: { include_usage: true } } : {}
  return Buffer.from(JSON.stringify({ model: 'bench', messages, max_tokens: tokens + 1, stream, ...options }))
}

/** Connections to the targets, kept open. */
export class Load {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 512 })
  #count = 0

  /** Streams one answer. */
  async stream(target: Target, body: Buffer): Promise<StreamSample> {
    const startedAt = performance.now()
    const sample: StreamSample = { firstTokenMs: 0, transitMs: [], tokens: 0 }
    const response = await this.#post(target, body)
    let rest = ''
    for await (const part of response) {
      const nowMs = performance.timeOrigin + performance.now()
      const text = rest + (part as Buffer).toString('latin1')
      const end = text.lastIndexOf('\n\n')
      rest = text.slice(end + 2)
      for (const [, sent] of text.slice(0, end + 2).matchAll(/@(\d+\.\d+) /g)) {
        if (sample.tokens === 0) sample.firstTokenMs = performance.now() - startedAt
        sample.tokens += 1
        sample.transitMs.push(nowMs - Number(sent))
      }
    }
    return sample
  }

  /** Sends one request and takes its answer whole. */
  async whole(target: Target, body: Buffer): Promise<void> {
    for await (const _ of await this.#post(target, body));
  }

  close(): void {
    this.#agent.destroy()
  }

  async #post(target: Target, body: Buffer): Promise<IncomingMessage> {
    const headers = {
      ...{ 'content-type': 'application/json', 'content-length': String(body.length) },
      ...target.headers(this.#count++),
    }
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const call = httpRequest(`${target.url}/v1/chat/completions`, { method: 'POST', agent: this.#agent, headers })
      call.once('response', resolve)
      call.once('error', reject)
      call.end(body)
    })
    if (response.statusCode === 200) return response
    let text = ''
    for await (const part of response) text += String(part)
    throw new ProxyBenchError({
      code: 'BENCH_PROXY',
      message: `${target.url} answered ${response.statusCode}: ${text.slice(0, 300)}`,
      details: { status: response.statusCode },
    })
  }
}

/** The value below which the part `q` of the values lie. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN
}
