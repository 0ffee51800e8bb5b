import assert from 'node:assert/strict'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { describe, it } from 'node:test'
import { z } from 'zod'
import { RpcError, rpcMethod } from '#kit/http/json-rpc.ts'
import { rpcBytes, rpcHash, rpcUint, rpcUint64 } from '#kit/http/rpc-method.ts'
import { createMetrics } from '#kit/metrics.ts'
import { WeightlessError } from '#protocol/error.ts'
import { serveRpc } from './rpc-server.ts'

const methods = {
  echo: rpcMethod({ params: z.array(z.unknown()), handler: (params) => params }),
  nothing: rpcMethod({ handler: () => undefined }),
  none: rpcMethod({ handler: () => null }),
  zgs_getFileInfo: rpcMethod({
    params: z.tuple([rpcHash(), z.boolean().nullish()]),
    names: ['root', 'needAvailable'],
    handler: ([root, needAvailable]) => ({ root, needAvailable: needAvailable ?? true }),
  }),
  numbers: rpcMethod({
    params: z.tuple([rpcUint({ max: 100 }), rpcUint64()]),
    names: ['small', 'large'],
    handler: ([small, large]) => [small, large],
  }),
  bytes: rpcMethod({
    params: z.tuple([rpcBytes({ maxBytes: 4 })]),
    names: ['data'],
    handler: ([data]) => data.length,
  }),
  nested: rpcMethod({
    params: z.tuple([z.array(z.object({ root: rpcHash() }))]),
    names: ['segments'],
    handler: () => 0,
  }),
  uploaded: rpcMethod({
    handler: () => {
      throw RpcError.invalidParams('root', 'already uploaded and finalized')
    },
  }),
  typed: rpcMethod({
    handler: () => {
      throw new WeightlessError({ code: 'DISK_FULL', message: 'the disk is full' })
    },
  }),
  leaky: rpcMethod({
    handler: () => {
      throw new Error('password=hunter2')
    },
  }),
  cyclic: rpcMethod({
    handler: () => {
      const loop: { self?: unknown } = {}
      loop.self = loop
      return loop
    },
  }),
  large: rpcMethod({ handler: () => 'x'.repeat(5_000) }),
  slow: rpcMethod({
    handler: (_, { signal }) => new Promise((resolve) => signal.addEventListener('abort', () => resolve('late'))),
  }),
}

const call = (method: string, params: unknown = [], id: unknown = 1): string =>
  JSON.stringify({ jsonrpc: '2.0', id, method, params })

