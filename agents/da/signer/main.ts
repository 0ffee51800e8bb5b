import { join } from 'node:path'
import { type Address, type LocalAccount, zeroAddress } from 'viem'
import { entranceAbi, signersAbi } from '#client/da/abi.ts'
import { openDaConnection } from '#client/da/connection.ts'
import { type Chain, connectChain } from '#kit/chain/client.ts'
import type { LogFollower } from '#kit/chain/log-follower.ts'
import { createSender, type TransactionSender } from '#kit/chain/sender.ts'
import { createCloseStack } from '#kit/close-stack.ts'
import { lockDirectory } from '#kit/directory-lock.ts'
import { createHttpServer, type HealthReport, type HttpServer } from '#kit/http/server.ts'
import type { Logger } from '#kit/log.ts'
import { createMetrics, type Metrics } from '#kit/metrics.ts'
import { BlobCodec } from '#protocol/da/blob-codec.ts'
import { type BlsKey, blsKeyFromSecret, encodeG1, sign } from '#protocol/da/bls.ts'
import { blobDigest } from '#protocol/da/messages.ts'
import { followChain } from './chain/chain-log.ts'
import { Epochs } from './chain/epochs.ts'
import { Membership, type Stake } from './chain/membership.ts'
import type { SignerConfig } from './config.ts'
import { claimable, drawEarnings } from './earnings.ts'
import { SignerError } from './error.ts'
import { registerRoutes } from './http/routes.ts'
import { Intake } from './intake/intake.ts'
import { Slots } from './intake/slots.ts'
import { createSignerMetrics } from './metrics.ts'
import { BlobStates } from './serve/blob-states.ts'
import { RowServer } from './serve/row-server.ts'
import { describeStatus, type SignerStatus, statusLine } from './status.ts'
import { DiskSpace } from './store/disk-space.ts'
import { RowFiles } from './store/row-files.ts'
import { SignerStore } from './store/signer-store.ts'
import { CustodyWorker } from './work/custody-worker.ts'
import { type Loop, startLoop } from './work/loop.ts'
import { prune, reconcile } from './work/pruner.ts'
import { Repairer } from './work/repairer.ts'
import { Sampler } from './work/sampler.ts'

export { SIGNER_ENV_PREFIX, type SignerConfig, type SignerConfigInput, signerConfigSchema } from './config.ts'
export type { SignerStatus } from './status.ts'

/** What a signer is given from outside. */
export interface SignerContext {
  log: Logger
  /** Holds the stake and pays for gas; see `signerAccount`. */
  account: LocalAccount
  /** Signs blobs, 32 bytes; see `blsSecret`. */
  blsSecret: Uint8Array
  /** Stops the start while it waits for the chain. */
  signal?: AbortSignal | undefined
  metrics?: Metrics | undefined
  /** A codec to share, which stays open. Default: one of its own. */
  codec?: BlobCodec | undefined
}

/** A signer that runs. */
export interface RunningSigner {
  /** Where it listens. */
  readonly url: string
  readonly address: Address
  readonly store: SignerStore
  readonly files: RowFiles
  status(): SignerStatus
  /** Removes what need not be held any more, now. Gives the number of blobs. */
  prune(): Promise<number>
  /** Stops signing and serving, closes everything. Repeatable. */
  close(): Promise<void>
}

const METRICS_MS = 1_000
/** An answer may wait this long for the chain, besides its transfer. */
const REQUEST_TIMEOUT_MS = 900_000

type Stack = ReturnType<typeof createCloseStack>

/**
 * Starts a signer: joins the table of signers if it is not there, follows payments on the chain, takes, checks and keeps
 * its rows, signs for them, hands them out, answers samples and custody requests, and removes what has expired.
 *
 * @throws SignerError `SIGNER_CHAIN`, `SIGNER_IDENTITY`, `SIGNER_KEY`; chain, key, database and HTTP errors
 * @example
 * const config = signerConfigSchema.parse({ chain: { rpcUrls, signers, entrance } })
 * const signer = await startSigner(config, { log, account, blsSecret })
 */
export async function startSigner(config: SignerConfig, context: SignerContext): Promise<RunningSigner> {
  const stack = createCloseStack({ log: context.log, limitMs: 20_000 })
  try {
    return await assemble(config, context, stack)
  } catch (error) {
    await stack.close()
    throw error
  }
}

