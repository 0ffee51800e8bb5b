import http from 'node:http'
import type { AddressInfo } from 'node:net'

/** How a signer behind a proxy misbehaves. */
export type Fault =
  | 'none'
  /** Takes connections and never answers. */
  | 'silent'
  /** Breaks every connection. */
  | 'refusing'
  /** Answers everything a second and a half late. */
  | 'slow'
  /** Hands out rows, combinations and sub-lines with a byte changed. */
  | 'lying'
  /** Signs, and gives somebody else's signature. */
  | 'equivocating'
  /** Cuts its answers in the middle. */
  | 'cutting'
  /** Says that it is busy three times out of four. */
  | 'busy'
  /** Answers everything with random bytes. */
  | 'babbling'

export const FAULTS: readonly Fault[] = [
  'silent',
  'refusing',
  'slow',
  'lying',
  'equivocating',
  'cutting',
  'busy',
  'babbling',
]

/** A point of BN254's G1 that is nobody's signature here: the generator, (1, 2). */
const GENERATOR = `0x${'1'.padStart(64, '0')}${'2'.padStart(64, '0')}`

export interface FaultProxy {
  readonly url: string
  target: string
  fault: Fault
  close(): Promise<void>
}

/** Stands in front of a signer and spoils what goes through it. */
export async function startFaultProxy(random: () => number): Promise<FaultProxy> {
  let requests = 0
  const server = http.createServer((request, response) => {
    requests += 1
    const { fault } = proxy
    request.on('error', () => {})
    response.on('error', () => {})
    if (fault === 'silent') return void request.resume()
    if (fault === 'refusing') return void request.socket.destroy()
    if (fault === 'babbling') {
      request.resume()
      return void response.end(Buffer.from(Array.from({ length: 300 }, () => Math.floor(random() * 256))))
    }
    if (fault === 'busy' && requests % 4 !== 0) {
      request.resume()
      response.writeHead(503, { 'content-type': 'application/json', 'retry-after': '0' })
      return void response.end(JSON.stringify({ code: 'SIGNER_BUSY', message: 'busy', details: {} }))
    }
    const delayMs = fault === 'slow' ? 1_500 : 0
    setTimeout(() => forward(request, response, fault), delayMs)
  })

  function forward(request: http.IncomingMessage, response: http.ServerResponse, fault: Fault): void {
    const url = new URL(request.url ?? '/', proxy.target)
    const onward = http.request(url, { method: request.method ?? 'GET', headers: request.headers }, (answer) => {
      const parts: Buffer[] = []
      answer.on('data', (part: Buffer) => parts.push(part))
      answer.on('error', () => response.destroy())
      answer.on('end', () => {
        const body = spoil(Buffer.concat(parts), url.pathname, fault)
        const { 'transfer-encoding': _, ...headers } = answer.headers
        response.writeHead(answer.statusCode ?? 500, { ...headers, 'content-length': String(body.length) })
        if (fault === 'cutting' && body.length > 40 && url.pathname !== '/v1/status') {
          response.write(body.subarray(0, body.length >> 1))
          setTimeout(() => response.destroy(), 20)
        } else response.end(body)
      })
    })
    onward.on('error', () => response.destroy())
    request.pipe(onward)
  }

  function spoil(body: Buffer, path: string, fault: Fault): Buffer {
    const binary = /\/(rows|rlc|subline)$/.test(path) && body[0] !== 0x7b
    if (fault === 'lying' && binary && body.length > 0) {
      const copy = Buffer.from(body)
      const at = Math.floor(random() * copy.length)
      copy[at] = (copy[at] ?? 0) ^ (1 << Math.floor(random() * 8))
      return copy
    }
    if (fault === 'equivocating') {
      return Buffer.from(body.toString('latin1').replace(/0x[0-9a-f]{128}/, GENERATOR), 'latin1')
    }
    return body
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const proxy: FaultProxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    target: 'http://127.0.0.1:9',
    fault: 'none',
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
  return proxy
}

/** Numbers from 0 to 1 that follow from a seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** The seed of this run: `DA_TEST_SEED`, else a new one. Print it. */
export function testSeed(): number {
  const given = Number(process.env.DA_TEST_SEED)
  return Number.isSafeInteger(given) && given > 0 ? given : Math.floor(Math.random() * 2 ** 31) + 1
}
