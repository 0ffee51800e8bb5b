import type { AddressInfo, Socket } from 'node:net'
import cors from '@fastify/cors'
import rateLimiter from '@fastify/rate-limit'
import { type FastifyInstance, type FastifyRequest, fastify } from 'fastify'
import { WeightlessError } from '#protocol/error.ts'
import type { Logger } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import { describeHttpError, HttpError } from './http-error.ts'

/** How an agent is. `down` answers HTTP 503; `ok` and `degraded` answer 200. */
export interface HealthReport {
  status: 'ok' | 'degraded' | 'down'
  /** What was looked at: lag, peers, disk, the last chain error. */
  checks?: Record<string, unknown> | undefined
}

export interface HttpServerParameters {
  /** Shown in `/healthz`. */
  name: string
  host: string
  /** 0 lets the system choose; `listen` tells which. */
  port: number
  log: Logger
  metrics?: Metrics | undefined
  /** Largest request body, unless a route says otherwise. Larger ones answer 413. */
  bodyLimitBytes: number
  /** Requests allowed per address in each window; more answer 429 with `Retry-After`. Default no limit. */
  rateLimit?: { requests: number; windowMs: number } | undefined
  /** Origins of browser pages that may call: true for all (`*`). Default none. */
  cors?: boolean | readonly string[] | undefined
  /** Default: always `ok`. */
  health?: (() => HealthReport | Promise<HealthReport>) | undefined
  /** How long `health` may take before it counts as `down`. Default 5,000 ms. */
  healthTimeoutMs?: number | undefined
  /** Values of `Host` answered; guards a local administrator's port against pages that rebind their name. Default any. */
  allowedHosts?: readonly string[] | undefined
  /** Take client addresses from `X-Forwarded-For` of these proxies (addresses or CIDR). Default none. */
  trustedProxies?: readonly string[] | undefined
  /** Limit for a request to arrive whole. Default 300,000 ms. */
  requestTimeoutMs?: number | undefined
  /** Cut a connection on which nothing has moved for so long. Default 120,000 ms; more where answers take long to begin. */
  idleTimeoutMs?: number | undefined
  /** How long `close` waits for running requests before it cuts them. Default 5,000 ms. */
  closeGraceMs?: number | undefined
}

export interface HttpServer {
  /** Add routes before `listen`. */
  readonly app: FastifyInstance
  /** @throws HttpError `HTTP_LISTEN` when the address is taken or not allowed. */
  listen(): Promise<{ host: string; port: number; url: string }>
  /** Takes no new requests, lets running ones finish within the grace, then cuts them. Never hangs. Repeatable. */
  close(): Promise<void>
}

/** `allowedHosts` for a port meant for this machine alone. */
export const LOOPBACK_HOSTS: readonly string[] = ['localhost', '127.0.0.1', '[::1]']

/**
 * Makes an HTTP server with the surface every agent has: `/healthz` (also `/health`), `/metrics`, errors as
 * `{ code, message, fix, details }`, and limits on everything a stranger can send.
 *
 * @example
 * const server = await createHttpServer({ name: 'node', host: '127.0.0.1', port: 0, log, bodyLimitBytes: 2 ** 20 })
 * server.app.get('/v1/hello', async () => ({ hello: 'world' }))
 * const { url } = await server.listen()
 */