async function assemble(config: SignerConfig, context: SignerContext, stack: Stack): Promise<RunningSigner> {
  const { log, account } = context
  const metrics = context.metrics ?? createMetrics('weightless_da_signer')
  const ending = new AbortController()
  const { signal } = ending
  const starting = context.signal === undefined ? signal : AbortSignal.any([signal, context.signal])
  const key = blsKeyFromSecret(context.blsSecret)
  const address = account.address.toLowerCase() as Address

  const lock = lockDirectory(config.data.dir)
  stack.defer('data folder', () => lock.release())
  const chain = await openChain(config, starting)
  stack.defer('chain', () => chain.close())
  const contracts = await checkContracts(chain, config)
  const store = new SignerStore({
    dataDir: config.data.dir,
    identity: { chainId: chain.id, entrance: contracts.entrance, signer: address },
  })
  stack.defer('tables', () => store.close())
  const files = new RowFiles({ dir: join(config.data.dir, 'rows') })
  await reconcile({ store, files, nowMs: Date.now(), log })
  const { threads: workers, memoryBytes } = config.verification
  const codec = context.codec ?? (await BlobCodec.create({ workers, memoryBytes }))
  if (context.codec === undefined) stack.defer('codec', () => codec.close())
  const sender = createSender({ chain, account, gasPolicy: config.submission, log, metrics })
  stack.defer('transactions', () => sender.close())

  const epochs = new Epochs({ chain, signers: contracts.signers, signer: address })
  await epochs.refresh()
  const parts = new Parts({
    config,
    context,
    metrics,
    chain,
    contracts,
    store,
    files,
    codec,
    sender,
    epochs,
    key,
    signal,
  })
  const { url } = await parts.serve(stack)
  const follower = parts.follow()
  stack.defer('log follower', () => follower.done.catch(() => {}))
  const loops = parts.work({ url })
  stack.defer('loops', () => Promise.all(loops.map((loop) => loop.done)))
  parts.report(stack)
  log.info({ url, signer: address, epoch: epochs.current, entrance: contracts.entrance }, 'the signer runs')

  return {
    ...{ url, address, store, files },
    status: () => parts.status(),
    prune: () => parts.prune(),
    close: async () => {
      ending.abort(new SignerError({ code: 'SIGNER_STOPPED', message: 'the signer is stopping' }))
      await stack.close()
    },
  }
}

interface ContractAddresses {
  signers: Address
  entrance: Address
  custody: Address
}

interface PartsParameters {
  config: SignerConfig
  context: SignerContext
  metrics: Metrics
  chain: Chain
  contracts: ContractAddresses
  store: SignerStore
  files: RowFiles
  codec: BlobCodec
  sender: TransactionSender
  epochs: Epochs
  key: BlsKey
  signal: AbortSignal
}

/** The signer's parts, wired together. */
class Parts {
  readonly #given: PartsParameters
  readonly #rows: RowServer
  readonly #intake: Intake
  readonly #states: BlobStates
  readonly #uploads: Slots
  readonly #downloads: Slots
  readonly #membership: Membership
  readonly #sampler: Sampler
  readonly #custody: CustodyWorker
  readonly #repairer: Repairer
  readonly #counts = { stored: 0, refused: 0 }
  #follower: LogFollower | undefined
  #loops: Loop[] = []
  #stake: Stake | undefined
  #place: Awaited<ReturnType<Epochs['own']>>
  #money: { claimableWei: bigint; balanceWei: bigint } | undefined
  #url = ''
  #madeEpoch = -1
  #last: SignerStatus | undefined

