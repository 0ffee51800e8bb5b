import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A JSON-RPC call as it passes through. */
export interface ProxiedCall {
  id: unknown
  method: string
  params: unknown[]
}

/** Stands between a node and its chain, and answers what a test wants it to. */
export interface ChainProxy {
  url: string
  /** Changes an answer's result; by default it stays. */
  answer: (call: ProxiedCall, result: unknown) => unknown
  /** A whole HTTP answer instead; undefined: none. */
  instead: ((call: ProxiedCall) => { status: number; body: string } | undefined) | undefined
  close(): Promise<void>
}

export async function startChainProxy(target: string): Promise<ChainProxy> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      void forward(Buffer.concat(chunks).toString()).then(({ status, body }) => {
        response.writeHead(status, { 'content-type': 'application/json' }).end(body)
      })
    })
  })

  async function forward(body: string): Promise<{ status: number; body: string }> {
    const given = JSON.parse(body) as ProxiedCall | ProxiedCall[]
    const calls = Array.isArray(given) ? given : [given]
    for (const call of calls) {
      const instead = proxy.instead?.(call)
      if (instead) return instead
    }
    const headers = { 'content-type': 'application/json' }
    const response = await fetch(target, { method: 'POST', headers, body })
    const answers = (await response.json()) as { result?: unknown } | { result?: unknown }[]
    const list = Array.isArray(answers) ? answers : [answers]
    for (const [i, answer] of list.entries()) {
      const call = calls[i]
      if (call && 'result' in answer) answer.result = proxy.answer(call, answer.result)
    }
    return { status: 200, body: JSON.stringify(answers) }
  }

  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo
  const proxy: ChainProxy = {
    url: `http://127.0.0.1:${port}`,
    answer: (_, result) => result,
    instead: undefined,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
  return proxy
}
