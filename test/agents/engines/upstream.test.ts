import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { EngineError } from '#compute/engines/engine-error.ts'
import { MAX_EVENT_BYTES, readSse } from '#compute/engines/sse.ts'
import { createUpstreamEngine, type UpstreamEngineParameters } from '#compute/engines/upstream-engine.ts'
import { ask } from './fixture.ts'

let server: Server
let url: string
let behave: (response: ServerResponse, body: Record<string, unknown>, request: IncomingMessage) => void
let closed = 0

before(async () => {
  server = createServer((request, response) => {
    let text = ''
    response.on('close', () => {
      closed += 1
    })
    request.on('data', (piece) => {
      text += String(piece)
    })
    request.on('end', () => behave(response, JSON.parse(text === '' ? '{}' : text), request))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`
})
after(() => {
  server.closeAllConnections()
  server.close()
})

const open = (parameters: Partial<UpstreamEngineParameters> = {}) =>
  createUpstreamEngine({ url, headTimeoutMs: 2_000, idleTimeoutMs: 300, ...parameters })
const stream = (response: ServerResponse) => response.writeHead(200, { 'content-type': 'text/event-stream' })
const event = (value: unknown) => `data: ${JSON.stringify(value)}\n\n`
const hello = { choices: [{ index: 0, delta: { content: 'hello' }, finish_reason: null }] }
const stop = { choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] }
const usage = { choices: [], usage: { prompt_tokens: 3, completion_tokens: 2 } }

describe('an upstream that behaves', () => {
  // The request reaches it as it came, unknown fields included, streamed and with usage; the model's name is its own.
  it('gets the request as it came', async () => {
    const bodies: Record<string, unknown>[] = []
    behave = (response, body, request) => {
      bodies.push({ ...body, key: request.headers.authorization })
      stream(response).end(`${event(hello)}${event(stop)}${event(usage)}data: [DONE]\n\n`)
    }
    const engine = open({ model: 'its-own', apiKey: 'secret' })
    const extra = {
      top_k: 7,
      model: 'ours',
      stream: false,
      seed: 5,
      stream_options: { continuous: 1 },
      sampling_profile: 'none',
    }
    const { text, end } = await ask(engine, 'hi', extra)
    assert.equal(text, 'hello')
    assert.deepEqual(end.usage, { promptTokens: 3, completionTokens: 2, cachedTokens: 0 })
    assert.equal(end.profile, 'none')
    assert.equal(end.outputTokenIds, undefined)
    const [body] = bodies
    assert.deepEqual([body?.top_k, body?.model, body?.stream, body?.seed], [7, 'its-own', true, 5])
    assert.deepEqual(body?.stream_options, { continuous: 1, include_usage: true })
    assert.equal(body?.key, 'Bearer secret')
    assert.equal(body?.sampling_profile, undefined)
  })

  // A connection of its own for each request would cost the first token a round trip: requests one after the other share
  // connections, also where the stream goes on for a moment after its end was said.
  it('is asked again and again over the same connections', async () => {
    const sockets = new Set<unknown>()
    behave = (response, _, request) => {
      sockets.add(request.socket)
      stream(response).write(`${event(hello)}${event(stop)}${event(usage)}data: [DONE]\n\n`, () => response.end('\n'))
    }
    const engine = open()
    for (let turn = 0; turn < 10; turn += 1) assert.equal((await ask(engine, 'hi')).text, 'hello')
    // Two, where the next request begins before the last bytes are read.
    assert.ok(sockets.size <= 2, `${sockets.size} connections`)
    await engine.close()
  })

  // A connection that the upstream closes as it is used again costs nobody an answer.
  it('may close a connection that was kept', async () => {
    const seen = new Map<unknown, number>()
    let cut = 0
    behave = (response, _, request) => {
      const requests = (seen.get(request.socket) ?? 0) + 1
      seen.set(request.socket, requests)
      if (requests > 1) {
        cut += 1
        request.socket.resetAndDestroy()
      } else stream(response).end(`${event(hello)}${event(stop)}${event(usage)}data: [DONE]\n\n`)
    }
    const engine = open()
    for (let turn = 0; turn < 4; turn += 1) assert.equal((await ask(engine, 'hi')).text, 'hello')
    assert.ok(cut > 0)
    assert.ok(seen.size > cut)
    await engine.close()
  })

  it('is not asked for what it cannot do', async () => {
    const engine = open({ capabilities: { tools: false } })
    await assert.rejects(ask(engine, 'x', { tools: [{ type: 'function', function: { name: 'f' } }] }), {
      code: 'ENGINE_UNSUPPORTED',
    })
    await assert.rejects(ask(engine, 'x', { sampling_profile: 'gumbel-philox-1' }), { code: 'ENGINE_UNSUPPORTED' })
    assert.throws(() => createUpstreamEngine({ url: 'ftp://x' }), { code: 'ENGINE_REQUEST' })
  })
})

describe('an upstream that misbehaves', () => {
  // Whatever it does, the request ends with the error that says what happened, and its connection is closed.
  const cases: [
    what: string,
    code: string,
    act: (response: ServerResponse) => void,
    parameters?: Partial<UpstreamEngineParameters>,
  ][] = [
    ['refuses', 'ENGINE_REQUEST', (r) => r.writeHead(400).end('{"error":{"message":"bad field"}}')],
    [
      'says the prompt is too long',
      'ENGINE_CONTEXT',
      (r) => r.writeHead(400).end('{"error":{"message":"m","code":"context_length_exceeded"}}'),
    ],
    ['knows no such model', 'ENGINE_MODEL', (r) => r.writeHead(404).end('{"error":"no model"}')],
    ['is busy', 'ENGINE_BUSY', (r) => r.writeHead(429).end()],
    ['does not know the key', 'ENGINE_UPSTREAM', (r) => r.writeHead(401).end()],
    ['fails', 'ENGINE_UPSTREAM', (r) => r.writeHead(500).end('x'.repeat(200_000))],
    ['sends us elsewhere', 'ENGINE_UPSTREAM', (r) => r.writeHead(307, { location: 'http://127.0.0.1:1/' }).end()],
    [
      'answers in another form',
      'ENGINE_UPSTREAM',
      (r) => r.writeHead(200, { 'content-type': 'application/json' }).end('{}'),
    ],
    ['sends garbage', 'ENGINE_UPSTREAM', (r) => stream(r).end('data: {"choices": [}\n\n')],
    ['sends what is no chunk', 'ENGINE_UPSTREAM', (r) => stream(r).end('data: {"choices": "none"}\n\n')],
    ['compresses', 'ENGINE_UPSTREAM', (r) => stream(r.setHeader('content-encoding', 'gzip')).end('x')],
    ['breaks off', 'ENGINE_UPSTREAM', (r) => stream(r).end(event(hello))],
    ['is cut off', 'ENGINE_UPSTREAM', (r) => stream(r).write(event(hello), () => r.destroy())],
    [
      'reports an error in the stream',
      'ENGINE_UPSTREAM',
      (r) => stream(r).end(event(hello) + event({ error: { message: 'oops' } })),
    ],
    ['counts nothing', 'ENGINE_UPSTREAM', (r) => stream(r).end(`${event(hello)}${event(stop)}data: [DONE]\n\n`)],
    ['counts nonsense', 'ENGINE_UPSTREAM', (r) => stream(r).end(event({ choices: [], usage: { prompt_tokens: -1 } }))],
    ['sends one endless event', 'ENGINE_UPSTREAM', (r) => stream(r).end(`data: ${'x'.repeat(MAX_EVENT_BYTES + 10)}`)],
    ['sends too much', 'ENGINE_UPSTREAM', (r) => stream(r).end(event(hello).repeat(100)), { maxAnswerBytes: 1000 }],
    ['falls silent', 'ENGINE_TIMEOUT', (r) => stream(r).write(event(hello))],
    ['never answers', 'ENGINE_TIMEOUT', () => undefined, { headTimeoutMs: 200 }],
  ]
  for (const [what, code, act, parameters] of cases) {
    it(what, async () => {
      behave = act
      const before = closed
      const engine = open(parameters)
      await assert.rejects(ask(engine, 'x'), (error) => {
        assert.ok(error instanceof EngineError, String(error))
        assert.equal(error.code, code, error.message)
        assert.ok(error.message.length < 700)
        return true
      })
      const deadline = Date.now() + 5_000
      while (closed === before && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 5))
      assert.ok(closed > before, 'the connection was closed')
      const { running } = await engine.health()
      assert.equal(running, 0)
    })
  }

  it('is not there', async () => {
    const engine = open({ url: 'http://127.0.0.1:1/v1' })
    await assert.rejects(ask(engine, 'x'), { code: 'ENGINE_UPSTREAM' })
    assert.equal((await engine.health()).ok, false)
  })

  // No more requests than allowed reach it; a closed engine ends those that run.
  it('is spared more requests than it may have', async () => {
    behave = (response) => stream(response).write(event(hello))
    const engine = open({ maxRunning: 1, idleTimeoutMs: 20_000 })
    const first = ask(engine, 'a')
    const failure = assert.rejects(first, { code: 'ENGINE_CLOSED' })
    await assert.rejects(ask(engine, 'b'), { code: 'ENGINE_BUSY' })
    await engine.close()
    await failure
  })
})

describe('server-sent events', () => {
  // However the bytes are split, the events are the same.
  it('are read whole from any pieces', async () => {
    const text = 'data: one\r\n\r\n: comment\ndata: two\ndata: lines ü\n\nevent: x\rdata:three\r\rdata: lost'
    const bytes = new TextEncoder().encode(text)
    for (let size = 1; size <= bytes.length; size += 3) {
      const found: string[] = []
      for await (const data of readSse(pieces(bytes, size))) found.push(data)
      assert.deepEqual(found, ['one', 'two\nlines ü', 'three'], `pieces of ${size}`)
    }
  })
})

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}
