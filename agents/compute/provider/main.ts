import { join } from 'node:path'
import type { LocalAccount } from 'viem'
import { type Attestor, dstackAttestor, noAttestor, simulatedAttestor } from '#compute/attestation/attestor.ts'
import type { Engine, EngineInfo } from '#compute/engines/engine.ts'
import { connectChain } from '#kit/chain/client.ts'
import { genesisOf } from '#kit/chain/genesis.ts'
import { createSender } from '#kit/chain/sender.ts'
import { createCloseStack } from '#kit/close-stack.ts'
import { lockDirectory } from '#kit/directory-lock.ts'
import { claimFolder } from '#kit/folder-identity.ts'
import { createHttpServer, type HealthReport } from '#kit/http/server.ts'
import type { Logger } from '#kit/log.ts'
import { createMetrics, type Metrics } from '#kit/metrics.ts'
import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import type { Hex } from '#protocol/hex.ts'
import { ProviderSetupError, signingKey } from './account.ts'
import { configuredAdapters } from './adapters/configured-adapters.ts'
import { openAdapters } from './adapters/open-adapters.ts'
import { Admission } from './admit/admission.ts'
import { Authenticator } from './admit/authenticate.ts'
import { RequestLimits } from './admit/limits.ts'
import { AccountView } from './chain/account-view.ts'
import type { ProviderConfig } from './config.ts'
import { allowEveryOrigin } from './http/cors.ts'
import { registerRoutes } from './http/routes.ts'
import { registerStatus } from './http/status-route.ts'
import { Cashier } from './money/cashier.ts'
import { VoucherBook } from './money/voucher-book.ts'
import { openEngine } from './open-engine.ts'
import { createProviderMetrics } from './provider-metrics.ts'
import { providerStopping } from './serve/engine-run.ts'
import type { Serving } from './serve/serving.ts'
import { SettlementLog } from './settle/settlement-log.ts'
import { Settler } from './settle/settler.ts'
import { directTransport, queuedTransport } from './settle/transport.ts'
import { type ProviderStatus, providerStatus } from './status.ts'
import { ArtifactStore } from './store/artifact-store.ts'
import { openProviderStore } from './store/provider-store.ts'

export { ProviderSetupError, signingKey } from './account.ts'
export { type ProviderConfig, providerConfigSchema } from './config.ts'
export type { SettlementRound } from './settle/settler.ts'
export type { ProviderStatus } from './status.ts'

/** What a provider is given from outside. */
export interface ProviderContext {
  log: Logger
  /** The wallet: registers the service, sends settlements, is paid. See `agentAccount` of `#kit/keys/agent-account.ts`. */
  account: LocalAccount
  /** Stops the start while it waits for the chain. */
  signal?: AbortSignal | undefined
  metrics?: Metrics | undefined
  /** Serves instead of what the configuration names. Closed with the provider. */
  engine?: Engine | undefined
  /** Default the system's clock, in milliseconds since 1970. */
  now?: (() => number) | undefined
  /** `QUEUE_URL` and the like. Default the process's. */
  env?: Readonly<Record<string, string | undefined>> | undefined
}

/** A provider that serves. */
export interface RunningProvider {
  readonly url: string
  /** The provider's wallet, lower case. */
  readonly address: Hex
  /** The address that signs answers: to be named by the service. */
  readonly signer: Hex
  status(): ProviderStatus
  /** Settles now what is worth its gas. */
  settle(): ReturnType<Settler['settle']>
  /** Takes no new requests, lets running ones finish for a while, stores everything, closes. Repeatable. */
  close(): Promise<void>
}

/** How long running answers may go on after a stop. */
const DRAIN_MS = 5_000
const UPKEEP_MS = 60_000
/** Ended charges are kept so long, for the operator's books. */
const CHARGE_RETENTION_MS = 30 * 86_400_000

/**
 * Starts an inference provider: serves OpenAI's interface from its engine, bills what it delivers, settles what it bills.
 * It serves before it is registered too, and says what is missing.
 *
 * @throws ProviderSetupError, KeyError, EngineError, HttpError `HTTP_LISTEN`, AttestationError, chain and database errors;
 * `DATA_FOLDER_FOREIGN` where the folder holds what is owed under another contract or to another provider
 * @example
 * const config = providerConfigSchema.parse({ upstream: 'http://127.0.0.1:8000', chain: { inference } })
 * const provider = await startProvider(config, { log, account })
 */
export async function startProvider(config: ProviderConfig, context: ProviderContext): Promise<RunningProvider> {
  const stack = createCloseStack({ log: context.log, limitMs: 30_000 })
  try {
    return await assemble(config, context, stack)
  } catch (error) {
    await stack.close()
    throw error
  }
}

