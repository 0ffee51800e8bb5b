import { mkdir, rm } from 'node:fs/promises'
import type { LocalAccount } from 'viem'
import { TrainerError } from '#compute/trainer/error.ts'
import type { Logger } from '#kit/log.ts'
import { type JobWorker, openQueue, PermanentJobError, type Queue } from '#kit/queue/queue.ts'
import { FineTuningFormatError } from '#protocol/compute/fine-tuning/error.ts'
import type { Lineage } from '#protocol/compute/fine-tuning/lineage.ts'
import { WeightlessError } from '#protocol/error.ts'
import { type FineTuningChain, revertName } from '../chain/fine-tuning-chain.ts'
import type { FineTuningConfig } from '../config.ts'
import type { Datasets } from '../datasets.ts'
import { FineTuningError } from '../error.ts'
import { type BaseModels, requireUnchanged } from '../models.ts'
import type { ArtefactStorage } from '../storage.ts'
import type { TaskRow, TaskStore } from '../store/task-store.ts'
import { deliverTask } from './deliver.ts'
import { priceTask } from './price.ts'
import { type TaskFiles, taskFiles, trainTask } from './train.ts'

export interface PipelineParameters {
  config: FineTuningConfig
  store: TaskStore
  datasets: Datasets
  models: BaseModels
  storage: ArtefactStorage | undefined
  chain: FineTuningChain
  signer: LocalAccount
  trainer: Lineage['trainer']
  log: Logger
  now: () => number
  queueUrl: string | undefined
}

type TaskJob = { task: string }
type Step = 'prepare' | 'train' | 'deliver'

/** Tries of reading a dataset and the chain before a task is given up. */
const PREPARE_ATTEMPTS = 8
/** A restart costs an attempt; crashes are counted apart. */
const TRAIN_ATTEMPTS = 1_000
/** What cannot get better by waiting. */
const HOPELESS: ReadonlySet<string> = new Set([
  ...['TRAINER_RECIPE', 'TRAINER_DATASET_LINE', 'TRAINER_DATASET_EMPTY', 'TRAINER_DATASET_SIZE', 'TRAINER_BASE'],
  ...['TRAINER_ARCHITECTURE', 'TRAINER_TOKENIZER', 'TRAINER_LOSS', 'TRAINER_MEMORY', 'TRAINER_DEVICE'],
  ...['TRAINER_PROTOCOL', 'TRAINER_CHECKPOINT', 'DATASET_UNKNOWN', 'DATASET_LIMIT', 'MODEL_UNKNOWN', 'MODEL_CHANGED'],
  ...['FEE_NOT_COVERED', 'FEE_ABOVE_TERMS', 'TERMS_REFUSED', 'TERMS_EXPIRED', 'ACCOUNT_MISSING', 'TASK_PARAMETERS'],
])

/**
 * The way of a task from creation to delivery, as durable jobs: prepare (read, count, price), train (one job per device),
 * deliver. What is done stands in the store, so every job may be begun again after a crash.
 */
export class Pipeline {
  readonly #parameters: PipelineParameters
  readonly #queues: Readonly<Record<Step, Queue<TaskJob, null>>>
  readonly #workers: JobWorker[] = []

  private constructor(parameters: PipelineParameters, queues: Readonly<Record<Step, Queue<TaskJob, null>>>) {
    this.#parameters = parameters
    this.#queues = queues
  }