  constructor(given: PartsParameters) {
    this.#given = given
    const { config, context, chain, contracts, store, files, codec, sender, epochs, key, signal } = given
    const { log } = context
    const nowMs = (): number => Date.now()
    const currentEpoch = (): number => epochs.current
    const heldBytes = (): number => store.held.totals().bytes
    const space = new DiskSpace({ ...config.data, heldBytes })
    this.#rows = new RowServer({ store, files, log, nowMs })
    this.#intake = new Intake({
      ...{ store, files, space, codec, currentEpoch, nowMs, log },
      ownRows: (epoch) => epochs.own(epoch),
      sign: (blob) => encodeG1(sign({ secret: key.secret, digest: blobDigest(blob) })),
    })
    this.#uploads = new Slots({ limit: config.uploads.maxConcurrent, what: 'uploads' })
    this.#downloads = new Slots({ limit: config.downloads.maxConcurrent, what: 'downloads' })
    this.#states = new BlobStates({
      ...{ store, currentEpoch, confirmations: config.chain.confirmations },
      ownRows: (epoch) => epochs.own(epoch),
      wake: () => this.#follower?.wake(),
    })
    this.#membership = new Membership({ chain, signers: contracts.signers, sender, key, log })
    const shared = { chain, sender, store, rows: this.#rows, log, signal }
    this.#sampler = new Sampler({ ...shared, ...config.sampling, entrance: contracts.entrance, currentEpoch })
    const { rpcUrls, startBlock } = config.chain
    const connection = openDaConnection({ rpcUrl: rpcUrls, chainId: chain.id, contracts, startBlock, codec })
    this.#repairer = new Repairer({ connection, store, intake: this.#intake, epochs, log, signal })
    this.#custody = new CustodyWorker({
      ...{ ...shared, custody: contracts.custody, maxInFlight: config.custody.maxInFlight },
      repair: (blob) => this.#repairer.repair(blob),
    })
    signal.addEventListener('abort', () => void connection.close(), { once: true })
  }

  /** Opens the server; its address is what goes on the chain unless the configuration names another. */
  async serve(stack: Stack): Promise<{ url: string }> {
    const { config, context, metrics } = this.#given
    const limit = config.downloads.rateLimitPerMinute
    const server: HttpServer = await createHttpServer({
      name: 'da-signer',
      ...config.listen,
      log: context.log,
      metrics,
      bodyLimitBytes: 1_024,
      requestTimeoutMs: REQUEST_TIMEOUT_MS,
      cors: true,
      health: () => this.#health(),
      ...(limit === undefined ? {} : { rateLimit: { requests: limit, windowMs: 60_000 } }),
      ...(config.trustedProxies === undefined ? {} : { trustedProxies: config.trustedProxies }),
    })
    const uploads = metrics.counter({ name: 'uploads_total', help: 'Uploads by outcome', labels: ['outcome'] })
    const uploaded = metrics.counter({ name: 'uploaded_bytes_total', help: 'Bytes of uploads that were stored' })
    registerRoutes({
      ...{ app: server.app, intake: this.#intake, rows: this.#rows, pace: config.uploads },
      ...{ uploads: this.#uploads, downloads: this.#downloads },
      state: (key, options) => this.#states.state(key, options),
      status: () => this.status(),
      onUpload: (outcome, bytes) => {
        this.#counts[outcome === 'stored' ? 'stored' : 'refused'] += 1
        uploads.inc({ outcome })
        uploaded.inc(bytes)
      },
    })
    stack.defer('server', () => server.close())
    stack.defer('waiting callers', () => this.#states.close())
    const { url } = await server.listen()
    this.#url = url
    return { url }
  }

  follow(): LogFollower {
    const { config, context, contracts, metrics, chain, store, epochs, signal } = this.#given
    this.#follower = followChain({
      ...config.chain,
      ...contracts,
      ...{ chain, store, epochs, metrics, signal, log: context.log },
      signer: context.account.address.toLowerCase() as Address,
      onNews: () => {
        this.#states.news()
        if (config.custody.answer) this.#loops.find(({ name }) => name === 'custody')?.wake()
      },
    })
    return this.#follower
  }

  work({ url }: { url: string }): Loop[] {
    const { config, context, signal } = this.#given
    const { host } = config.listen
    if (config.publicUrl === undefined && (host === '0.0.0.0' || host === '::')) {
      context.log.warn({ url }, 'publicUrl is not set: the chain gets a loopback address that nobody else can reach')
    }
    const begin = (name: string, intervalMs: number, round: () => Promise<void>): void => {
      this.#loops.push(startLoop({ name, intervalMs, round, log: context.log, signal }))
    }
    begin('membership', config.epochs.checkIntervalMs, () => this.#member(config.publicUrl ?? url))
    begin('pruning', config.data.pruneIntervalMs, async () => void (await this.prune()))
    begin('earnings', config.rewards.checkIntervalMs, () => this.#earnings())
    if (config.sampling.enabled) begin('sampling', config.sampling.pollIntervalMs, () => this.#sampler.round())
    if (config.custody.answer) begin('custody', config.custody.pollIntervalMs, () => this.#custody.round())
    if (config.repair.enabled) begin('repair', config.repair.intervalMs, () => this.#repairer.round())
    return [...this.#loops, { name: 'answers', done: this.#answersDone(), problem: () => undefined, wake: () => {} }]
  }

  report(stack: Stack): void {
    const { config, context, metrics } = this.#given
    const show = createSignerMetrics(metrics)
    const tick = setInterval(() => show(this.status()), METRICS_MS)
    const line = setInterval(() => context.log.info(statusLine(this.status())), config.log.statusIntervalMs)
    stack.defer('timers', () => {
      clearInterval(tick)
      clearInterval(line)
      this.#last = this.status()
    })
  }

  prune(): Promise<number> {
    const { config, context, store, files, epochs } = this.#given
    const graceEpochs = config.data.pruneGraceEpochs
    return prune({ store, files, currentEpoch: epochs.current, graceEpochs, nowMs: Date.now(), log: context.log })
  }

  status(): SignerStatus {
    if (this.#last !== undefined) return this.#last
    const { config, context, contracts, chain, store, epochs } = this.#given
    const { head, synced = false, reorgs = 0 } = this.#follower?.status() ?? {}
    return describeStatus({
      identity: {
        signer: context.account.address,
        chainId: chain.id,
        entrance: contracts.entrance,
        url: config.publicUrl ?? this.#url,
      },
      epoch: epochs.current,
      confirmations: config.chain.confirmations,
      follower: { head, synced, reorgs },
      ...{ store, place: this.#place, stake: this.#stake, sampling: this.#sampler.counts },
      maxBytes: config.data.maxBytes,
      lost: this.#repairer.lost,
      repaired: this.#repairer.repaired,
      claimableWei: this.#money?.claimableWei,
      balanceWei: this.#money?.balanceWei,
      uploads: { running: this.#uploads.taken, ...this.#counts },
      downloads: { running: this.#downloads.taken },
      problems: this.#problems(),
    })
  }

  async #member(url: string): Promise<void> {
    const { config, epochs, signal } = this.#given
    const epoch = await epochs.refresh()
    this.#place = await epochs.own(epoch)
    const { register, initialWei } = config.stake
    await this.#membership.ensure({ url, register, initialWei, signal })
    this.#stake = await this.#membership.stake()
    if (!config.epochs.make || this.#madeEpoch === epoch) return
    // One of the signers is enough, a different one each epoch.
    const place = this.#place
    const turn = place !== undefined && (place.firstRow === 0 || place.index === 0)
    this.#madeEpoch = epoch
    if (turn) await this.#membership.makeEpoch(signal)
  }

  async #earnings(): Promise<void> {
    const { config, contracts, chain, sender, signal } = this.#given
    const payee = sender.address
    const { samplesWei, custodyWei } = await claimable({ chain, ...contracts, payee })
    const claimableWei = samplesWei + custodyWei
    this.#money = { claimableWei, balanceWei: await chain.client.getBalance({ address: payee }) }
    const { withdrawAboveWei } = config.rewards
    if (withdrawAboveWei === undefined || claimableWei === 0n || claimableWei < withdrawAboveWei) return
    await drawEarnings({ chain, ...contracts, payee, sender, signal })
  }

  async #answersDone(): Promise<void> {
    const { signal } = this.#given
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    await this.#custody.idle()
  }

  #problems(): string[] {
    const follower = this.#follower?.status()
    const loops = this.#loops.flatMap(({ name, problem }) => (problem() === undefined ? [] : [`${name}: ${problem()}`]))
    const behind = follower?.consecutiveErrors ? [`chain: ${follower.lastError}`] : []
    return [...behind, ...loops, ...this.#custody.problems()].slice(0, 20)
  }

  #health(): HealthReport {
    const { state, chain, held, problems } = this.status()
    const full = held.bytes >= held.maxBytes
    const ok = problems.length === 0 && chain.synced && !full && held.damaged + held.lost === 0
    return {
      status: ok ? 'ok' : 'degraded',
      checks: { state, block: chain.block, synced: chain.synced, full, lost: held.damaged + held.lost, problems },
    }
  }
}

function openChain({ chain }: SignerConfig, signal: AbortSignal): Promise<Chain> {
  return connectChain({
    rpcUrls: chain.rpcUrls,
    chainId: chain.id,
    waitMs: chain.waitMs,
    pollingIntervalMs: Math.min(chain.pollIntervalMs, 500),
    signal,
  })
}

/** The contracts must know each other; the custody contract is found by them. */
async function checkContracts(chain: Chain, { chain: given }: SignerConfig): Promise<ContractAddresses> {
  const { signers, entrance } = given
  let named: Address
  let custody: Address
  try {
    named = await chain.client.readContract({ address: entrance, abi: entranceAbi, functionName: 'signers' })
    custody = await chain.client.readContract({ address: signers, abi: signersAbi, functionName: 'custody' })
  } catch (cause) {
    throw new SignerError({
      code: 'SIGNER_CHAIN',
      message: `there are no data-availability contracts at ${entrance} and ${signers}`,
      fix: 'check chain.entrance, chain.signers and the RPC endpoint',
      details: { entrance, signers },
      cause,
    })
  }
  if (named.toLowerCase() === signers && custody !== zeroAddress) {
    return { signers, entrance, custody: custody.toLowerCase() as Address }
  }
  throw new SignerError({
    code: 'SIGNER_CHAIN',
    message: `the entrance ${entrance} belongs to the signers’ contract ${named}, not to ${signers}`,
    fix: 'correct chain.signers',
    details: { entrance, named, signers },
  })
}