export async function createHttpServer(parameters: HttpServerParameters): Promise<HttpServer> {
  const { name, host, port, log, metrics, closeGraceMs = 5_000, requestTimeoutMs = 300_000 } = parameters
  const app = fastify({
    logger: false,
    bodyLimit: parameters.bodyLimitBytes,
    requestTimeout: requestTimeoutMs,
    // Overdue requests are looked for at intervals; the platform's 30 s would be too coarse for shorter limits.
    http: { connectionsCheckingInterval: Math.min(5_000, Math.ceil(requestTimeoutMs / 4)) },
    connectionTimeout: parameters.idleTimeoutMs ?? 120_000,
    keepAliveTimeout: 65_000,
    forceCloseConnections: 'idle',
    trustProxy: parameters.trustedProxies === undefined ? false : [...parameters.trustedProxies],
    routerOptions: { maxParamLength: 256 },
  })
  // Idle sockets are cheap, but their number must end somewhere below the limit of open files.
  app.server.maxConnections = 4_096
  const cutIdle = trackConnections(app)
  let closing: Promise<void> | undefined

  app.addHook('onSend', async (_, reply) => {
    if (closing !== undefined) reply.header('connection', 'close')
  })
  answerErrors(app, log)
  if (parameters.allowedHosts !== undefined) refuseOtherHosts(app, parameters.allowedHosts)
  if (metrics !== undefined) measure(app, metrics)
  if (parameters.cors) await app.register(cors, corsOptions(parameters.cors))
  if (parameters.rateLimit !== undefined) await limitRate(app, parameters.rateLimit)
  answerUnknown(app, { limited: parameters.rateLimit !== undefined })
  const { health = () => ({ status: 'ok' }), healthTimeoutMs = 5_000 } = parameters
  addHealth(app, { name, health, limitMs: healthTimeoutMs, log })
  if (metrics !== undefined) {
    app.get('/metrics', { config: { rateLimit: false } }, async (_, reply) => {
      const { contentType, body } = await metrics.expose()
      return reply.type(contentType).send(body)
    })
  }

  return {
    app,
    async listen() {
      await app.ready()
      try {
        await app.listen({ host, port })
      } catch (cause) {
        throw new HttpError({
          code: 'HTTP_LISTEN',
          statusCode: 500,
          message: `${name} cannot listen on ${host}:${port}: ${cause instanceof Error ? cause.message : cause}`,
          fix: 'stop the program that uses the port, or choose another address',
          details: { host, port },
          cause,
        })
      }
      const bound = app.server.address() as AddressInfo
      const address = bound.family === 'IPv6' ? `[${bound.address}]` : bound.address
      const reachable = address === '0.0.0.0' ? '127.0.0.1' : address === '[::]' ? '[::1]' : address
      log.info({ host: bound.address, port: bound.port }, `${name} listens on http://${address}:${bound.port}`)
      return { host: bound.address, port: bound.port, url: `http://${reachable}:${bound.port}` }
    },
    close() {
      closing ??= closeWithin(app, closeGraceMs, cutIdle)
      return closing
    },
  }
}

/** Follows which connections have a request running, and returns a function that destroys all others. */
function trackConnections(app: FastifyInstance): () => void {
  const running = new Map<Socket, number>()
  app.server.on('connection', (socket: Socket) => {
    running.set(socket, 0)
    socket.once('close', () => running.delete(socket))
  })
  app.server.on('request', ({ socket }, response) => {
    running.set(socket, (running.get(socket) ?? 0) + 1)
    response.once('close', () => {
      const left = running.get(socket)
      if (left !== undefined) running.set(socket, left - 1)
    })
  })
  return () => {
    for (const [socket, requests] of running) if (requests === 0) socket.destroySoon()
  }
}

async function closeWithin(app: FastifyInstance, graceMs: number, cutIdle: () => void): Promise<void> {
  // A connection whose last response ends during the close turns idle only then, so idle ones are cut again and again.
  const sweep = setInterval(cutIdle, 50)
  const cut = setTimeout(() => app.server.closeAllConnections(), graceMs)
  try {
    cutIdle()
    await app.close()
  } finally {
    clearInterval(sweep)
    clearTimeout(cut)
  }
}

function answerErrors(app: FastifyInstance, log: Logger): void {
  app.setErrorHandler((error, request, reply) => {
    const { statusCode, body } = describeHttpError(error)
    const facts = { method: request.method, url: request.url.slice(0, 200), statusCode, err: error }
    if (statusCode >= 500) log.error(facts, 'request failed')
    else log.debug(facts, 'request refused')
    return reply.code(statusCode).send(body)
  })
}