describe('JSON-RPC server', () => {
  // Invariant: the id of an answer is the id of the call, character for character.
  it('echoes every kind of id digit for digit', async () => {
    await using server = await serveRpc({ methods })
    for (const id of ['1', '17600000000000001', '1.50', '-0', '1e2', '"a\\"b"', 'null', '18446744073709551615', '""']) {
      const { status, text } = await server.post(`{"jsonrpc":"2.0","id":${id},"method":"none"}`)
      assert.equal(status, 200)
      assert.equal(text, `{"jsonrpc":"2.0","id":${id},"result":null}`)
    }
  })

  it('answers an explicit null for null and for nothing', async () => {
    await using server = await serveRpc({ methods })
    for (const method of ['none', 'nothing']) {
      assert.equal((await server.post(call(method))).text, '{"jsonrpc":"2.0","id":1,"result":null}')
    }
  })

  it('takes absent and null params as none', async () => {
    await using server = await serveRpc({ methods })
    assert.equal(
      (await server.post('{"jsonrpc":"2.0","id":1,"method":"echo"}')).text,
      '{"jsonrpc":"2.0","id":1,"result":[]}',
    )
    assert.match((await server.post(call('echo', null))).text, /"result":\[\]/)
  })

  it('hands 64-bit numbers to handlers exactly and writes them back exactly', async () => {
    await using server = await serveRpc({ methods })
    const sent = '{"jsonrpc":"2.0","id":1,"method":"numbers","params":[7,18446744073709551615]}'
    assert.equal((await server.post(sent)).text, '{"jsonrpc":"2.0","id":1,"result":[7,18446744073709551615]}')
    assert.match((await server.post(call('numbers', ['8', '0x10']))).text, /"result":\[8,16\]/)
  })

  // Every error of the protocol: HTTP 200, its code, and a text that says what to do.
  it('answers each error with HTTP 200 and its code', async () => {
    await using server = await serveRpc({ methods, maxBatch: 3, bodyLimitBytes: 4_096 })
    const cases: [string, string, number, RegExp][] = [
      ['not JSON', '{"jsonrpc"', -32700, /Parse error/],
      ['an empty body', ' ', -32700, /Parse error/],
      ['too deep', '['.repeat(100), -32701, /nested deeper than 64/],
      ['too large', 'x'.repeat(4_097), -32701, /the limit is 4096 bytes/],
      ['no object', '5', -32600, /a call is an object/],
      ['no version', '{"id":1,"method":"none"}', -32600, /\\"jsonrpc\\" must be/],
      ['method no text', '{"jsonrpc":"2.0","id":1,"method":5}', -32600, /\\"method\\" must be text/],
      ['no method', '{"jsonrpc":"2.0","id":1}', -32600, /\\"method\\" must be text/],
      ['id an object', '{"jsonrpc":"2.0","id":{},"method":"none"}', -32600, /the id must be/],
      ['id too long', `{"jsonrpc":"2.0","id":"${'i'.repeat(2_000)}","method":"none"}`, -32600, /longer than 1024/],
      ['params text', '{"jsonrpc":"2.0","id":1,"method":"echo","params":"x"}', -32600, /params must be an array/],
      ['empty batch', '[]', -32600, /the batch is empty/],
      ['batch too long', '[1,1,1,1]', -32600, /the batch has 4 calls, the limit is 3/],
      ['unknown method', call('zgs_nope'), -32601, /Method not found/],
      ['inherited name', call('constructor'), -32601, /Method not found/],
      ['hidden name', call('__proto__'), -32601, /Method not found/],
      ['missing parameter', call('zgs_getFileInfo', []), -32602, /Invalid params: root/],
      ['short hash', call('zgs_getFileInfo', ['0x12']), -32602, /64 hex digits/],
      [
        'wrong second',
        call('zgs_getFileInfo', [`0x${'a'.repeat(64)}`, 'yes']),
        -32602,
        /Invalid params: needAvailable/,
      ],
      [
        'inner field',
        call('nested', [[{ root: `0x${'a'.repeat(64)}` }, { root: 5 }]]),
        -32602,
        /Invalid params: segments\[1\]\.root/,
      ],
      ['over the limit', call('numbers', [101, 1]), -32602, /from 0 to 100/],
      ['a fraction', call('numbers', [1.5, 1]), -32602, /Invalid params: small/],
      [
        'an unsafe float',
        '{"jsonrpc":"2.0","id":1,"method":"numbers","params":[1e300,1]}',
        -32602,
        /Invalid params: small/,
      ],
      ['negative', call('numbers', [-1, 1]), -32602, /Invalid params: small/],
      [
        'over 64 bits',
        '{"jsonrpc":"2.0","id":1,"method":"numbers","params":[1,18446744073709551616]}',
        -32602,
        /Invalid params: large/,
      ],
      ['bad base64', call('bytes', ['!!!!']), -32602, /base64/],
      ['unpadded base64', call('bytes', ['AAA']), -32602, /base64/],
      ['long base64', call('bytes', ['AAAAAAAA']), -32602, /Invalid params: data/],
      ['unknown name', call('zgs_getFileInfo', { rot: 1 }), -32602, /Invalid params: rot.*known are root/],
      ['typed error inside', call('typed'), -32603, /the disk is full/],
      ['untyped error inside', call('leaky'), -32603, /its log has the reason/],
      ['no JSON result', call('cyclic'), -32603, /Internal error/],
    ]
    for (const [what, body, code, text] of cases) {
      const answer = await server.post(body)
      assert.equal(answer.status, 200, what)
      const parsed = JSON.parse(answer.text) as { jsonrpc: string; error: { code: number; message: string } }
      assert.equal(parsed.jsonrpc, '2.0', what)
      assert.equal(parsed.error.code, code, `${what}: ${answer.text}`)
      assert.match(answer.text, text, what)
      assert.doesNotMatch(answer.text, /hunter2/, what)
    }
  })

  it('sends an error exactly as its thrower worded it', async () => {
    await using server = await serveRpc({ methods })
    assert.equal(
      (await server.post(call('uploaded', [], 3))).text,
      '{"jsonrpc":"2.0","id":3,"error":{"code":-32602,"message":"Invalid params: root","data":"already uploaded and finalized"}}',
    )
  })

  it('accepts hex of any case, missing optional, surplus and named parameters', async () => {
    await using server = await serveRpc({ methods })
    const root = 'aB'.repeat(32)
    const expected = { root: `0x${root.toLowerCase()}`, needAvailable: true }
    for (const params of [[`0x${root}`], [root, null], [`0x${root}`, true, 'surplus'], { root }]) {
      const { text } = await server.post(call('zgs_getFileInfo', params))
      assert.deepEqual((JSON.parse(text) as { result: unknown }).result, expected)
    }
    assert.match((await server.post(call('bytes', ['AAAA']))).text, /"result":3/)
    assert.match((await server.post(call('bytes', ['']))).text, /"result":0/)
  })

  // Invariant: a batch has one answer per call that has an id, in the order of the calls; a bad member spoils only itself.
  it('answers batches in order, leaving out notifications', async () => {
    await using server = await serveRpc({ methods })
    const batch = `[${call('echo', [1], 'a')},{"jsonrpc":"2.0","method":"none"},7,${call('nope', [], 'b')},${call('none', [], 9)}]`
    const answers = JSON.parse((await server.post(batch)).text) as { id: unknown; error?: { code: number } }[]
    assert.deepEqual(
      answers.map(({ id, error }) => [id, error?.code]),
      [
        ['a', undefined],
        [null, -32600],
        ['b', -32601],
        [9, undefined],
      ],
    )
    assert.deepEqual(await server.post('{"jsonrpc":"2.0","method":"none"}'), { status: 204, text: '' })
    assert.deepEqual(await server.post('[{"jsonrpc":"2.0","method":"nope"}]'), { status: 204, text: '' })
  })

  it('bounds answers, a batch taken together', async () => {
    await using server = await serveRpc({ methods, responseLimitBytes: 12_000 })
    assert.match((await server.post(call('large'))).text, /"result":"xxx/)
    const batch = `[${Array.from({ length: 4 }, (_, i) => call('large', [], i)).join(',')}]`
    const answers = JSON.parse((await server.post(batch)).text) as { error?: { code: number } }[]
    assert.deepEqual(answers.filter(({ error }) => error?.code === -32702).length, 2)
  })

  it('ends a call that takes too long and tells its handler', async () => {
    await using server = await serveRpc({ methods, callTimeoutMs: 30 })
    assert.match((await server.post(call('slow'))).text, /-32603.*no answer within 30 ms/)
  })

  it('tells a handler when its caller has gone', async () => {
    const aborted = Promise.withResolvers<void>()
    const called = Promise.withResolvers<void>()
    const wait = rpcMethod({
      handler: (_, { signal }) =>
        new Promise((resolve) => {
          called.resolve()
          signal.addEventListener('abort', () => {
            aborted.resolve()
            resolve(null)
          })
        }),
    })
    await using server = await serveRpc({ methods: { wait } })
    const caller = new AbortController()
    const asked = fetch(server.url, {
      method: 'POST',
      body: call('wait'),
      headers: { 'content-type': 'application/json' },
      signal: caller.signal,
    }).catch(() => 'gone')
    await called.promise
    caller.abort()
    assert.equal(await asked, 'gone')
    await aborted.promise
  })

  it('takes JSON alone, so that a page cannot call without asking first', async () => {
    await using server = await serveRpc({ methods })
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/json-patch', 'nonsense']) {
      const { status, text } = await server.post(call('none'), { 'content-type': type })
      assert.equal(status, 200)
      assert.match(text, /-32600.*(Content-Type|Content Type|content type|media type)/i, type)
    }
    for (const type of [
      'application/json',
      'application/json; charset=utf-8',
      'Application/JSON',
      'application/vnd.api+json',
    ]) {
      assert.match((await server.post(call('none'), { 'content-type': type })).text, /"result":null/, type)
    }
  })

  it('says where a method is served when it is not here', async () => {
    await using server = await serveRpc({ methods, fallbackHelp: (name) => (name === 'old' ? 'use new' : undefined) })
    assert.match(
      (await server.post(call('kv_getValue'))).text,
      /kv_\* is served by a KV node, which is not a storage node/,
    )
    assert.match((await server.post(call('zgs_getfileinfo'))).text, /did you mean zgs_getFileInfo\?/)
    assert.match((await server.post(call('old'))).text, /use new/)
    assert.match((await server.post(call('x'.repeat(1e6)))).text, /-32601/)
  })

  // Invariant: the bodies held at once stay below the limit; the caller over it is told to wait, and can come back.
  it('refuses bodies beyond the memory set aside for them', async () => {
    const release = Promise.withResolvers<void>()
    const called = Promise.withResolvers<void>()
    const hold = rpcMethod({
      handler: async () => {
        called.resolve()
        await release.promise
      },
    })
    await using server = await serveRpc({
      methods: { ...methods, hold },
      bodyLimitBytes: 3_000,
      inFlightLimitBytes: 3_000,
    })
    const first = server.post(call('hold', ['x'.repeat(2_500)]))
    await called.promise
    const second = await server.post(call('echo', ['x'.repeat(2_500)]))
    assert.equal(second.status, 503)
    assert.match(second.text, /-32005/)
    release.resolve()
    assert.match((await first).text, /"result":null/)
    assert.match((await server.post(call('echo', ['x'.repeat(2_500)]))).text, /"result":/)
  })

  it('gives back the memory of callers that go away in the middle of a body', async () => {
    await using server = await serveRpc({ methods, bodyLimitBytes: 3_000, inFlightLimitBytes: 3_000 })
    for (let i = 0; i < 5; i++) {
      const socket = connect(server.port, '127.0.0.1')
      const head = 'POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2900\r\n\r\n'
      await new Promise((resolve) => socket.write(`${head}{"json`, resolve))
      const closed = new Promise((resolve) => socket.once('close', resolve))
      socket.destroy()
      await closed
    }
    const deadline = performance.now() + 5_000
    let text = ''
    while (!text.includes('"result"') && performance.now() < deadline) {
      text = (await server.post(call('echo', ['x'.repeat(2_500)]))).text
    }
    assert.match(text, /"result":\["xxx/)
  })

  it('counts calls by method and code, with one name for all unknown methods', async () => {
    const metrics = createMetrics('test', { processMetrics: false })
    await using server = await serveRpc({ methods, metrics })
    await server.post(call('none'))
    await server.post(call('numbers', []))
    await server.post(call('made_up_1'))
    await server.post(call('made_up_2'))
    const { body } = await metrics.expose()
    assert.match(body, /test_rpc_requests_total\{method="none",code="0"\} 1/)
    assert.match(body, /test_rpc_requests_total\{method="numbers",code="-32602"\} 1/)
    assert.match(body, /test_rpc_requests_total\{method="unknown",code="-32601"\} 2/)
    assert.match(body, /test_rpc_request_seconds_count\{method="none"\} 1/)
    assert.doesNotMatch(body, /made_up/)
  })

  it('answers an oversized body sent in chunks, and an upload that declares too much', async () => {
    await using server = await serveRpc({ methods, bodyLimitBytes: 10_000 })
    for (const headers of [{ 'transfer-encoding': 'chunked' }, { 'content-length': '200000' }]) {
      const answer = await new Promise<string>((resolve, reject) => {
        const request = httpRequest(server.url, {
          method: 'POST',
          headers: { 'content-type': 'application/json', ...headers },
        })
        request.on('response', (response) => {
          let text = ''
          response.setEncoding('utf8')
          response.on('data', (chunk: string) => {
            text += chunk
          })
          response.on('end', () => resolve(`${response.statusCode} ${text}`))
        })
        request.on('error', reject)
        for (let i = 0; i < 20; i++) request.write('x'.repeat(10_000))
        request.end()
      })
      assert.match(answer, /^200 .*-32701/)
    }
  })
  it('takes a body of 100 MiB and not a byte more', async () => {
    await using server = await serveRpc({
      methods: { length: rpcMethod({ params: z.array(z.string()), handler: ([text]) => text?.length }) },
    })
    const body = Buffer.alloc(100 * 2 ** 20 + 1, 0x78)
    body.write('{"jsonrpc":"2.0","id":1,"method":"length","params":["')
    body.write('"]}', body.length - 4)
    const { text } = await server.post(body.subarray(0, body.length - 1))
    assert.equal(text, `{"jsonrpc":"2.0","id":1,"result":${body.length - 1 - 53 - 3}}`)
    body.fill(0x20, body.length - 1)
    assert.match((await server.post(body)).text, /-32701/)
  })
})
