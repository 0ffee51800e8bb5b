import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'

/** What goes wrong with one request. */
export type Fault =
  /** The connection is closed before anything is forwarded. */
  | { type: 'refuse' }
  /** So many bytes of the request's body reach the node, then both sides are cut. */
  | { type: 'cut-request'; afterBytes: number }
  /** So many bytes of the answer reach the client, then it is cut. */
  | { type: 'cut-answer'; afterBytes: number }
  /** So many bytes of the answer reach the client, then nothing more, with the connection open. */
  | { type: 'stall'; afterBytes: number }
  /** The proxy answers itself. */
  | { type: 'answer'; status: number; body: string }
  /** One bit of the answer's body is flipped. */
  | { type: 'flip'; atByte: number }

export interface FaultProxy {
  readonly url: string
  /** Decides for each request; undefined forwards it unharmed. Replace it at any time. */
  fault: (request: { method: string; path: string; count: number }) => Fault | undefined
  /** Requests seen, by method and path without query. */
  readonly seen: Map<string, number>
  close(): Promise<void>
}

/** An HTTP proxy on loopback in front of one server, that spoils what it is told to spoil. */
export async function startFaultProxy(target: string): Promise<FaultProxy> {
  const agent = new http.Agent({ keepAlive: true })
  const seen = new Map<string, number>()
  let count = 0
  const server = http.createServer((request, answer) => {
    const path = request.url ?? '/'
    const key = `${request.method} ${path.split('?')[0]}`
    seen.set(key, (seen.get(key) ?? 0) + 1)
    count += 1
    const fault = proxy.fault({ method: request.method ?? '', path, count })
    if (fault?.type === 'refuse') {
      request.destroy()
      return
    }
    if (fault?.type === 'answer') {
      request.resume()
      answer.writeHead(fault.status, { 'content-type': 'text/plain' }).end(fault.body)
      return
    }
    const outgoing = http.request(new URL(path, target), { method: request.method, headers: request.headers, agent })
    outgoing.on('error', () => answer.destroy())
    outgoing.on('response', (incoming) => {
      answer.writeHead(incoming.statusCode ?? 502, incoming.headers)
      incoming.on('error', () => answer.destroy())
      if (fault === undefined || fault.type === 'cut-request') incoming.pipe(answer)
      else spoilAnswer({ incoming, answer, fault })
    })
    answer.on('close', () => outgoing.destroy())
    if (fault?.type === 'cut-request') {
      let forwarded = 0
      request.on('data', (piece: Buffer) => {
        forwarded += piece.length
        outgoing.write(piece)
        if (forwarded >= fault.afterBytes) {
          outgoing.destroy()
          request.destroy()
        }
      })
      request.on('end', () => outgoing.end())
    } else request.pipe(outgoing)
  })
  server.keepAliveTimeout = 60_000
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const proxy: FaultProxy = {
    url: `http://127.0.0.1:${port}`,
    fault: () => undefined,
    seen,
    close: async () => {
      server.closeAllConnections()
      agent.destroy()
      server.close()
      await once(server, 'close')
    },
  }
  return proxy
}

function spoilAnswer({
  incoming,
  answer,
  fault,
}: {
  incoming: http.IncomingMessage
  answer: http.ServerResponse
  fault: Exclude<Fault, { type: 'refuse' | 'cut-request' | 'answer' }>
}): void {
  let forwarded = 0
  incoming.on('data', (piece: Buffer) => {
    const before = forwarded
    forwarded += piece.length
    if (fault.type === 'flip') {
      if (fault.atByte >= before && fault.atByte < forwarded) {
        const spoiled = Buffer.from(piece)
        spoiled[fault.atByte - before] = (spoiled[fault.atByte - before] ?? 0) ^ 1
        answer.write(spoiled)
      } else answer.write(piece)
      return
    }
    const room = Math.max(0, fault.afterBytes - before)
    if (room > 0) answer.write(piece.subarray(0, room))
    if (forwarded < fault.afterBytes) return
    if (fault.type === 'cut-answer') {
      // Let what was written leave before the cut.
      setImmediate(() => answer.destroy())
    }
    incoming.pause()
  })
  incoming.on('end', () => {
    if (fault.type !== 'stall') answer.end()
  })
}
