import type { Address } from 'viem'
import { openDaConnection } from '#client/da/connection.ts'
import type { Chain } from '#kit/chain/client.ts'
import type { LogFollower } from '#kit/chain/log-follower.ts'
import type { TransactionSender } from '#kit/chain/sender.ts'
import type { createCloseStack } from '#kit/close-stack.ts'
import { createHttpServer, type HealthReport, type HttpServer } from '#kit/http/server.ts'
import type { Logger } from '#kit/log.ts'
import type { Metrics } from '#kit/metrics.ts'
import type { BlobCodec } from '#protocol/da/blob-codec.ts'
import { type BlsKey, encodeG1, sign } from '#protocol/da/bls.ts'
import { blobDigest } from '#protocol/da/messages.ts'
import { followChain } from './chain/chain-log.ts'
import type { Epochs } from './chain/epochs.ts'
import { Membership, type Stake } from './chain/membership.ts'
import type { SignerConfig } from './config.ts'
import { claimable, drawEarnings } from './earnings.ts'
import { registerRoutes } from './http/routes.ts'
import { Intake } from './intake/intake.ts'
import { Slots } from './intake/slots.ts'
import { createSignerMetrics } from './metrics.ts'
import { BlobStates } from './serve/blob-states.ts'
import { RowServer } from './serve/row-server.ts'
import { describeStatus, type SignerStatus, statusLine } from './status.ts'
import { DiskSpace } from './store/disk-space.ts'
import type { RowFiles } from './store/row-files.ts'
import type { SignerStore } from './store/signer-store.ts'
import { CustodyWorker } from './work/custody-worker.ts'
import { type Loop, startLoop } from './work/loop.ts'
import { prune } from './work/pruner.ts'
import { Repairer } from './work/repairer.ts'
import { Sampler } from './work/sampler.ts'

const METRICS_MS = 1_000
/** An answer may wait this long for the chain, besides its transfer. */
const REQUEST_TIMEOUT_MS = 900_000

type Stack = ReturnType<typeof createCloseStack>

/** The contracts of data availability. */
export interface ContractAddresses {
  signers: Address
  entrance: Address
  custody: Address
}

/** What the parts are made of. */
export interface PartsParameters {
  config: SignerConfig
  account: Address
  log: Logger
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

/** The signer's parts, wired together: server, log follower, and the loops beside them. */
export class SignerParts {
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
    const { config, log, chain, contracts, store, files, codec, sender, epochs, key, signal } = given
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
    const { config, log, metrics } = this.#given
    const limit = config.downloads.rateLimitPerMinute
    const server: HttpServer = await createHttpServer({
      name: 'da-signer',
      ...config.listen,
      log,
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
    const { config, account, log, contracts, metrics, chain, store, epochs, signal } = this.#given
    this.#follower = followChain({
      ...config.chain,
      ...contracts,
      ...{ chain, store, epochs, metrics, signal, log },
      signer: account,
      onNews: () => {
        this.#states.news()
        if (config.custody.answer) this.#loops.find(({ name }) => name === 'custody')?.wake()
      },
    })
    return this.#follower
  }

  work({ url }: { url: string }): Loop[] {
    const { config, log, signal } = this.#given
    const { host } = config.listen
    if (config.publicUrl === undefined && (host === '0.0.0.0' || host === '::')) {
      log.warn({ url }, 'publicUrl is not set: the chain gets a loopback address that nobody else can reach')
    }
    const begin = (name: string, intervalMs: number, round: () => Promise<void>): void => {
      this.#loops.push(startLoop({ name, intervalMs, round, log, signal }))
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
    const { config, log, metrics } = this.#given
    const show = createSignerMetrics(metrics)
    const tick = setInterval(() => show(this.status()), METRICS_MS)
    const line = setInterval(() => log.info(statusLine(this.status())), config.log.statusIntervalMs)
    stack.defer('timers', () => {
      clearInterval(tick)
      clearInterval(line)
      this.#last = this.status()
    })
  }

  prune(): Promise<number> {
    const { config, log, store, files, epochs } = this.#given
    const graceEpochs = config.data.pruneGraceEpochs
    return prune({ store, files, currentEpoch: epochs.current, graceEpochs, nowMs: Date.now(), log })
  }

  status(): SignerStatus {
    if (this.#last !== undefined) return this.#last
    const { config, account, contracts, chain, store, epochs } = this.#given
    const { head, synced = false, reorgs = 0 } = this.#follower?.status() ?? {}
    return describeStatus({
      identity: {
        signer: account,
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
