import { type JsonRpcParameters, registerJsonRpc } from '#kit/http/json-rpc.ts'
import { createHttpServer } from '#kit/http/server.ts'
import { silentLog } from '#kit/log.ts'

/** A JSON-RPC server on loopback for one test. */
export async function serveRpc(parameters: Omit<JsonRpcParameters, 'app' | 'log'>): Promise<RpcServer> {
  const log = silentLog()
  const server = await createHttpServer({ name: 'test', host: '127.0.0.1', port: 0, log, bodyLimitBytes: 1024 })
  registerJsonRpc({ app: server.app, log, ...parameters })
  const { url, port } = await server.listen()
  return {
    url,
    port,
    async post(body, headers = { 'content-type': 'application/json' }) {
      const response = await fetch(url, { method: 'POST', body, headers })
      return { status: response.status, text: await response.text() }
    },
    [Symbol.asyncDispose]: () => server.close(),
  }
}

export interface RpcServer extends AsyncDisposable {
  url: string
  port: number
  post(
    body: string | Uint8Array<ArrayBuffer>,
    headers?: Record<string, string>,
  ): Promise<{ status: number; text: string }>
}
