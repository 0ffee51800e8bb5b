import assert from 'node:assert/strict'
import { Agent, request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { describe, it } from 'node:test'
import { HttpError } from '#kit/http/http-error.ts'
import { createHttpServer, type HttpServer, type HttpServerParameters, LOOPBACK_HOSTS } from '#kit/http/server.ts'
import { silentLog } from '#kit/log.ts'
import { createMetrics } from '#kit/metrics.ts'
import { WeightlessError } from '#protocol/error.ts'

async function serve(parameters: Partial<HttpServerParameters> = {}, routes?: (server: HttpServer) => void) {
  const server = await createHttpServer({
    name: 'test',
    host: '127.0.0.1',
    port: 0,
    log: silentLog(),
    bodyLimitBytes: 1_000,
    ...parameters,
  })
  routes?.(server)
  const address = await server.listen()
  return { ...address, close: () => server.close(), [Symbol.asyncDispose]: () => server.close() }
}

const getJson = async (url: string, init?: RequestInit): Promise<{ status: number; body: Record<string, unknown> }> => {
  const response = await fetch(url, init)
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

describe('HTTP server', () => {
  it('reports health: ok and degraded as 200, down, thrown and hanging as 503', async () => {
    const reports = [
      [{ status: 'ok', checks: { lagBlocks: 0 } }, 200],
      [{ status: 'degraded', checks: { chain: 'rate limited' } }, 200],
      [{ status: 'down' }, 503],
    ] as const
    for (const [report, status] of reports) {
      await using server = await serve({ health: () => report })
      for (const path of ['/healthz', '/health']) {
        const answer = await getJson(server.url + path)
        assert.equal(answer.status, status)
        assert.equal(answer.body.status, report.status)
        assert.equal(answer.body.name, 'test')
      }
    }
    await using hanging = await serve({ health: () => new Promise(() => {}), healthTimeoutMs: 20 })
    const late = await getJson(`${hanging.url}/healthz`)
    assert.equal(late.status, 503)
    assert.deepEqual(late.body.checks, { health: 'no answer within 20 ms' })
    await using thrown = await serve({
      health: () => {
        throw new Error('password=hunter2')
      },
    })
    const answer = await getJson(`${thrown.url}/healthz`)
    assert.equal(answer.status, 503)
    assert.doesNotMatch(JSON.stringify(answer.body), /hunter2/)
  })

  it('serves metrics, requests by route among them', async () => {
    const metrics = createMetrics('weightless_test')
    await using server = await serve({ metrics }, ({ app }) => app.get('/things/:id', async () => 'thing'))
    await fetch(`${server.url}/things/1`)
    await fetch(`${server.url}/things/2`)
    await fetch(`${server.url}/made/up/path`)
    const response = await fetch(`${server.url}/metrics`)
    assert.match(response.headers.get('content-type') ?? '', /^text\/plain/)
    const text = await response.text()
    assert.match(
      text,
      /weightless_test_http_request_seconds_count\{method="GET",route="\/things\/:id",status="200"\} 2/,
    )
    assert.match(text, /weightless_test_process_resident_memory_bytes \d+/)
    assert.doesNotMatch(text, /made/)
  })

  // Invariant: every error has the same shape, and one of our own says what it says; a foreign one says nothing.
  it('answers errors as code, message, fix and details', async () => {
    await using server = await serve({}, ({ app }) => {
      app.get('/mine', async () => {
        throw new HttpError({
          statusCode: 404,
          code: 'FILE_UNKNOWN',
          message: 'no such file',
          fix: 'upload it',
          details: { txSeq: 5n },
        })
      })
      app.get('/typed', async () => {
        throw new WeightlessError({ code: 'DISK_FULL', message: 'the disk is full' })
      })
      app.get('/foreign', async () => {
        throw new Error('password=hunter2')
      })
      app.post('/json', async (request) => request.body)
    })
    const json = { method: 'POST', headers: { 'content-type': 'application/json' } }
    assert.deepEqual(await getJson(`${server.url}/mine`), {
      status: 404,
      body: { code: 'FILE_UNKNOWN', message: 'no such file', fix: 'upload it', details: { txSeq: '5' } },
    })
    assert.deepEqual(await getJson(`${server.url}/typed`), {
      status: 500,
      body: { code: 'DISK_FULL', message: 'the disk is full', details: {} },
    })
    const foreign = await getJson(`${server.url}/foreign`)
    assert.deepEqual([foreign.status, foreign.body.code], [500, 'HTTP_INTERNAL'])
    assert.doesNotMatch(JSON.stringify(foreign), /hunter2/)
    assert.equal((await getJson(`${server.url}/nowhere`)).body.code, 'HTTP_NOT_FOUND')
    assert.equal((await getJson(`${server.url}/json`, { ...json, body: '{' })).status, 400)
    assert.equal((await getJson(`${server.url}/json`, { ...json, body: '{"__proto__":{"a":1}}' })).status, 400)
    assert.equal((await getJson(`${server.url}/json`, { ...json, body: `"${'x'.repeat(1_000)}"` })).status, 413)
  })

  it('limits the rate per address, but never health and metrics', async () => {
    const metrics = createMetrics('test', { processMetrics: false })
    await using server = await serve({ metrics, rateLimit: { requests: 3, windowMs: 60_000 } }, ({ app }) => {
      app.get('/', async () => 'ok')
    })
    const statuses = []
    for (let i = 0; i < 5; i++) statuses.push((await fetch(server.url)).status)
    assert.deepEqual(statuses, [200, 200, 200, 429, 429])
    const limited = await fetch(server.url)
    assert.ok(Number(limited.headers.get('retry-after')) > 0)
    assert.equal(((await limited.json()) as { code: string }).code, 'HTTP_RATE_LIMIT')
    for (let i = 0; i < 5; i++) {
      assert.equal((await fetch(`${server.url}/healthz`)).status, 200)
      assert.equal((await fetch(`${server.url}/metrics`)).status, 200)
    }
  })

  it('answers a browser’s preflight where it is allowed, and not elsewhere', async () => {
    const preflight = (url: string, origin: string): Promise<Response> => {
      const headers = {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'content-type',
      }
      return fetch(url, { method: 'OPTIONS', headers })
    }
    const route = ({ app }: HttpServer): void => {
      app.post('/', async () => 'ok')
    }
    await using open = await serve({ cors: true }, route)
    const answer = await preflight(open.url, 'https://app.example')
    assert.equal(answer.status, 204)
    assert.equal(answer.headers.get('access-control-allow-origin'), '*')
    assert.match(answer.headers.get('access-control-allow-headers') ?? '', /content-type/)
    await using some = await serve({ cors: ['https://app.example'] }, route)
    assert.equal(
      (await preflight(some.url, 'https://app.example')).headers.get('access-control-allow-origin'),
      'https://app.example',
    )
    assert.equal((await preflight(some.url, 'https://evil.example')).headers.get('access-control-allow-origin'), null)
    await using closed = await serve({}, route)
    assert.equal((await preflight(closed.url, 'https://app.example')).headers.get('access-control-allow-origin'), null)
  })

  it('answers only for its own names where told so', async () => {
    await using server = await serve({ allowedHosts: LOOPBACK_HOSTS }, ({ app }) => app.get('/', async () => 'ok'))
    const ask = (host: string): Promise<number | undefined> =>
      new Promise((resolve, reject) => {
        const request = httpRequest(server.url, { headers: { host } }, (response) => {
          response.resume()
          resolve(response.statusCode)
        })
        request.on('error', reject)
        request.end()
      })
    assert.equal(await ask('evil.example'), 421)
    assert.equal(await ask('127.0.0.1.evil.example:80'), 421)
    assert.equal(await ask(`localhost:${server.port}`), 200)
    assert.equal(await ask('[::1]:1234'), 200)
  })

  it('says which address is taken', async () => {
    await using first = await serve()
    await assert.rejects(serve({ port: first.port }), (error) => {
      assert.ok(error instanceof HttpError)
      assert.equal(error.code, 'HTTP_LISTEN')
      assert.match(error.message, new RegExp(`127.0.0.1:${first.port}.*EADDRINUSE`))
      return true
    })
  })

  it('limits the rate of requests for nothing, too', async () => {
    await using server = await serve({ rateLimit: { requests: 2, windowMs: 60_000 } })
    const statuses = []
    for (let i = 0; i < 4; i++) statuses.push((await fetch(`${server.url}/${i}`)).status)
    assert.deepEqual(statuses, [404, 404, 429, 429])
  })

  // Invariant: a client that sends its request too slowly, or nothing at all, does not hold its connection.
  it('cuts connections that send too slowly or nothing', async () => {
    await using server = await serve({ requestTimeoutMs: 100, idleTimeoutMs: 200 }, ({ app }) =>
      app.post('/', async () => 'ok'),
    )
    const starts = [
      '',
      'POST / HTTP/1.1\r\nhost:',
      'POST / HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\nab',
    ]
    await Promise.all(
      starts.map(async (start) => {
        const socket = connect(server.port, '127.0.0.1')
        const closed = new Promise((resolve) => socket.once('close', resolve))
        socket.on('error', () => {})
        socket.write(start)
        socket.resume()
        await closed
      }),
    )
  })

  it('reports a mistake in the routes as what it is', async () => {
    const twice = ({ app }: HttpServer): void => {
      void app.register(async (scope) => {
        scope.get('/healthz', async () => 'mine')
      })
    }
    await assert.rejects(serve({}, twice), { code: 'FST_ERR_DUPLICATED_ROUTE' })
  })

  // Invariant: a close ends soon, whatever connections are open, and lets a running request finish.
  it('closes at once with idle keep-alive connections open', async () => {
    const server = await serve({}, ({ app }) => app.get('/', async () => 'ok'))
    const agent = new Agent({ keepAlive: true })
    await new Promise<void>((resolve, reject) => {
      const request = httpRequest(server.url, { agent }, (response) => response.resume().on('end', resolve))
      request.on('error', reject)
      request.end()
    })
    const silent = connect(server.port, '127.0.0.1')
    await new Promise((resolve) => silent.once('connect', resolve))
    silent.on('error', () => {})
    const start = performance.now()
    await server.close()
    assert.ok(performance.now() - start < 2_000)
    agent.destroy()
    silent.destroy()
  })

  it('lets a running request finish and refuses new ones', async () => {
    const entered = Promise.withResolvers<void>()
    const release = Promise.withResolvers<void>()
    const server = await serve({}, ({ app }) =>
      app.get('/', async () => {
        entered.resolve()
        await release.promise
        return 'finished'
      }),
    )
    const running = fetch(server.url)
    await entered.promise
    const closing = server.close()
    release.resolve()
    const response = await running
    assert.equal(await response.text(), 'finished')
    assert.equal(response.headers.get('connection'), 'close')
    await closing
    await assert.rejects(fetch(server.url))
    await server.close()
  })

  it('cuts a request that does not end within the grace', async () => {
    const entered = Promise.withResolvers<void>()
    const server = await serve({ closeGraceMs: 50 }, ({ app }) =>
      app.get('/', async () => {
        entered.resolve()
        await new Promise(() => {})
      }),
    )
    const running = assert.rejects(fetch(server.url))
    await entered.promise
    await server.close()
    await running
  })
})
