import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { z } from 'zod'
import type { AttestationKind } from '#compute/attestation/attestor.ts'
import { parseCreateTask, parseTrainingParameters } from '#protocol/compute/fine-tuning/task.ts'
import {
  artefactDownloadDigest,
  cancelTaskDigest,
  checkTimestamp,
  createTaskDigest,
  datasetUploadDigest,
  verifyTaskSignature,
} from '#protocol/compute/fine-tuning/task-signature.ts'
import { termsDigest } from '#protocol/compute/fine-tuning/terms.ts'
import { recoverSigner, sameAddress } from '#protocol/compute/signature.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import type { FineTuningChain } from './chain/fine-tuning-chain.ts'
import type { FineTuningConfig } from './config.ts'
import type { Datasets } from './datasets.ts'
import { FineTuningError, uploadsBusy } from './error.ts'
import type { BaseModels } from './models.ts'
import type { TaskRow, TaskStore } from './store/task-store.ts'
import { estimateSeconds } from './task-view.ts'
import type { Pipeline } from './work/pipeline.ts'
import { priceTask } from './work/price.ts'
import { recipeOf, taskFiles } from './work/train.ts'

export interface TaskServiceParts {
  config: FineTuningConfig
  store: TaskStore
  datasets: Datasets
  models: BaseModels
  chain: FineTuningChain
  pipeline: Pipeline
  signer: Hex
  now: () => number
}

const signature = z.string().max(200)
const cancelSchema = z.object({ signature })
const artefactSchema = z.object({ signature, timestamp: z.coerce.number().int() })
const quoteSchema = z.object({
  datasetHash: z.string().regex(/^0x[0-9a-fA-F]{64}$/, 'expected 32 bytes in 0x hex'),
  preTrainedModelHash: z.string().regex(/^0x[0-9a-fA-F]{64}$/, 'expected 32 bytes in 0x hex'),
  trainingParams: z.string().max(4_096),
})

/** What a task would cost. Fees in wei as text. */
export interface TaskQuote {
  examples: number
  /** Of the dataset, once through. */
  tokens: number
  epochs: number
  /** -1 for none. */
  maxSteps: number
  /** What is paid for: tokens times passes, or those of the steps. */
  trainedTokens: number
  pricePerToken: string
  fee: string
  queuePosition: number
  estimatedSeconds: number
}

/** What users may do with tasks, each request checked wholly. */
export class TaskService {
  readonly parts: TaskServiceParts
  readonly provider: Hex
  #uploads = 0

  constructor(parts: TaskServiceParts) {
    this.parts = parts
    this.provider = parts.chain.provider
  }

  /** Who serves here, for clients. */
  async describe(attestation: AttestationKind) {
    const { chain, signer, config, store } = this.parts
    const service = await chain.service()
    return {
      ...{ provider: chain.provider, chainId: chain.chain.id, contract: chain.contract, signer, attestation },
      ...(attestation === 'simulated' ? { simulated: true } : {}),
      taskBook: await chain.taskBook(),
      pricePerToken: String(service?.pricePerTokenWei ?? 0n),
      ...{ storageFee: String(config.fees.storageWei), datasetBytes: config.limits.datasetBytes },
      storage: config.storage.indexerUrl !== undefined || config.storage.nodes.length > 0,
      ...{ waiting: store.waiting(), running: store.running(), devices: config.trainer.devices },
    }
  }

  queue() {
    const { store, config } = this.parts
    const tasks = store.inProgress('Init', 'SettingUp', 'SetUp', 'Training')
    return {
      ...{ waiting: store.waiting(), running: store.running(), limit: config.limits.queued },
      estimatedSeconds: estimateSeconds({ tasks, store }),
    }
  }

  /** Takes a dataset in. @throws FineTuningFormatError `TASK_SIGNATURE`; FineTuningError */
  async receiveDataset({ user, form }: { user: Hex; form: FormData }): Promise<Hash> {
    const { datasets, now } = this.parts
    const [file, given, timestamp] = [form.get('file'), form.get('signature'), form.get('timestamp')]
    if (!(file instanceof File)) throw badField('file', 'the form holds no file')
    if (typeof given !== 'string') throw badField('signature', 'the form holds no signature')
    if (typeof timestamp !== 'string' || !/^\d{1,12}$/.test(timestamp))
      throw badField('timestamp', 'no time in seconds')
    const timestampS = Number(timestamp)
    checkTimestamp({ timestampS, nowMs: now() })
    verifyTaskSignature({ user, digest: datasetUploadDigest({ user, timestampS }), signature: given })
    return await this.#limited(async () => datasets.put({ user, data: new Uint8Array(await file.arrayBuffer()) }))
  }

