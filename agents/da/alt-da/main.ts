import { join } from 'node:path'
import type { LocalAccount } from 'viem'
import { currentEpoch } from '#client/da/blob-record.ts'
import { openDaConnection } from '#client/da/connection.ts'
import { createCloseStack } from '#kit/close-stack.ts'
import { createHttpServer } from '#kit/http/server.ts'
import type { Logger } from '#kit/log.ts'
import { createMetrics } from '#kit/metrics.ts'
import { BlobFiles } from '../blob-files.ts'
import type { AltDaConfig } from './config.ts'
import { AltDaGateway } from './gateway.ts'
import { PutStore } from './put-store.ts'
import { registerAltDaRoutes } from './routes.ts'

export { ALT_DA_ENV_PREFIX, type AltDaConfig, type AltDaConfigInput, altDaConfigSchema } from './config.ts'

/** An alt-DA server that serves. */
export interface RunningAltDa {
  readonly url: string
  close(): Promise<void>
}

/**
 * Starts a server that an op-stack chain can use as its Alt-DA layer.
 *
 * @param account pays for what is put; without it the server only reads
 */
export async function startAltDa(
  config: AltDaConfig,
  { log, account }: { log: Logger; account?: LocalAccount | undefined },
): Promise<RunningAltDa> {
  const stack = createCloseStack({ log, limitMs: 15_000 })
  try {
    return await assemble(config, { log, account, stack })
  } catch (error) {
    await stack.close()
    throw error
  }
}

async function assemble(
  config: AltDaConfig,
  {
    log,
    account,
    stack,
  }: { log: Logger; account: LocalAccount | undefined; stack: ReturnType<typeof createCloseStack> },
): Promise<RunningAltDa> {
  const { dir } = config.data
  const ending = new AbortController()
  const { rpcUrls, id, signers, entrance, startBlock, pollIntervalMs } = config.chain
  const connection = openDaConnection({
    ...{ rpcUrl: rpcUrls, chainId: id, contracts: { signers, entrance }, account, startBlock },
    journalDir: join(dir, 'payments'),
    limits: { pollIntervalMs: Math.min(250, pollIntervalMs) },
  })
  stack.defer('chain and signers', () => connection.close())
  const files = new BlobFiles({ ...config.data, dir: join(dir, 'inputs') })
  const store = PutStore.open(dir)
  stack.defer('commitments', () => store.close())
  const gateway = new AltDaGateway({ connection, store, files, config, log, signal: ending.signal })
  const server = await createHttpServer({
    name: 'alt-da',
    ...config.listen,
    ...{ log, metrics: createMetrics('weightless_alt_da') },
    bodyLimitBytes: config.maxInputBytes,
    requestTimeoutMs: config.putTimeoutMs + 60_000,
    idleTimeoutMs: config.putTimeoutMs + 60_000,
    health: async () => ({ status: 'ok', checks: { epoch: await currentEpoch(connection), keptBytes: files.bytes } }),
  })
  const { layerByte, maxInputBytes, maxRequests } = config
  registerAltDaRoutes({ app: server.app, gateway, layer: layerByte, maxInputBytes, maxRequests, log })
  stack.defer('http', () => server.close())
  const { url } = await server.listen()
  log.info({ url, account: account?.address, layerByte }, 'the alt-DA server serves')
  return {
    url,
    close: async () => {
      ending.abort()
      await stack.close()
    },
  }
}
