import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { z } from 'zod'
import { createDispatcher, rpcMethod } from '#kit/http/json-rpc.ts'
import { rpcBytes, rpcHash, rpcUint, rpcUint64 } from '#kit/http/rpc-method.ts'
import { silentLog } from '#kit/log.ts'
import { serveRpc } from './rpc-server.ts'

const methods = {
  hash: rpcMethod({ params: z.tuple([rpcHash(), z.boolean().nullish()]), names: ['root', 'flag'], handler: (p) => p }),
  uint: rpcMethod({ params: z.tuple([rpcUint(), rpcUint64()]), handler: (p) => p }),
  bytes: rpcMethod({ params: z.tuple([rpcBytes({ maxBytes: 1024 })]), handler: ([data]) => data.length }),
  any: rpcMethod({ params: z.array(z.unknown()), handler: (p) => p }),
}
const dispatch = createDispatcher({ methods, log: silentLog(), maxBatch: 50, responseLimitBytes: 1e6 })
const answer = (body: Uint8Array): Promise<string | undefined> => dispatch(body, new AbortController().signal)

/** A well-formed answer has version, id, and exactly one of result and error; an error has a code and a message. */
function assertWellFormed(text: string | undefined): void {
  if (text === undefined) return
  const parsed: unknown = JSON.parse(text)
  const members = Array.isArray(parsed) ? parsed : [parsed]
  assert.ok(members.length > 0)
  for (const member of members as Record<string, unknown>[]) {
    assert.equal(member.jsonrpc, '2.0')
    assert.ok('id' in member)
    assert.equal('result' in member, !('error' in member))
    if (!('error' in member)) continue
    const { code, message } = member.error as { code: unknown; message: unknown }
    assert.ok(Number.isInteger(code) && typeof message === 'string')
  }
}

const call = fc.record(
  {
    jsonrpc: fc.oneof({ weight: 9, arbitrary: fc.constant('2.0') }, fc.jsonValue()),
    id: fc.oneof(fc.integer(), fc.double(), fc.string(), fc.constant(null), fc.jsonValue()),
    method: fc.oneof(
      { weight: 9, arbitrary: fc.constantFrom(...Object.keys(methods), '__proto__', 'toString') },
      fc.jsonValue(),
    ),
    params: fc.oneof(
      fc.array(
        fc.oneof(fc.jsonValue(), fc.constantFrom('0x12', `0x${'A'.repeat(64)}`, 2 ** 60, -1, '18446744073709551616')),
      ),
      fc.jsonValue(),
    ),
  },
  { requiredKeys: [] },
)

describe('JSON-RPC under hostile input', () => {
  // Invariant: whatever bytes come, the answer is well formed or, for notifications alone, absent; nothing throws.
  it('answers random bytes, random JSON and random calls with a well-formed answer', async () => {
    const bytes = fc.uint8Array({ maxLength: 2_000 })
    const json = fc.json({ maxDepth: 20 }).map((text) => Buffer.from(text))
    const calls = fc.oneof(call, fc.array(call, { maxLength: 60 })).map((value) => Buffer.from(JSON.stringify(value)))
    const broken = fc.tuple(calls, fc.nat(), fc.uint8Array({ maxLength: 4 })).map(([body, at, insert]) => {
      const position = at % (body.length + 1)
      return Buffer.concat([body.subarray(0, position), insert, body.subarray(position)])
    })
    await fc.assert(
      fc.asyncProperty(fc.oneof(bytes, json, calls, broken), async (body) => assertWellFormed(await answer(body))),
      { numRuns: 2_000 },
    )
  })

  // Invariant: a JSON-RPC call that is well formed gets an answer with its own id.
  it('keeps ids apart in random batches', async () => {
    const ids = fc.uniqueArray(
      fc.oneof(
        fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }).map(String),
        fc.string().map((s) => JSON.stringify(s)),
      ),
      {
        minLength: 1,
        maxLength: 50,
      },
    )
    await fc.assert(
      fc.asyncProperty(ids, async (texts) => {
        const batch = `[${texts.map((id) => `{"jsonrpc":"2.0","id":${id},"method":"any"}`).join(',')}]`
        const expected = `[${texts.map((id) => `{"jsonrpc":"2.0","id":${id},"result":[]}`).join(',')}]`
        assert.equal(await answer(Buffer.from(batch)), expected)
      }),
      { numRuns: 200 },
    )
  })

  // Invariant: the memory a body costs is bounded, however it is made. Each of these 32 MiB bodies would need gigabytes
  // as JavaScript values.
  it('bounds memory on bodies made of brackets, batches and keys', async () => {
    const size = 2 ** 25
    const bodies = ['[', '{"a":', '[],', '{},', '[[', '"a",', '1,'].map((unit) => `[${unit.repeat(size / unit.length)}`)
    bodies.push(`{"jsonrpc":"2.0","id":1,"method":"any","params":[${'[],'.repeat(size / 3)}[]]}`)
    for (const body of bodies) {
      const before = process.memoryUsage().heapUsed
      assertWellFormed(await answer(Buffer.from(body)))
      const grown = process.memoryUsage().heapUsed - before
      assert.ok(grown < 400 * 2 ** 20, `${body.slice(0, 12)}… grew the heap by ${grown} bytes`)
    }
  })

  // Invariant: nonsense on the socket never stops the server, which answers the next caller.
  it('survives random bytes on the socket', async () => {
    await using server = await serveRpc({ methods })
    const head = 'POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n'
    const frames = fc.oneof(
      fc.uint8Array({ maxLength: 500 }).map((bytes) => Buffer.from(bytes)),
      fc.string().map((text) => Buffer.from(`${head}content-length: ${text.length}\r\n\r\n${text}`)),
      fc.nat().map((length) => Buffer.from(`${head}content-length: ${length}\r\n\r\n{`)),
      fc
        .constantFrom('1', '7', 'f')
        .map((digit) => Buffer.from(`${head}transfer-encoding: chunked\r\n\r\n${digit}fffff\r\n{`)),
    )
    await fc.assert(
      fc.asyncProperty(frames, async (bytes) => {
        await new Promise<void>((resolve) => {
          const socket = connect(server.port, '127.0.0.1', () => socket.end(bytes))
          socket.on('error', () => resolve())
          socket.on('close', () => resolve())
          socket.resume()
        })
      }),
      { numRuns: 200 },
    )
    assert.match((await server.post('{"jsonrpc":"2.0","id":1,"method":"any"}')).text, /"result":\[\]/)
  })
})
