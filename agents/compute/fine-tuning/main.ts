import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { LocalAccount } from 'viem'
import { type Attestor, dstackAttestor, noAttestor, simulatedAttestor } from '#compute/attestation/attestor.ts'
import { allowEveryOrigin } from '#compute/provider/http/cors.ts'
import { signingKey } from '#compute/provider/main.ts'
import { connectChain } from '#kit/chain/client.ts'
import { genesisOf } from '#kit/chain/genesis.ts'
import { createSender } from '#kit/chain/sender.ts'
import { createCloseStack } from '#kit/close-stack.ts'
import { lockDirectory } from '#kit/directory-lock.ts'
import { claimFolder } from '#kit/folder-identity.ts'
import { createHttpServer, type HealthReport } from '#kit/http/server.ts'
import type { Logger } from '#kit/log.ts'
import { createMetrics, type Metrics } from '#kit/metrics.ts'
import { fineTuningServingAbi } from '#protocol/abi/fine-tuning-serving.ts'
import type { Lineage } from '#protocol/compute/fine-tuning/lineage.ts'
import { type Hex, toHex } from '#protocol/hex.ts'
import { FineTuningChain } from './chain/fine-tuning-chain.ts'
import type { FineTuningConfig } from './config.ts'
import { Datasets } from './datasets.ts'
import { FineTuningError } from './error.ts'
import { registerRoutes } from './http/routes.ts'
import { openModels } from './models.ts'
import { FineTuningSettler } from './settle.ts'
import { openArtefactStorage } from './storage.ts'
import { TaskStore } from './store/task-store.ts'
import { TaskService } from './task-service.ts'
import { Pipeline } from './work/pipeline.ts'
import { taskFiles } from './work/train.ts'

export { type FineTuningConfig, fineTuningConfigSchema } from './config.ts'
export { FineTuningError } from './error.ts'

/** What a fine-tuning provider is given from outside. */
export interface FineTuningContext {
  log: Logger
  /** The wallet: delivers, settles, is paid, pays for storage. */
  account: LocalAccount
  signal?: AbortSignal | undefined
  metrics?: Metrics | undefined
  /** Default the system's clock, in milliseconds since 1970. */
  now?: (() => number) | undefined
  /** `QUEUE_URL`. Default the process's. */
  env?: Readonly<Record<string, string | undefined>> | undefined
}

/** A fine-tuning provider that serves. */
export interface RunningFineTuning {
  readonly url: string
  /** The wallet, lower case. */
  readonly address: Hex
  /** The address that signs artefacts and fees: to be named by the service. */
  readonly signer: Hex
  /** Looks now at what can be settled. */
  settle(): Promise<void>
  /** Takes no new requests, asks trainers for a checkpoint, closes. Repeatable. */
  close(): Promise<void>
}

const UPKEEP_MS = 600_000
const TRAINER_NAME = 'weightless-trainer'

/**
 * Starts a fine-tuning provider: takes datasets and tasks, trains them one after the other on each device, delivers what
 * came out encrypted, and settles.
 *
 * @throws FineTuningError `FINE_TUNING_SETUP`; TrainerError for a base model that cannot be trained; KeyError, HttpError
 * `HTTP_LISTEN`, AttestationError, QueueError, chain and database errors
 * @example
 * const config = fineTuningConfigSchema.parse({ models: [{ name: 'demo', path: 'demo.gguf' }], chain: { fineTuning } })
 * const provider = await startFineTuning(config, { log, account })
 */
export async function startFineTuning(
  config: FineTuningConfig,
  context: FineTuningContext,
): Promise<RunningFineTuning> {
  const stack = createCloseStack({ log: context.log, limitMs: config.trainer.stopMs + 30_000 })
  try {
    return await assemble(config, context, stack)
  } catch (error) {
    await stack.close()
    throw error
  }
}