async function assemble(
  config: ProviderConfig,
  context: ProviderContext,
  stack: ReturnType<typeof createCloseStack>,
): Promise<RunningProvider> {
  const { log, account, now = Date.now, env = process.env } = context
  const metrics = context.metrics ?? createMetrics('weightless_provider')
  const ending = new AbortController()
  const provider = account.address.toLowerCase() as Hex
  const contract = config.chain.inference.toLowerCase() as Hex

  const end = () => ending.abort(providerStopping())

  const lock = lockDirectory(config.dataDir)
  stack.defer('data folder', () => lock.release())
  const signer = await signingKey(config.dataDir)
  const configured = await configuredAdapters(config)
  const engine = context.engine ?? (await openEngine(config))
  stack.defer('engine', () => engine.close())
  const adapters = await openAdapters({ config, configured, engine, log, now, metrics })
  stack.defer('adapters', () => adapters.close())
  const chain = await connectChain({
    ...{ rpcUrls: config.chain.rpcUrls, chainId: config.chain.id, waitMs: config.chain.waitMs },
    ...{ pollingIntervalMs: Math.min(config.chain.pollIntervalMs, 500) },
    signal: context.signal ? AbortSignal.any([context.signal, ending.signal]) : ending.signal,
  })
  stack.defer('chain', () => chain.close())
  const attestor = openAttestor({ config, signer: signer.address, chainId: chain.id })
  await requireContract(chain.client, contract)
  const genesis = await genesisOf(chain)
  await claimFolder({ dir: config.dataDir, identity: { chainId: chain.id, genesis, contract, provider } })

  const store = openProviderStore({ path: join(config.dataDir, 'usage.db') })
  stack.defer('usage log', () => store.close())
  const vouchers = new VoucherBook({ store, provider })
  const cashier = new Cashier({
    ...{ store, now, waitForDisk: config.waitForDisk },
    onSyncError: (error) => log.error({ err: error }, 'the disk refuses the usage log'),
    onBilled: ({ user, mode, feeWei }) => {
      if (mode === 'voucher') vouchers.bill(user, feeWei)
    },
  })
  stack.defer('cashier', () => cashier.stop())
  const recovered = cashier.recover()
  if (recovered.charges > 0) log.warn(recovered, 'the last run did not end well: billed what had been delivered')
  const settlements = new SettlementLog({ store, cashier, now })

  const view = new AccountView({
    ...{ chain, contract, provider, log, metrics, now, signal: ending.signal },
    ...{ pollIntervalMs: config.chain.pollIntervalMs, maxAgeMs: config.chain.maxAgeMs },
    ...{ staleLimitMs: config.chain.staleLimitMs, readTimeoutMs: config.chain.readTimeoutMs },
  })
  stack.defer('following', end)
  await view.start()
  const engineInfo = describeOnce(engine, config)
  const limits = new RequestLimits({ ...config.limits, now })
  const artifacts = new ArtifactStore({
    ...{ store, provider, signer, engineInfo, now, chainId: chain.id, contract },
    ...{ enabled: config.receipts.enabled, retentionMs: config.receipts.days * 86_400_000 },
  })
  stack.defer('artifacts', () => artifacts.flush())
  const providerMetrics = createProviderMetrics(metrics, { running: () => limits.running })
  const serving: Serving = {
    ...{ engine, engineInfo, limits, cashier, view, artifacts, adapters, log, now, provider },
    metrics: providerMetrics,
    contextTokens: (info) => (config.contextTokens === 0 ? info.contextTokens : config.contextTokens),
    modelName: config.modelName,
    authenticator: new Authenticator({
      ...{ chainId: chain.id, contract, provider, view, now, voucherMinLifeS: config.voucherMinLifeS },
    }),
    admission: new Admission({
      ...{ view, cashier, vouchers, minimumReserveWei: config.minimumReserveWei },
      freeUsers: new Set(config.freeUsers.map((user) => user.toLowerCase())),
      latestChats: (user) =>
        store.database
          .all<{ id: string }>(
            `select id from charge where user = ? and mode = 'voucher' and kind <> 'carry' and state <> 'open'
             order by seq desc limit 64`,
            user,
          )
          .map(({ id }) => id)
          .reverse(),
    }),
    limitsMs: {
      ...{ firstTokenTimeoutMs: config.firstTokenTimeoutMs, stallTimeoutMs: config.stallTimeoutMs },
      clientStallMs: config.clientStallMs,
    },
  }

  const sender = createSender({ chain, account, abi: inferenceServingAbi, log })
  stack.defer('sender', () => sender.close())
  const queueUrl = config.settlement.queueUrl ?? (env.QUEUE_URL === '' ? undefined : env.QUEUE_URL)
  const transport =
    queueUrl === undefined && !config.settlement.embeddedQueue
      ? directTransport({ chain, sender })
      : queuedTransport({ chain, sender, provider, url: queueUrl, dataDir: join(config.dataDir, 'queue'), log })
  stack.defer('settlement queue', () => transport.close())
  const settler = new Settler(
    {
      ...{ chain, contract, provider, signer, settlements, vouchers, view, transport, log, now },
      ...{ metrics: providerMetrics, signal: ending.signal, ...config.settlement },
    },
    { loop: config.settlement.enabled },
  )
  stack.defer('settling', () => settler.done)
  stack.defer('loops', end)

  const stop = new AbortController()
  const health = () => healthOf({ engine, view, settler })
  const server = await createHttpServer({
    ...{ name: 'provider', host: config.host, port: config.port, log, metrics, health },
    bodyLimitBytes: config.limits.bodyBytes,
    rateLimit:
      config.limits.addressRequestsPerMinute === 0
        ? undefined
        : { requests: config.limits.addressRequestsPerMinute, windowMs: 60_000 },
    trustedProxies: config.trustedProxies.length > 0 ? config.trustedProxies : undefined,
    // An engine may read a long prompt in silence, and so may the connection.
    idleTimeoutMs: Math.max(config.firstTokenTimeoutMs, config.stallTimeoutMs) + 10_000,
    closeGraceMs: DRAIN_MS + 2_000,
  })
  const status = (): ProviderStatus =>
    providerStatus({ store, cashier, limits, view, settler, provider, signer: signer.address, attestor })
  allowEveryOrigin(server.app)
  registerStatus({ app: server.app, chainId: chain.id, contract, attestor, serving, status })
  registerRoutes({ app: server.app, serving, attestor, stop: stop.signal })
  const { url } = await server.listen()
  stack.defer('http', async () => {
    const timer = setTimeout(() => stop.abort(providerStopping()), DRAIN_MS)
    await server.close()
    clearTimeout(timer)
    stop.abort(providerStopping())
  })
  const upkeep = setInterval(() => {
    artifacts.prune()
    settlements.prune(now() - CHARGE_RETENTION_MS)
  }, UPKEEP_MS)
  stack.defer('upkeep', () => clearInterval(upkeep))
  void artifacts.prepare().catch((error: unknown) => log.warn({ err: error }, 'the engine does not answer yet'))
  log.info({ url, provider, signer: signer.address, attestation: attestor.kind }, 'the provider serves')

  return {
    url,
    address: provider,
    signer: signer.address,
    status,
    settle: () => settler.settle(),
    close: async () => void (await stack.close()),
  }
}

