import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Random } from './random.ts'

/** What a proxy may do to a call, each with its own probability in `faults`. */
export type Fault =
  | 'drop-connection'
  | 'status-429'
  | 'status-500'
  | 'garbage'
  | 'truncate'
  | 'wrong-shape'
  | 'null-result'
  | 'delay'
  | 'duplicate-logs'
  | 'shuffle-logs'
  | 'foreign-log'
  | 'log-outside-range'
  | 'hide-logs'
  | 'wrong-block'

export const ALL_FAULTS: readonly Fault[] = [
  'drop-connection',
  'status-429',
  'status-500',
  'garbage',
  'truncate',
  'wrong-shape',
  'null-result',
  'delay',
  'duplicate-logs',
  'shuffle-logs',
  'foreign-log',
  'log-outside-range',
  'hide-logs',
  'wrong-block',
]

export interface FaultyProxy {
  readonly url: string
  readonly host: string
  /** Probability per call that something goes wrong. May be changed at any time. */
  faultRate: number
  faults: readonly Fault[]
  /** Pretends that the chain ends so many blocks earlier, as a lagging endpoint does: later logs are "empty". */
  lagBlocks: number
  /** Refuses longer ranges in eth_getLogs. */
  maxRangeBlocks: number
  /** Answers nothing but 503. */
  down: boolean
  /** Sees each call; may answer it instead of the chain. */
  intercept: ((call: RpcCall) => unknown) | undefined
  /** Calls seen, by method. */
  readonly calls: Map<string, number>
  stop(): Promise<void>
}

interface RpcCall {
  id: number
  method: string
  params: unknown[]
}

/** A JSON-RPC proxy on loopback in front of `target` whose faults come from `random`. */
export async function startFaultyProxy({ target, random }: { target: string; random: Random }): Promise<FaultyProxy> {
  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const proxy: FaultyProxy = {
    url: `http://127.0.0.1:${port}`,
    host: `127.0.0.1:${port}`,
    faultRate: 0,
    faults: ALL_FAULTS,
    lagBlocks: 0,
    maxRangeBlocks: Number.POSITIVE_INFINITY,
    down: false,
    intercept: undefined,
    calls: new Map(),
    stop: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }

  async function forward(method: string, params: unknown[]): Promise<unknown> {
    const answer = await fetch(target, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    })
    return answer.json()
  }

  async function visibleHead(): Promise<number> {
    const { result } = (await forward('eth_blockNumber', [])) as { result: string }
    return Math.max(0, Number(result) - proxy.lagBlocks)
  }

  /** The answer of an endpoint that is so many blocks behind. */
  async function lagging(call: RpcCall): Promise<unknown> {
    const head = await visibleHead()
    if (call.method === 'eth_blockNumber') return { result: hex(head) }
    if (call.method === 'eth_getBlockByNumber') {
      const wanted = call.params[0] === 'latest' ? head : Number(call.params[0])
      return wanted > head ? { result: null } : forward(call.method, [hex(wanted), call.params[1]])
    }
    if (call.method === 'eth_getLogs') {
      const answer = (await forward(call.method, call.params)) as { result?: { blockNumber: string }[] }
      return { ...answer, result: answer.result?.filter((log) => Number(log.blockNumber) <= head) }
    }
    if (call.method === 'eth_getBlockReceipts') {
      const answer = (await forward(call.method, call.params)) as { result?: { blockNumber: string }[] }
      return Number(answer.result?.[0]?.blockNumber ?? 0) > head ? { result: null } : answer
    }
    return forward(call.method, call.params)
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const call = JSON.parse(Buffer.concat(chunks).toString('utf8')) as RpcCall
    proxy.calls.set(call.method, (proxy.calls.get(call.method) ?? 0) + 1)
    if (proxy.down) return end(response, 503, 'service unavailable')
    const intercepted = proxy.intercept?.(call)
    if (intercepted !== undefined) return end(response, 200, JSON.stringify({ id: call.id, ...Object(intercepted) }))
    const fault = random.chance(proxy.faultRate) ? random.pick(proxy.faults) : undefined
    if (fault === 'drop-connection') return void response.destroy()
    if (fault === 'status-429') return end(response, 429, 'slow down', { 'retry-after': '0' })
    if (fault === 'status-500') return end(response, 500, '<html>internal error</html>')
    if (fault === 'garbage') return end(response, 200, '<html>maintenance</html>')
    if (fault === 'wrong-shape') return end(response, 200, JSON.stringify({ id: call.id, result: { nonsense: true } }))
    if (fault === 'null-result') return end(response, 200, JSON.stringify({ id: call.id, result: null }))
    if (fault === 'delay') await delay(random.below(40))
    if (call.method === 'eth_getLogs' && tooLong(call.params[0], proxy.maxRangeBlocks)) {
      const error = { code: -32005, message: `query exceeds max block range ${proxy.maxRangeBlocks}` }
      return end(response, 200, JSON.stringify({ id: call.id, error }))
    }
    const answer = (proxy.lagBlocks > 0 ? await lagging(call) : await forward(call.method, call.params)) as object
    const twisted = twist({ call, answer, fault, random })
    const text = JSON.stringify({ ...twisted, jsonrpc: '2.0', id: call.id })
    end(response, 200, fault === 'truncate' ? text.slice(0, random.below(text.length)) : text)
  }

  return proxy
}

function twist({
  call,
  answer,
  fault,
  random,
}: {
  call: RpcCall
  answer: object
  fault: Fault | undefined
  random: Random
}) {
  const result = 'result' in answer ? answer.result : undefined
  if (call.method === 'eth_getLogs' && Array.isArray(result) && result.length > 0) {
    const log = random.pick(result as Record<string, unknown>[])
    if (fault === 'duplicate-logs') return { result: [...result, log, result[0]] }
    if (fault === 'shuffle-logs') return { result: [...result].reverse() }
    if (fault === 'foreign-log') return { result: [...result, { ...log, address: `0x${'13'.repeat(20)}` }] }
    if (fault === 'log-outside-range') {
      return { result: [...result, { ...log, blockNumber: hex(Number(log.blockNumber) + 10_000) }] }
    }
    // Whole blocks only: a part of a block's logs can be missed by nobody but the sink.
    if (fault === 'hide-logs') {
      return { result: result.filter((entry) => entry.blockNumber !== log.blockNumber) }
    }
  }
  if (fault === 'wrong-block' && call.method === 'eth_getBlockByNumber' && typeof result === 'object') {
    const hash = `0x${Array.from({ length: 64 }, () => random.below(16).toString(16)).join('')}`
    return { result: { ...result, ...(random.chance(0.5) ? { hash } : { number: hex(random.below(1000)) }) } }
  }
  return answer
}

function tooLong(filter: unknown, maxBlocks: number): boolean {
  if (typeof filter !== 'object' || filter === null || !('fromBlock' in filter) || !('toBlock' in filter)) return false
  return Number(filter.toBlock) - Number(filter.fromBlock) + 1 > maxBlocks
}

function hex(value: number): string {
  return `0x${value.toString(16)}`
}

function end(response: ServerResponse, status: number, body: string, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body)
}
