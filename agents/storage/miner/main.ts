import type { LocalAccount } from 'viem'
import { connectChain } from '#kit/chain/client.ts'
import { createSender } from '#kit/chain/sender.ts'
import { createCloseStack } from '#kit/close-stack.ts'
import { lockDirectory } from '#kit/directory-lock.ts'
import { createHttpServer, type HealthReport } from '#kit/http/server.ts'
import type { Logger } from '#kit/log.ts'
import { createMetrics, type Metrics } from '#kit/metrics.ts'
import { poraMineAbi } from '#protocol/abi/pora-mine.ts'
import { formatShard } from '#protocol/storage/shard.ts'
import { ContextRecorder } from './chain/context-recorder.ts'
import { EpochMirror } from './chain/epoch-mirror.ts'
import { MineContracts, PORA_VERSION } from './chain/mine-contracts.ts'
import { resolveMinerId } from './chain/miner-id.ts'
import { Watcher } from './chain/watcher.ts'
import type { MinerConfig } from './config.ts'
import { MinerError } from './error.ts'
import { FlowSource } from './fetch/flow-source.ts'
import { createMinerMetrics } from './metrics.ts'
import { Miner } from './miner.ts'
import { RewardKeeper } from './rewards.ts'
import { type MinerStatus, statusLine } from './status.ts'
import { MinerStore } from './store/miner-store.ts'
import { AnswerAudit } from './submit/answer-audit.ts'
import { AnswerLog } from './submit/answer-log.ts'

export {
  MINER_ALIAS_ENV_PREFIX,
  MINER_CONFIG_ALIASES,
  MINER_ENV_PREFIX,
  type MinerConfig,
  type MinerConfigInput,
  minerConfigSchema,
} from './config.ts'
export type { MinerStatus } from './status.ts'

/** What a miner is given from outside. */
export interface MinerContext {
  log: Logger
  /** Pays for gas; see `agentAccount` of `#kit/keys/agent-account.ts`. */
  account: LocalAccount
  /** Stops the start while it waits for the chain. */
  signal?: AbortSignal | undefined
  metrics?: Metrics | undefined
}

/** A miner that runs. */
export interface RunningMiner {
  /** Address of `/healthz`, `/metrics` and `/v1/status`. */
  readonly url: string
  readonly store: MinerStore
  status(): MinerStatus
  /** Stops mining, finishes what is being written, closes everything. Repeatable. */
  close(): Promise<void>
}

const TICK_MS = 1_000
const BODY_BYTES = 1_024

/**
 * Starts a miner: registers an id if there is none, seals the data of its shard in the background, mines what is
 * sealed, answers, and keeps an eye on the rewards.
 *
 * @throws MinerError `MINER_IDENTITY`, `MINER_ID`, `MINER_CHAIN`; chain, key, database and HTTP errors
 * @example
 * const config = minerConfigSchema.parse({ chain: { rpcUrls, flow, mine, reward }, nodes: { urls } })
 * const miner = await startMiner(config, { log, account })
 */
export async function startMiner(config: MinerConfig, context: MinerContext): Promise<RunningMiner> {
  const stack = createCloseStack({ log: context.log, limitMs: 20_000 })
  try {
    return await assemble(config, context, stack)
  } catch (error) {
    await stack.close()
    throw error
  }
}

type Stack = ReturnType<typeof createCloseStack>

async function assemble(config: MinerConfig, context: MinerContext, stack: Stack): Promise<RunningMiner> {
  const { log } = context
  const metrics = context.metrics ?? createMetrics('weightless_miner')
  const ending = new AbortController()
  const { signal } = ending
  const parts = await openParts({ config, context, stack, metrics, signal })
  const { store, identity, contracts, sender } = parts

  const answers = new AnswerLog(store)
  const source = new FlowSource({ urls: config.nodes.urls, stallTimeoutMs: config.nodes.stallTimeoutMs, log })
  const common = { ...identity, store, contracts, sender, answers, log, signal }
  const rewards = new RewardKeeper({ ...common, ...config.rewards })
  let last: MinerStatus | undefined
  const miner = new Miner({ ...common, config, source, rewards })
  stack.defer('mining', async () => {
    await miner.stopped()
    // The tables close next.
    last = miner.status()
  })
  const status = (): MinerStatus => last ?? miner.status()

  const recorder = new ContextRecorder(common)
  const watcher = new Watcher({
    ...common,
    shard: config.data.shard,
    mirror: new EpochMirror(common),
    pollIntervalMs: config.chain.pollIntervalMs,
    onLook: (situation, epochsChanged) => {
      miner.see(situation, epochsChanged)
      if (config.chain.recordContexts) recorder.consider(situation)
    },
    onBlind: (reason) => miner.blind(reason),
  })
  const url = await serve({ config, log, metrics, stack, status })
  const audit = new AnswerAudit({ ...common, recheckIntervalMs: config.submission.recheckIntervalMs })
  const loops = [watcher.run(), miner.run(), rewards.run(), audit.run()]
  stack.defer('loops', () => Promise.all(loops))
  repeatStatus({ config, log, metrics, stack, miner })
  log.info({ url, ...identity, account: sender.address, shard: formatShard(config.data.shard) }, 'the miner runs')

  async function close(): Promise<void> {
    ending.abort(new MinerError({ code: 'MINER_STOPPED', message: 'the miner is stopping' }))
    await stack.close()
  }
  return { url, store, status, close }
}