  /** What a task would cost: tokens are counted, nothing is created. */
  async quote(user: Hex, body: unknown): Promise<TaskQuote> {
    const { models, datasets, chain, config, store } = this.parts
    const { datasetHash, preTrainedModelHash, trainingParams } = parse(quoteSchema, body)
    const { num_train_epochs: epochs, max_steps: maxSteps } = parseTrainingParameters(trainingParams)
    const model = models.byHash(preTrainedModelHash)
    return await this.#limited(async () => {
      const folder = await mkdtemp(join(config.dataDir, 'quote-'))
      try {
        const hash = datasetHash.toLowerCase() as Hash
        const from = await datasets.find({ user, hash, to: join(folder, 'fetched.jsonl') })
        const price = await priceTask({
          ...{ config, chain, model, params: trainingParams, from, to: join(folder, 'dataset.jsonl') },
        })
        const { examples, tokens, trainedTokens, pricePerTokenWei, feeWei } = price
        const ahead = store.inProgress('Init', 'SettingUp', 'SetUp', 'Training')
        const own = { trainedTokens, step: 0, steps: 0 }
        return {
          ...{ examples, tokens, epochs, maxSteps, trainedTokens },
          ...{ pricePerToken: String(pricePerTokenWei), fee: String(feeWei) },
          ...{ queuePosition: ahead.length, estimatedSeconds: estimateSeconds({ tasks: [...ahead, own], store }) },
        }
      } finally {
        await rm(folder, { recursive: true, force: true })
      }
    })
  }

  /** Creates a task; its id. @throws FineTuningFormatError; FineTuningError */
  async create(user: Hex, body: unknown): Promise<string> {
    const { models, datasets, store, config, pipeline } = this.parts
    const task = parseCreateTask(body)
    const { datasetHash, trainingParams, terms } = task
    if (!sameAddress(task.userAddress, user)) throw badField('userAddress', 'it is not the user that the path names')
    const nonce = BigInt(task.nonce)
    const digest = createTaskDigest({ user, nonce, datasetHash })
    const userKey = verifyTaskSignature({ user, digest, signature: task.signature })
    parseTrainingParameters(trainingParams)
    const model = models.byHash(task.preTrainedModelHash)
    recipeOf({ params: trainingParams, model })
    const id = terms?.id ?? randomUUID()
    if (terms !== undefined) await this.#checkTerms({ user, ...terms })
    await this.#checkAccount({ user, nonce, hasTerms: terms !== undefined })
    const hash = datasetHash.toLowerCase() as Hex
    if (!datasets.known({ user, hash })) {
      throw new FineTuningError({
        ...{ code: 'DATASET_UNKNOWN', statusCode: 404, message: `no dataset ${datasetHash} was sent here` },
        fix: 'send it first; this provider reads no storage network',
        details: { field: 'datasetHash' },
      })
    }
    if (!task.wait && store.waiting() + store.running() >= config.trainer.devices) throw busy('the provider is busy')
    const outcome = store.create(
      {
        ...{ id, user, userKey, datasetHash: hash, params: trainingParams, modelHash: model.root, nonce },
        terms: terms === undefined ? undefined : { ...terms },
      },
      { maxWaiting: config.limits.queued },
    )
    if (outcome === 'full') throw busy(`${config.limits.queued} tasks wait already`)
    if (outcome === 'exists') {
      throw new FineTuningError({ code: 'TASK_EXISTS', statusCode: 409, message: `there is a task ${id} already` })
    }
    if (outcome === 'unfinished') {
      throw new FineTuningError({
        ...{ code: 'TASK_RUNNING', statusCode: 409 },
        message: 'cannot create a new task while there are in-progress tasks',
        fix: 'wait for the last one, cancel it, or acknowledge what it delivered',
      })
    }
    store.addLine(id, `created: base ${model.name}, dataset ${hash}`)
    await pipeline.begin(id)
    return id
  }

  /** Ends a task that does not train yet. */
  async cancel(task: TaskRow, body: unknown): Promise<void> {
    const { store } = this.parts
    const { signature: given } = parse(cancelSchema, body)
    verifyTaskSignature({ user: task.user, digest: cancelTaskDigest({ id: task.id }), signature: given })
    const waits = ['Init', 'SettingUp', 'SetUp'].includes(store.task(task.id)?.progress ?? '')
    const failure = { code: 'TASK_CANCELLED', message: 'cancelled by its user' }
    if (waits && store.fail(task.id, failure)) return
    throw new FineTuningError({
      ...{ code: 'TASK_NOT_READY', statusCode: 409, message: `the task is ${task.progress}: it cannot be cancelled` },
      fix: 'a task can be cancelled until it trains',
    })
  }

  /** The encrypted artefact, for its user. */
  async artefact(task: TaskRow, body: unknown): Promise<{ stream: Readable; sizeBytes: number }> {
    const { config, now } = this.parts
    const { signature: given, timestamp } = parse(artefactSchema, body)
    checkTimestamp({ timestampS: timestamp, nowMs: now() })
    const digest = artefactDownloadDigest({ id: task.id, timestampS: timestamp })
    verifyTaskSignature({ user: task.user, digest, signature: given })
    if (task.artefactRoot === undefined || task.deliveredAtMs === undefined) {
      throw new FineTuningError({
        ...{
          code: 'TASK_NOT_READY',
          statusCode: 409,
          message: `the task is ${task.progress}: nothing is delivered yet`,
        },
        fix: 'wait until it is Delivered',
      })
    }
    const { artefact } = taskFiles({ dataDir: config.dataDir, id: task.id })
    // Opened before anything else is waited for: it may be removed meanwhile, and a stream that fails unheard ends all.
    const file = await open(artefact, 'r').catch(() => undefined)
    if (file === undefined) {
      throw new FineTuningError({
        ...{
          code: 'ARTEFACT_GONE',
          statusCode: 410,
          message: `artefacts are kept here for ${config.artefactDays} days`,
        },
        fix: `fetch ${task.artefactRoot} from the storage network`,
        details: { root: task.artefactRoot },
      })
    }
    const { size: sizeBytes } = await file.stat()
    return { stream: file.createReadStream(), sizeBytes }
  }

  /** The signed record, for its user. */
  async lineage(task: TaskRow): Promise<Buffer> {
    const { lineage } = taskFiles({ dataDir: this.parts.config.dataDir, id: task.id })
    if (task.lineageRoot !== undefined && existsSync(lineage)) return await readFile(lineage)
    throw new FineTuningError({
      ...{ code: 'TASK_NOT_READY', statusCode: 409, message: 'there is no record of this task yet' },
      fix: 'wait until it is Delivered',
    })
  }

  async #checkTerms(o: { user: Hex; id: string; maxFee: string; deliverBy: number; signature: Hex }): Promise<void> {
    const { chain } = this.parts
    const { user, id, maxFee, deliverBy } = o
    const terms = { user, provider: chain.provider, id, maxFeeWei: BigInt(maxFee), deliverByS: deliverBy }
    const digest = termsDigest({ chainId: chain.chain.id, contract: await chain.taskBook(), terms })
    if (sameAddress(recoverSigner({ digest, signature: o.signature, zeroBased: false }), user)) return
    throw badField('terms.signature', 'the terms are not signed by the user')
  }

  async #checkAccount(o: { user: Hex; nonce: bigint; hasTerms: boolean }): Promise<void> {
    const { user, nonce, hasTerms } = o
    const { chain, signer } = this.parts
    const [account, service] = await Promise.all([chain.account(user), chain.service()])
    if (account === undefined) {
      throw new FineTuningError({
        ...{ code: 'ACCOUNT_MISSING', message: 'the user has no sub-account with this provider' },
        fix: 'transfer some of the deposit to this provider first',
      })
    }
    if (!account.acknowledged) {
      throw new FineTuningError({
        ...{ code: 'ACCOUNT_NOT_ACKNOWLEDGED', message: "the user has not acknowledged the provider's signer" },
        fix: 'acknowledge it: acknowledgeTEESigner(provider, true)',
      })
    }
    if (service === undefined || !service.acknowledged || !sameAddress(service.signer, signer)) {
      throw new FineTuningError({
        ...{ code: 'SIGNER_NOT_APPROVED', statusCode: 503, message: "the provider's signer is not approved" },
        fix: 'use another provider until governance has approved it',
      })
    }
    if (account.signedOnlyFromS > 0n && !hasTerms) {
      throw new FineTuningError({
        ...{ code: 'TERMS_REQUIRED', message: 'this account pays only for tasks whose terms it signed' },
        fix: 'sign terms for the task, or allow other charges: setSignedChargesOnly(provider, false)',
        details: { field: 'terms' },
      })
    }
    if (nonce > account.nonce) return
    throw new FineTuningError({
      ...{ code: 'NONCE_USED', message: `the nonce ${nonce} is not above ${account.nonce}` },
      fix: 'take the time in milliseconds times 10,000',
      details: { field: 'nonce' },
    })
  }

  /** Few at once: datasets lie in memory while they are received. */
  async #limited<T>(work: () => Promise<T>): Promise<T> {
    const { uploads } = this.parts.config.limits
    if (this.#uploads >= uploads) throw uploadsBusy(uploads)
    this.#uploads += 1
    try {
      return await work()
    } finally {
      this.#uploads -= 1
    }
  }
}

function parse<T>(schema: z.ZodType<T>, body: unknown): T {
  const parsed = schema.safeParse(body)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw badField(issue?.path.join('.') || 'body', issue?.message ?? 'not as expected')
}

function badField(field: string, message: string): FineTuningError {
  return new FineTuningError({ code: 'REQUEST_FORMAT', message: `${field}: ${message}`, details: { field } })
}

function busy(why: string): FineTuningError {
  return new FineTuningError({
    ...{ code: 'QUEUE_FULL', statusCode: 409, message: `${why}, and the task does not wait` },
    fix: 'send wait: true, or try again later',
  })
}