/** The engine's description, asked for until it answers and then kept for a while: an upstream may be swapped. */
function describeOnce(engine: Engine, { modelName }: ProviderConfig): () => Promise<EngineInfo> {
  let asked: Promise<EngineInfo> | undefined
  let known: EngineInfo | undefined
  let refreshAt = 0
  const refresh = () => {
    asked ??= engine
      .info()
      .then((info) => {
        known = info.model === '' && modelName !== undefined ? { ...info, model: modelName } : info
        refreshAt = performance.now() + UPKEEP_MS
        return known
      })
      .finally(() => {
        asked = undefined
      })
    return asked
  }
  return async () => {
    if (known === undefined) return await refresh()
    if (performance.now() > refreshAt) refresh().catch(() => undefined)
    return known
  }
}

function openAttestor(parameters: { config: ProviderConfig; signer: Hex; chainId: number }): Attestor {
  const { config, signer, chainId } = parameters
  const { kind, dstackSocket } = config.attestation
  if (kind === 'simulated') return simulatedAttestor({ signer, chainId })
  return kind === 'dstack' ? dstackAttestor({ signer, socketPath: dstackSocket }) : noAttestor({ signer })
}

async function requireContract(
  client: { getCode(parameters: { address: Hex }): Promise<Hex | undefined> },
  contract: Hex,
): Promise<void> {
  const code = await client.getCode({ address: contract })
  if (code !== undefined && code !== '0x') return
  throw new ProviderSetupError({
    code: 'PROVIDER_CONTRACT',
    message: `there is no contract at ${contract}`,
    fix: 'set chain.inference to the InferenceServing contract of this chain',
    details: { contract },
  })
}

async function healthOf(parts: { engine: Engine; view: AccountView; settler: Settler }): Promise<HealthReport> {
  const engine = await parts.engine.health({ signal: AbortSignal.timeout(4_000) })
  const chain = parts.view.status()
  // Looked at, not waited for: an answer about health must not hang with the chain.
  void parts.view.service().catch(() => undefined)
  const service = parts.view.knownService()
  const well =
    chain?.synced === true &&
    !parts.view.isBlind() &&
    service?.signerAcknowledged === true &&
    parts.settler.lastError === undefined
  return {
    status: !engine.ok ? 'down' : well ? 'ok' : 'degraded',
    checks: {
      engine,
      chain: { synced: chain?.synced ?? false, head: chain?.head, lastError: chain?.lastError },
      ...{ registered: service !== undefined, signerAcknowledged: service?.signerAcknowledged ?? false },
      ...(parts.settler.lastError === undefined ? {} : { settlement: parts.settler.lastError }),
    },
  }
}
