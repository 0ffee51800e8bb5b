import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'

/** A node behind this knows of no file, though it says everything else as it is: one whose log sync hangs. */
export async function startStubbornNode(target: string): Promise<{ url: string; close(): Promise<void> }> {
  const server = http.createServer(async (request, answer) => {
    const parts: Buffer[] = []
    for await (const part of request as AsyncIterable<Buffer>) parts.push(part)
    const body = Buffer.concat(parts).toString('utf8')
    const call = JSON.parse(body)
    answer.setHeader('content-type', 'application/json')
    if (String(call.method).startsWith('zgs_getFileInfo')) {
      answer.end(JSON.stringify({ jsonrpc: '2.0', id: call.id, result: null }))
      return
    }
    const real = await fetch(target, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    answer.end(await real.text())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