/** Chain, tables, account and id. */
async function openParts({ config, context, stack, metrics, signal }: OpenPartsParameters) {
  const { log, account } = context
  const { flow, mine, reward } = config.chain
  const starting = context.signal ? AbortSignal.any([signal, context.signal]) : signal
  const lock = lockDirectory(config.data.dir)
  stack.defer('data folder', () => lock.release())
  const chain = await connectChain({
    rpcUrls: config.chain.rpcUrls,
    chainId: config.chain.id,
    waitMs: config.chain.waitMs,
    pollingIntervalMs: Math.min(config.chain.pollIntervalMs, 500),
    signal: starting,
  })
  stack.defer('chain', () => chain.close())
  const contracts = new MineContracts({ chain, flow, mine, reward })
  await checkVersion(contracts)
  const store = new MinerStore({
    dataDir: config.data.dir,
    identity: { chainId: chain.id, flow, mine },
    shard: config.data.shard,
  })
  stack.defer('tables', () => store.close())
  const sender = createSender({ chain, account, gasPolicy: gasPolicy(config), abi: poraMineAbi, log, metrics })
  stack.defer('transactions', () => sender.close())
  const wanted = config.mining
  const identity = await resolveMinerId({ store, contracts, sender, log, wanted, signal: starting })
  return { store, contracts, sender, identity }
}

interface OpenPartsParameters {
  config: MinerConfig
  context: MinerContext
  stack: Stack
  metrics: Metrics
  signal: AbortSignal
}

interface ServeParameters {
  config: MinerConfig
  log: Logger
  metrics: Metrics
  stack: Stack
}

async function serve({ config, log, metrics, stack, status }: ServeParameters & { status: () => MinerStatus }) {
  const server = await createHttpServer({
    name: 'miner',
    ...config.listen,
    log,
    metrics,
    bodyLimitBytes: BODY_BYTES,
    health: () => healthOf(status()),
  })
  server.app.get('/v1/status', async () => status())
  stack.defer('server', () => server.close())
  return (await server.listen()).url
}

function repeatStatus({ config, log, metrics, stack, miner }: ServeParameters & { miner: Miner }): void {
  const show = createMinerMetrics(metrics)
  const tick = setInterval(() => {
    miner.tick()
    show(miner.status())
  }, TICK_MS)
  const line = setInterval(() => log.info(statusLine(miner.status())), config.log.statusIntervalMs)
  stack.defer('timers', () => {
    clearInterval(tick)
    clearInterval(line)
  })
}

async function checkVersion(contracts: MineContracts): Promise<void> {
  let version: bigint
  try {
    version = await contracts.poraVersion()
  } catch (cause) {
    throw new MinerError({
      code: 'MINER_CHAIN',
      message: `there is no mining contract at ${contracts.mine}`,
      fix: 'check chain.mine and the RPC endpoint',
      details: { mine: contracts.mine },
      cause,
    })
  }
  if (version === PORA_VERSION) return
  throw new MinerError({
    code: 'MINER_CHAIN',
    message: `the mining contract has rules of version ${version}, this miner knows version ${PORA_VERSION}`,
    fix: 'install the version of this program that fits the contract',
    details: { mine: contracts.mine, version: String(version) },
  })
}

function gasPolicy({ submission }: MinerConfig) {
  const { maxFeePerGasWei, maxPriorityFeePerGasWei, maxGas, bumpPercent, stuckAfterMs, maxReplacements, legacy } =
    submission
  return { maxFeePerGasWei, maxPriorityFeePerGasWei, maxGas, bumpPercent, stuckAfterMs, maxReplacements, legacy }
}

function healthOf(status: MinerStatus): HealthReport {
  const problems = {
    ...(status.chain.problem === undefined ? {} : { chain: status.chain.problem }),
    ...(status.nodes.length === 0 ? {} : { nodes: status.nodes }),
    ...(status.sealing.problem === undefined ? {} : { sealing: status.sealing.problem }),
    ...(status.money.accountBalanceWei === '0' ? { account: 'holds nothing to pay gas with' } : {}),
  }
  return {
    status: Object.keys(problems).length === 0 ? 'ok' : 'degraded',
    checks: { state: status.state, reason: status.reason, head: status.chain.head, ...problems },
  }
}
