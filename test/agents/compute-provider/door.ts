import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Door {
  shut: boolean
  url: string
  close(): Promise<void>
}

/** A JSON-RPC proxy that can be shut: then every call is cut off. */
export async function openDoor(target: string): Promise<Door> {
  const state: Door = { shut: false, url: '', close: async () => {} }
  const server: Server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      if (state.shut) {
        response.destroy()
        return
      }
      void fetch(target, {
        method: 'POST',
        body: Buffer.concat(parts),
        headers: { 'content-type': 'application/json' },
      })
        .then(async (answer) => response.end(await answer.text()))
        .catch(() => response.destroy())
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  state.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  state.close = () =>
    new Promise((resolve) => {
      server.closeAllConnections()
      server.close(() => resolve())
    })
  return state
}