function answerUnknown(app: FastifyInstance, { limited }: { limited: boolean }): void {
  app.setNotFoundHandler(limited ? { preHandler: app.rateLimit() } : {}, (request, reply) => {
    return reply.code(404).send({
      code: 'HTTP_NOT_FOUND',
      message: `there is nothing at ${request.method} ${request.url.slice(0, 200)}`,
      details: {},
    })
  })
}

function refuseOtherHosts(app: FastifyInstance, allowed: readonly string[]): void {
  app.addHook('onRequest', async (request) => {
    const given = request.headers.host ?? ''
    const name = given.replace(/:\d+$/, '').toLowerCase()
    if (allowed.includes(name)) return
    throw new HttpError({
      code: 'HTTP_HOST',
      statusCode: 421,
      message: `this port does not answer for host ${given.slice(0, 100)}`,
      fix: `call it as ${allowed.join(', ')}`,
      details: { allowed },
    })
  })
}

function corsOptions(allowed: true | readonly string[]): Parameters<typeof cors>[1] & object {
  return {
    origin: allowed === true ? '*' : [...allowed],
    methods: ['GET', 'HEAD', 'POST', 'OPTIONS'],
    exposedHeaders: ['Content-Length', 'Content-Range', 'Content-Disposition', 'ETag', 'Retry-After'],
    maxAge: 86_400,
  }
}

async function limitRate(app: FastifyInstance, { requests, windowMs }: { requests: number; windowMs: number }) {
  await app.register(rateLimiter, {
    max: requests,
    timeWindow: windowMs,
    cache: 10_000,
    errorResponseBuilder: (_: FastifyRequest, { ttl }: { ttl: number }) => {
      const waitSeconds = Math.ceil(ttl / 1000)
      return new HttpError({
        code: 'HTTP_RATE_LIMIT',
        statusCode: 429,
        message: `more than ${requests} requests in ${windowMs / 1000} s`,
        fix: `try again in ${waitSeconds} s`,
        details: { requests, windowMs, waitSeconds },
      })
    },
  })
}

function measure(app: FastifyInstance, metrics: Metrics): void {
  const seconds = metrics.histogram({
    name: 'http_request_seconds',
    help: 'Time to answer an HTTP request',
    labels: ['method', 'route', 'status'],
  })
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'unknown'
    const method = request.is404 ? 'unknown' : request.method
    seconds.observe({ method, route, status: String(reply.statusCode) }, reply.elapsedTime / 1000)
  })
}

function addHealth(
  app: FastifyInstance,
  {
    name,
    health,
    limitMs,
    log,
  }: { name: string; health: () => HealthReport | Promise<HealthReport>; limitMs: number; log: Logger },
): void {
  async function report(): Promise<HealthReport> {
    let timer: NodeJS.Timeout | undefined
    const limit = new Promise<HealthReport>((resolve) => {
      const late = { status: 'down', checks: { health: `no answer within ${limitMs} ms` } } as const
      timer = setTimeout(() => resolve(late), limitMs)
    })
    try {
      return await Promise.race([Promise.resolve().then(health), limit])
    } catch (error) {
      log.error({ err: error }, 'the health check failed')
      const code = error instanceof WeightlessError ? error.code : 'the health check failed'
      return { status: 'down', checks: { health: code } }
    } finally {
      clearTimeout(timer)
    }
  }
  for (const path of ['/healthz', '/health']) {
    app.get(path, { config: { rateLimit: false } }, async (_, reply) => {
      const { status, checks = {} } = await report()
      const body = { name, status, uptimeSeconds: Math.round(process.uptime()), checks }
      return reply.code(status === 'down' ? 503 : 200).send(body)
    })
  }
}