async function assemble(
  config: FineTuningConfig,
  context: FineTuningContext,
  stack: ReturnType<typeof createCloseStack>,
): Promise<RunningFineTuning> {
  const { log, account, now = Date.now, env = process.env } = context
  const metrics = context.metrics ?? createMetrics('weightless_fine_tuning')
  const provider = account.address.toLowerCase() as Hex
  const contract = config.chain.fineTuning.toLowerCase() as Hex
  await mkdir(config.dataDir, { recursive: true, mode: 0o700 })
  const lock = lockDirectory(config.dataDir)
  stack.defer('data folder', () => lock.release())
  const signer = await signingKey(config.dataDir)
  const models = await openModels(config)
  const chain = await connectChain({
    ...{ rpcUrls: config.chain.rpcUrls, chainId: config.chain.id, waitMs: config.chain.waitMs },
    ...{ pollingIntervalMs: Math.min(config.chain.pollIntervalMs, 500), signal: context.signal },
  })
  stack.defer('chain', () => chain.close())
  await requireContract({ contract, code: await chain.client.getCode({ address: contract }) })
  const genesis = await genesisOf(chain)
  await claimFolder({ dir: config.dataDir, identity: { chainId: chain.id, genesis, contract, provider } })
  const attestor = openAttestor({ config, signer: signer.address, chainId: chain.id })
  const store = new TaskStore({ path: join(config.dataDir, 'tasks.db'), now })
  stack.defer('tasks', () => store.close())
  const sender = createSender({ chain, account, abi: fineTuningServingAbi, log })
  stack.defer('sender', () => sender.close())
  const serving = new FineTuningChain({ chain, contract, provider, sender, signer })
  const { indexerUrl, nodes, flow, replicas, timeoutMs } = config.storage
  const storage = openArtefactStorage({
    ...{
      rpcUrls: config.chain.rpcUrls,
      indexerUrl,
      nodes,
      flow: flow as Hex | undefined,
      account,
      replicas,
      timeoutMs,
    },
    journalDir: join(config.dataDir, 'uploads'),
  })
  stack.defer('storage', () => storage?.close())
  const { datasetBytes: maxBytes, datasetsPerUser: keepPerUser } = config.limits
  const datasets = new Datasets({ store, dataDir: config.dataDir, storage, maxBytes, keepPerUser })
  const trainer = await trainerIdentity(config.trainer.command)
  const queueUrl = config.queueUrl ?? (env.QUEUE_URL === '' ? undefined : env.QUEUE_URL)
  const pipeline = await Pipeline.open({
    ...{ config, store, datasets, models, storage, chain: serving, signer, trainer, log, now, queueUrl },
  })
  stack.defer('pipeline', () => pipeline.close())
  const settler = new FineTuningSettler({ store, chain: serving, log, now, ...config.settlement })
  stack.defer('settlement', () => settler.close())
  settler.start()

  const tasks = metrics.gauge({ name: 'tasks', help: 'Tasks that wait and train', labels: ['state'] })
  const collect = tasks as unknown as { collect: () => void }
  collect.collect = () => {
    tasks.set({ state: 'waiting' }, store.waiting())
    tasks.set({ state: 'training' }, store.running())
  }
  const service = new TaskService({
    ...{ config, store, datasets, models, chain: serving, pipeline, signer: signer.address, now },
  })
  const server = await createHttpServer({
    ...{ name: 'fine-tuning', host: config.host, port: config.port, log, metrics },
    bodyLimitBytes: 2 ** 17,
    health: () => healthOf({ serving, settler, store }),
    rateLimit: { requests: config.limits.requestsPerMinute, windowMs: 60_000 },
    trustedProxies: config.trustedProxies.length > 0 ? config.trustedProxies : undefined,
  })
  allowEveryOrigin(server.app)
  registerRoutes({ app: server.app, service, attestor, log })
  const { url } = await server.listen()
  stack.defer('http', () => server.close())
  const upkeep = setInterval(() => {
    void prune({ config, store, now }).catch((error: unknown) => log.warn({ err: error }, 'old artefacts stay'))
  }, UPKEEP_MS)
  stack.defer('upkeep', () => clearInterval(upkeep))
  log.info({ url, provider, signer: signer.address, attestation: attestor.kind }, 'the fine-tuning provider serves')
  return {
    ...{ url, address: provider, signer: signer.address.toLowerCase() as Hex },
    settle: () => settler.settle(),
    close: async () => void (await stack.close()),
  }
}

function openAttestor(parameters: { config: FineTuningConfig; signer: Hex; chainId: number }): Attestor {
  const { config, signer, chainId } = parameters
  const { kind, dstackSocket } = config.attestation
  if (kind === 'simulated') return simulatedAttestor({ signer, chainId })
  return kind === 'dstack' ? dstackAttestor({ signer, socketPath: dstackSocket }) : noAttestor({ signer })
}

function requireContract({ contract, code }: { contract: Hex; code: Hex | undefined }): void {
  if (code !== undefined && code !== '0x') return
  throw new FineTuningError({
    ...{ code: 'FINE_TUNING_SETUP', message: `there is no contract at ${contract}` },
    fix: 'set chain.fineTuning to the FineTuningServing contract of this chain',
    details: { field: 'chain.fineTuning' },
  })
}

/** What trains: the digest of the own trainer's sources, or of the command. */
async function trainerIdentity(command: readonly string[] | undefined): Promise<Lineage['trainer']> {
  const hash = createHash('sha256')
  if (command !== undefined) {
    hash.update(JSON.stringify(command))
    return { name: 'external', version: '1', digest: toHex(hash.digest()) }
  }
  const folder = fileURLToPath(new URL('../trainer', import.meta.url))
  for (const name of (await readdir(folder)).filter((each) => each.endsWith('.ts')).sort()) {
    hash.update(`${name}\0`).update(await readFile(join(folder, name)))
  }
  return { name: TRAINER_NAME, version: '1', digest: toHex(hash.digest()) }
}

async function healthOf(parts: {
  serving: FineTuningChain
  settler: FineTuningSettler
  store: TaskStore
}): Promise<HealthReport> {
  const { serving, settler, store } = parts
  const service = await serving.service()
  const well = service?.acknowledged === true && settler.lastError === undefined
  return {
    status: well ? 'ok' : 'degraded',
    checks: {
      ...{ registered: service !== undefined, signerAcknowledged: service?.acknowledged ?? false },
      ...{ waiting: store.waiting(), training: store.running() },
      ...(settler.lastError === undefined ? {} : { settlement: settler.lastError }),
    },
  }
}

/** Removes the files of tasks that ended long enough ago. */
async function prune(parts: { config: FineTuningConfig; store: TaskStore; now: () => number }): Promise<void> {
  const { config, store, now } = parts
  const before = now() - config.artefactDays * 86_400_000
  for (const { id, updatedAtMs } of store.inProgress('Finished', 'Failed')) {
    if (updatedAtMs < before)
      await rm(taskFiles({ dataDir: config.dataDir, id }).folder, { recursive: true, force: true })
  }
}
