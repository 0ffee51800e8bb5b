import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, it } from 'node:test'
import { z } from 'zod'
import { RpcError, rpcMethod } from '#kit/http/json-rpc.ts'
import { createJsonRpcClient, RpcResponseError, RpcTransportError } from '#kit/http/json-rpc-client.ts'
import { serveRpc } from './rpc-server.ts'

/** A raw server whose answers the test writes itself. */
async function serve(answer: (request: IncomingMessage, response: ServerResponse, count: number) => void) {
  let count = 0
  const sockets = new Set<unknown>()
  const server = createServer((request, response) => {
    sockets.add(request.socket)
    request.resume()
    request.on('end', () => answer(request, response, ++count))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    count: () => count,
    connections: () => sockets.size,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

async function failureOf(promise: Promise<unknown>): Promise<RpcTransportError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof RpcTransportError, String(error))
  return error
}

const quick = { retryPauseMs: 1 }

describe('JSON-RPC client', () => {
  it('calls, and keeps big integers exact both ways', async () => {
    await using server = await serveRpc({
      methods: { echo: rpcMethod({ params: z.array(z.unknown()), handler: (params) => params }) },
    })
    const client = createJsonRpcClient({ url: server.url })
    assert.deepEqual(await client.call('echo', [2n ** 64n - 1n, 'text', null]), [2n ** 64n - 1n, 'text', null])
    assert.deepEqual(
      await Promise.all(Array.from({ length: 20 }, (_, i) => client.call('echo', [i]))),
      Array.from({ length: 20 }, (_, i) => [i]),
    )
    client.close()
  })

  it('throws what the server answered, and never repeats the call for it', async () => {
    let calls = 0
    const upload = rpcMethod({
      handler: () => {
        calls += 1
        throw new RpcError({ rpcCode: -32001, message: 'busy', data: 'try node 2' })
      },
    })
    await using server = await serveRpc({ methods: { upload } })
    const client = createJsonRpcClient({ url: server.url, ...quick })
    await assert.rejects(client.call('upload'), (error) => {
      assert.ok(error instanceof RpcResponseError)
      assert.deepEqual([error.rpcCode, error.rpcMessage, error.data], [-32001, 'busy', 'try node 2'])
      assert.match(error.message, /upload at http:.* answered -32001 busy: try node 2/)
      return true
    })
    assert.equal(calls, 1)
  })

  // Invariant: a failure that may pass is tried again, at most `retries` times; one that will not is reported at once.
  it('retries what may pass and nothing else', async () => {
    for (const [status, tries] of [
      [503, 3],
      [502, 3],
      [429, 3],
      [500, 1],
      [404, 1],
      [301, 3],
    ] as const) {
      await using server = await serve((_, response) => response.writeHead(status, { location: '/' }).end('no'))
      const error = await failureOf(createJsonRpcClient({ url: server.url, retries: 2, ...quick }).call('x'))
      assert.equal(server.count(), tries, String(status))
      assert.equal(error.code, status === 301 ? 'RPC_CONNECTION' : 'RPC_HTTP_STATUS')
    }
    await using server = await serve((_, response, count) => {
      if (count < 3) response.writeHead(503).end()
      else response.end('{"jsonrpc":"2.0","id":1,"result":"there"}')
    })
    assert.equal(await createJsonRpcClient({ url: server.url, ...quick }).call('x'), 'there')
  })

  it('keeps the cause when nobody answers', async () => {
    const gone = await serve(() => {})
    await gone[Symbol.asyncDispose]()
    const error = await failureOf(createJsonRpcClient({ url: gone.url, retries: 1, ...quick }).call('x'))
    assert.equal(error.code, 'RPC_CONNECTION')
    assert.match(error.message, /ECONNREFUSED/)
    assert.ok(error.cause instanceof Error)
  })

  it('gives up waiting, for the head and for the rest of an answer', async () => {
    await using silent = await serve(() => {})
    await using stalling = await serve((_, response) => response.write('{"jsonrpc"'))
    for (const { url } of [silent, stalling]) {
      const error = await failureOf(createJsonRpcClient({ url, timeoutMs: 50, retries: 0 }).call('x'))
      assert.equal(error.code, 'RPC_TIMEOUT')
    }
  })

  it('refuses answers that are too large, not JSON-RPC, or for another call', async () => {
    const cases: [string, string][] = [
      [`{"jsonrpc":"2.0","id":1,"result":"${'x'.repeat(2_000)}"}`, 'RPC_ANSWER_SIZE'],
      ['<html>hello</html>', 'RPC_ANSWER'],
      ['', 'RPC_ANSWER'],
      ['null', 'RPC_ANSWER'],
      ['[]', 'RPC_ANSWER'],
      ['{"jsonrpc":"2.0","id":2,"result":1}', 'RPC_ANSWER'],
      ['{"jsonrpc":"2.0","id":1}', 'RPC_ANSWER'],
      ['{"jsonrpc":"2.0","id":1,"error":"text"}', 'RPC_ANSWER'],
      ['{"jsonrpc":"2.0","id":1,"error":{"code":"x"}}', 'RPC_ANSWER'],
      ['['.repeat(999), 'RPC_ANSWER'],
    ]
    for (const [body, code] of cases) {
      await using server = await serve((_, response) => response.end(body))
      const client = createJsonRpcClient({ url: server.url, maxResponseBytes: 1_000, ...quick })
      assert.equal((await failureOf(client.call('x'))).code, code, body.slice(0, 60))
      assert.equal(server.count(), 1)
    }
  })

  it('reads a JSON-RPC error under a 4xx status', async () => {
    await using server = await serve((_, response) => {
      response.writeHead(400).end('{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no"}}')
    })
    await assert.rejects(createJsonRpcClient({ url: server.url }).call('x'), RpcResponseError)
  })

  it('stops at an abort and at its close, also between tries', async () => {
    await using silent = await serve(() => {})
    await using busy = await serve((_, response) => response.writeHead(503, { 'retry-after': '5' }).end())
    for (const { url, count } of [silent, busy]) {
      const client = createJsonRpcClient({ url, retries: 5 })
      const abort = new AbortController()
      const aborted = failureOf(client.call('x', [], { signal: abort.signal }))
      const closed = failureOf(client.call('x'))
      while (count() < 2) await new Promise((resolve) => setImmediate(resolve))
      abort.abort()
      assert.equal((await aborted).code, 'RPC_ABORTED')
      client.close()
      assert.equal((await closed).code, 'RPC_CLOSED')
      assert.equal((await failureOf(client.call('x'))).code, 'RPC_CLOSED')
    }
  })

  it('keeps connections alive between calls', async () => {
    await using server = await serve((_, response, count) => response.end(`{"jsonrpc":"2.0","id":${count},"result":0}`))
    const client = createJsonRpcClient({ url: server.url })
    for (let i = 0; i < 10; i++) await client.call('x')
    assert.ok(server.connections() <= 2, `${server.connections()} connections for 10 calls`)
  })

  it('never shows the credentials of its address', async () => {
    assert.throws(
      () => createJsonRpcClient({ url: 'ftp://user:hunter2@host' }),
      (error) => {
        assert.ok(error instanceof RpcTransportError)
        assert.equal(error.code, 'RPC_URL')
        return !error.message.includes('hunter2')
      },
    )
    const gone = await serve(() => {})
    await gone[Symbol.asyncDispose]()
    const error = await failureOf(createJsonRpcClient({ url: `${gone.url}/?apikey=hunter2`, retries: 0 }).call('x'))
    assert.doesNotMatch(JSON.stringify([error.message, error.details]), /hunter2/)
  })
})