  /** Opens the queues and goes on with every unfinished task. @throws QueueError */
  static async open(parameters: PipelineParameters): Promise<Pipeline> {
    const { config, chain, log, queueUrl } = parameters
    const name = `${chain.chain.id}-${chain.provider.slice(2, 14)}`
    const open = (step: Step) =>
      openQueue<TaskJob, null>({ url: queueUrl, dataDir: config.dataDir, name: `ft-${step}-${name}`, log })
    const opened = await Promise.allSettled([open('prepare'), open('train'), open('deliver')])
    const [prepare, train, deliver] = opened.map((each) => (each.status === 'fulfilled' ? each.value : undefined))
    if (prepare === undefined || train === undefined || deliver === undefined) {
      for (const queue of [prepare, train, deliver]) await queue?.close()
      throw opened.find((each) => each.status === 'rejected')?.reason
    }
    const pipeline = new Pipeline(parameters, { prepare, train, deliver })
    await pipeline.#resume().catch(async (error: unknown) => {
      await pipeline.close()
      throw error
    })
    pipeline.#start('prepare', { concurrency: 2, run: (task, signal) => pipeline.#prepare(task, signal) })
    pipeline.#start('train', {
      ...{ concurrency: config.trainer.devices, closeTimeoutMs: config.trainer.stopMs + 5_000 },
      run: (task, signal) => pipeline.#train(task, signal),
    })
    pipeline.#start('deliver', { concurrency: 2, run: (task, signal) => pipeline.#deliver(task, signal) })
    return pipeline
  }

  /** Begins a new task. */
  async begin(id: string): Promise<void> {
    await this.#add('prepare', id)
  }

  async close(): Promise<void> {
    for (const queue of Object.values(this.#queues)) await queue.close()
  }

  async #resume(): Promise<void> {
    const { store } = this.#parameters
    for (const { id } of store.inProgress('Init', 'SettingUp')) await this.#add('prepare', id)
    for (const { id } of store.inProgress('SetUp', 'Training')) await this.#add('train', id)
    for (const { id } of store.inProgress('Trained', 'Delivering')) await this.#add('deliver', id)
  }

  async #add(step: Step, id: string): Promise<void> {
    const queue = this.#queues[step]
    const { attempts, retryMs } = this.#parameters.config.storage
    const known = await queue.get(id)
    if (known?.state === 'failed') return await queue.retry(id)
    await queue.add({
      ...{ id, data: { task: id } },
      attempts: step === 'train' ? TRAIN_ATTEMPTS : step === 'deliver' ? attempts : PREPARE_ATTEMPTS,
      backoff: step === 'deliver' ? { type: 'exponential', delayMs: retryMs } : { type: 'fixed', delayMs: 1_000 },
    })
  }

  #start(
    step: Step,
    o: { concurrency: number; closeTimeoutMs?: number; run: (task: TaskRow, signal: AbortSignal) => Promise<void> },
  ): void {
    const { store } = this.#parameters
    const last = { prepare: PREPARE_ATTEMPTS, train: TRAIN_ATTEMPTS, deliver: this.#parameters.config.storage.attempts }
    const worker = this.#queues[step].process({
      ...{ concurrency: o.concurrency, closeTimeoutMs: o.closeTimeoutMs },
      handler: async ({ data, signal, attempt }) => {
        const task = store.task(data.task)
        if (task === undefined || task.progress === 'Failed') return null
        try {
          await o.run(task, signal)
          return null
        } catch (error) {
          // A stop of the provider is no failure of the task.
          if (signal.aborted) throw error
          this.#failed(task, error, attempt >= last[step])
          throw error
        }
      },
    })
    this.#workers.push(worker)
  }

  /** Ends the task where trying again is of no use; otherwise it is noted and tried again. */
  #failed(task: TaskRow, error: unknown, isLast: boolean): void {
    const { store, log, config } = this.#parameters
    const known = error instanceof WeightlessError
    let isOver = isLast || (known && HOPELESS.has(error.code)) || error instanceof FineTuningFormatError
    if (error instanceof TrainerError && (error.code === 'TRAINER_CRASHED' || error.code === 'TRAINER_STALLED')) {
      const crashes = task.crashes + 1
      store.update(task.id, { crashes })
      isOver ||= crashes >= config.trainer.crashes
    }
    const undelivered = task.progress === 'Trained' || task.progress === 'Delivering'
    const failure = {
      code: isLast && undelivered ? 'DELIVERY_STORAGE' : known ? error.code : 'TASK_FAILED',
      message: known ? error.message : 'the task failed inside the provider',
      fix: known ? error.fix : 'create it again, or use another provider',
    }
    log.warn({ err: error, task: task.id, over: isOver }, 'a step of a task failed')
    if (!isOver) {
      store.addLine(task.id, `${failure.code}: ${failure.message}; trying again`)
      return
    }
    store.fail(task.id, failure)
    if (known) throw new PermanentJobError({ code: failure.code, message: failure.message, cause: error })
  }

  async #prepare(task: TaskRow, signal: AbortSignal): Promise<void> {
    const { store, datasets, models, chain, config } = this.#parameters
    const { id, user } = task
    if (!store.advance(id, ['Init', 'SettingUp'], 'SettingUp')) return await this.#next(id)
    const model = models.byHash(task.modelHash)
    const files = this.#files(id)
    await mkdir(files.folder, { recursive: true, mode: 0o700 })
    const from = await datasets.find({ user, hash: task.datasetHash, to: files.fetched, signal })
    const { examples, tokens, trainedTokens, feeWei } = await priceTask({
      ...{ config, chain, model, params: task.params, from, to: files.dataset, signal },
    })
    store.update(id, { feeWei, tokens, trainedTokens, examples })
    store.addLine(
      id,
      `dataset: ${examples} examples, ${tokens} tokens; ${trainedTokens} to train on; fee ${feeWei} wei`,
    )
    await this.#checkMoney({ ...task, feeWei })
    if (store.advance(id, ['SettingUp'], 'SetUp')) await this.#add('train', id)
  }

  async #checkMoney({ user, feeWei, terms }: Pick<TaskRow, 'user' | 'feeWei' | 'terms'>): Promise<void> {
    const account = await this.#parameters.chain.account(user)
    if (terms !== undefined && feeWei > BigInt(terms.maxFee)) {
      throw new FineTuningError({
        ...{ code: 'FEE_ABOVE_TERMS', message: `the task costs ${feeWei} wei, its terms allow ${terms.maxFee}` },
        fix: 'ask for a quote and sign terms that cover it',
        details: { field: 'terms.maxFee', feeWei, limit: terms.maxFee },
      })
    }
    const wantedWei = terms === undefined ? feeWei : BigInt(terms.maxFee)
    const freeWei = account?.freeWei ?? 0n
    if (wantedWei <= freeWei) return
    throw new FineTuningError({
      ...{ code: 'FEE_NOT_COVERED', message: `the task takes ${wantedWei} wei, the sub-account has ${freeWei} free` },
      fix: 'transfer more to the sub-account and create the task again',
      details: { field: 'fee', feeWei: wantedWei, freeWei },
    })
  }

  async #train(task: TaskRow, signal: AbortSignal): Promise<void> {
    const { store, models, config, now } = this.#parameters
    const { id } = task
    // From here on it cannot be cancelled.
    if (!store.advance(id, ['SetUp', 'Training'], 'Training')) return await this.#next(id)
    const model = models.byHash(task.modelHash)
    await requireUnchanged(model)
    await this.#openTerms(task)
    await trainTask({ task, model, store, files: this.#files(id), config: config.trainer, signal, now })
    store.advance(id, ['Training'], 'Trained')
    await this.#add('deliver', id)
  }

  async #openTerms({ id, user, terms }: TaskRow): Promise<void> {
    if (terms === undefined) return
    const { chain, store } = this.#parameters
    const { maxFee, deliverBy, signature } = terms
    try {
      await chain.openTask({ user, id, maxFeeWei: BigInt(maxFee), deliverByS: deliverBy, signature })
      store.update(id, { held: true })
    } catch (cause) {
      const name = revertName(cause)
      if (name === undefined) throw cause
      throw new FineTuningError({
        ...{ code: 'TERMS_REFUSED', message: `the chain refuses the task's terms: ${name}`, cause },
        fix: 'sign new terms, of the time and the balance that there are',
        details: { field: 'terms', reason: name },
      })
    }
  }

  async #deliver(task: TaskRow, signal: AbortSignal): Promise<void> {
    const { store, models, config, datasets, storage, chain, signer, trainer } = this.#parameters
    const { id, user } = task
    if (!store.advance(id, ['Trained', 'Delivering'], 'Delivering')) return
    const fresh = store.task(id) ?? task
    if (fresh.terms !== undefined && (await chain.nowS()) > fresh.terms.deliverBy) {
      throw new FineTuningError({
        ...{ code: 'TERMS_EXPIRED', message: 'the deadline of the terms passed before it could be delivered' },
        fix: 'what was held returns to the ledger; create the task again with a later deadline',
      })
    }
    const files = this.#files(id)
    const model = models.byHash(fresh.modelHash)
    const datasetPath = await datasets.find({ user, hash: fresh.datasetHash, to: files.fetched, signal })
    const parts = { task: fresh, model, store, files, storage, chain, signer, trainer, datasetPath, signal }
    await deliverTask(parts)
    if (!store.advance(id, ['Delivering'], 'Delivered')) return
    store.addLine(id, 'delivered: fetch it, acknowledge it, and the key is released')
    // The plain files have done their work; what is kept is encrypted.
    for (const path of [files.output, files.archive, files.dataset, files.fetched]) {
      await rm(path, { recursive: true, force: true })
    }
    this.#parameters.log.info({ task: id, chain: config.chain.id }, 'delivered a model')
  }

  /** A job that comes late: the task is further already. */
  async #next(id: string): Promise<void> {
    const progress = this.#parameters.store.task(id)?.progress
    if (progress === 'SetUp' || progress === 'Training') await this.#add('train', id)
    if (progress === 'Trained' || progress === 'Delivering') await this.#add('deliver', id)
  }

  #files(id: string): TaskFiles {
    return taskFiles({ dataDir: this.#parameters.config.dataDir, id })
  }
}
