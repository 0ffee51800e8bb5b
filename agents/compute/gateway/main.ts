import type { LocalAccount } from 'viem'
import { openComputeConnection } from '#client/compute/connection.ts'
import { modelFileTexts } from '#client/compute/model-texts.ts'
import { createHttpServer, LOOPBACK_HOSTS } from '#kit/http/server.ts'
import { createLog, type Logger } from '#kit/log.ts'
import { createMetrics } from '#kit/metrics.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { GatewayConfig } from './config.ts'
import { createGatewayMetrics } from './gateway-metrics.ts'
import { BODY_LIMIT_BYTES, registerRoutes } from './routes.ts'

export { type GatewayConfig, gatewayConfigSchema } from './config.ts'

/** What the gateway needs from whoever starts it. */
export interface GatewayContext {
  /** Pays for every request. */
  account: LocalAccount
  log?: Logger | undefined
  /** Closes the gateway when it fires. */
  signal?: AbortSignal | undefined
}

/** A gateway that serves. */
export interface RunningGateway {
  /** Where it listens. */
  readonly url: string
  /** For OpenAI clients. */
  readonly baseUrl: string
  close(): Promise<void>
}

/**
 * Starts a gateway: OpenAI's API on this machine, paid with the user's key, answered by providers of the network. It
 * starts without the chain; requests fail until that can be reached.
 *
 * @throws HttpError `HTTP_LISTEN` when the port is taken; WeightlessError `CONFIG_INVALID` when it would serve strangers
 * without an API key.
 * @example
 * const gateway = await startGateway(gatewayConfigSchema.parse({ chain: { rpcUrls, ledger }, port: 0 }), { account })
 * const openai = new OpenAI({ baseURL: gateway.baseUrl, apiKey: 'any' })
 */
export async function startGateway(config: GatewayConfig, context: GatewayContext): Promise<RunningGateway> {
  const log = context.log ?? createLog({ name: 'gateway', ...config.log })
  const local = isLoopback(config.host)
  if (!local && config.apiKey === undefined) {
    throw new WeightlessError({
      code: 'CONFIG_INVALID',
      message: `apiKey is missing: whoever reaches ${config.host}:${config.port} would spend the deposit`,
      fix: 'set apiKey, or listen on 127.0.0.1',
      details: { field: 'apiKey' },
    })
  }
  const { rpcUrls, ledger, inference } = config.chain
  const { firstTokenTimeoutMs, idleTimeoutMs } = config
  const connection = openComputeConnection({
    ...{ rpcUrl: rpcUrls, ledger, inference, account: context.account, dataDir: config.dataDir },
    modelTexts: config.modelFiles.length === 0 ? undefined : modelFileTexts(config.modelFiles),
    limits: { firstTokenTimeoutMs, idleTimeoutMs },
  })
  // A book that cannot be written must fail the start, not the first paid request.
  connection.book.receipts({ limit: 1 })
  const metrics = createMetrics('weightless_gateway')
  const server = await createHttpServer({
    ...{ name: 'gateway', host: config.host, port: config.port, log, metrics },
    bodyLimitBytes: BODY_LIMIT_BYTES,
    allowedHosts: local ? LOOPBACK_HOSTS : undefined,
    // Silence is bounded by the time-outs of providers; the connection must outlive several of them.
    idleTimeoutMs: 10 * (firstTokenTimeoutMs + idleTimeoutMs),
  })
  const { apiKey, maxRequests } = config
  await registerRoutes(server.app, { connection, apiKey, maxRequests, log, metrics: createGatewayMetrics(metrics) })
  let closing: Promise<void> | undefined
  const close = (): Promise<void> => {
    closing ??= (async () => {
      await server.close()
      await connection.close()
    })()
    return closing
  }
  try {
    const { url } = await server.listen()
    context.signal?.addEventListener('abort', () => void close(), { once: true })
    return { url, baseUrl: `${url}/v1`, close }
  } catch (error) {
    await close()
    throw error
  }
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\./.test(host)
}
