import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { atomicWrite } from '#kit/files.ts'
import { parseTrainingParameters } from '#protocol/compute/fine-tuning/task.ts'
import { createTaskDigest, signTaskDigest } from '#protocol/compute/fine-tuning/task-signature.ts'
import { signTerms } from '#protocol/compute/fine-tuning/terms.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import { memorySource } from '#protocol/storage/byte-source.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import { FineTuningError } from '../error.ts'
import type { ArtefactStorage } from '../storage.ts'
import type { CurvePoint } from '../store/task-store.ts'
import type { TaskQuote } from '../task-service.ts'
import { fetchArtefact, openArtefact } from './fetch-model.ts'
import { ProviderApi } from './provider-api.ts'
import type { FineTuningWallet, OfferedService } from './wallet.ts'

/** What happens on the way. Amounts in wei. */
export type FineTuneEvent =
  | { type: 'quote'; quote: TaskQuote; service: OfferedService; depositWei: bigint; transferWei: bigint }
  | { type: 'funded' }
  | { type: 'created'; id: string }
  | { type: 'progress'; progress: string; queuePosition?: number | undefined; estimatedSeconds?: number | undefined }
  | { type: 'curve'; points: readonly CurvePoint[] }
  | { type: 'fetched'; root: Hash }
  | { type: 'acknowledged' }
  | { type: 'opened'; folder: string }

export interface FineTuneParameters {
  wallet: FineTuningWallet
  /** The account's key: opens what the provider encrypts for it. */
  secretKey: Uint8Array
  datasetPath: string
  /** Name of the base model at the provider, or root of its weights. */
  base: string
  /** The five settings as JSON text; see `parseTrainingParameters`. */
  trainingParams: string
  provider?: Hex | undefined
  /** Folder of the result and of the state: the same call with the same folder goes on where the last one stopped. */
  folder: string
  storage?: ArtefactStorage | undefined
  /** Time from creation to delivery that the terms allow, seconds. Default a day. */
  deliverWithinS?: number | undefined
  /** Asked once, with the price and before anything is paid; false stops. */
  confirm?: ((event: Extract<FineTuneEvent, { type: 'quote' }>) => Promise<boolean>) | undefined
  onEvent?: ((event: FineTuneEvent) => void) | undefined
  signal?: AbortSignal | undefined
  /** Pause between two looks. Default 2 s. */
  pollMs?: number | undefined
}

export interface FineTuneResult {
  id: string
  provider: Hex
  folder: string
  adapterPath: string
  baseRoot: Hash
  feeWei: bigint
  artefactRoot: Hash
  lineageRoot: Hash | undefined
}

const stateSchema = z.object({
  id: z.string(),
  provider: z.string().transform((text) => text as Hex),
  datasetHash: z.string().transform((text) => text as Hash),
  baseRoot: z.string().transform((text) => text as Hash),
  feeWei: z.string(),
  nonce: z.string(),
  deliverByS: z.number(),
  trainingParams: z.string(),
  created: z.boolean().default(false),
})
type State = z.output<typeof stateSchema>

const TASK_FILE = 'task.json'
const DAY_S = 86_400
const FINISH_WAIT_MS = 600_000

/**
 * From a dataset to an adapter on this disk: quote, deposit, task on signed terms, training, fetching, acknowledgement,
 * key. Stopped anywhere, the same call goes on from there and pays nothing twice.
 *
 * @throws FineTuningError `TASK_FAILED` with the provider's reason, `ARTEFACT_MISMATCH`, `TASK_WAIT`, …; what the provider
 * refuses with its own code; chain errors; the signal's reason
 */
export async function fineTune(parameters: FineTuneParameters): Promise<FineTuneResult> {
  const { wallet, folder, secretKey, storage, onEvent, signal } = parameters
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const before = await readState(folder)
  const service = await chooseService({ ...parameters, provider: before?.provider ?? parameters.provider })
  const { provider, signer } = service
  const api = new ProviderApi({ url: service.url, provider, account: wallet.account })
  let state = before ?? (await agree({ ...parameters, api, service }))
  if (!state.created) state = await create({ ...parameters, api, state })
  const { id } = state
  onEvent?.({ type: 'created', id })
  const artefact = join(folder, 'artefact.bin')
  const reader = wallet.reader(provider)
  const task = await follow({ ...parameters, api, id })
  const deliverable = await reader.deliverable(wallet.account.address, id)
  const root = deliverable?.modelRootHash
  if (root === undefined) throw failed('the chain names no deliverable for this task', 'ask the provider')
  if (!existsSync(artefact)) await fetchArtefact({ api, storage, id, root, signer, to: artefact, signal })
  onEvent?.({ type: 'fetched', root })
  await wallet.acknowledge({ provider, id })
  onEvent?.({ type: 'acknowledged' })
  const encryptedSecret = await waitForKey({ ...parameters, provider, id })
  const names = await openArtefact({ artefact, encryptedSecret, secretKey, signer, folder })
  const adapter = names.find((name) => name === 'adapter.gguf')
  if (adapter === undefined) throw failed('the artefact holds no adapter.gguf', 'ask the provider')
  await atomicWrite({ path: join(folder, 'lineage.json'), data: await api.lineage(id) })
  onEvent?.({ type: 'opened', folder })
  return {
    ...{ id, provider, folder, adapterPath: join(folder, adapter), baseRoot: state.baseRoot },
    ...{ feeWei: BigInt(state.feeWei), artefactRoot: root, lineageRoot: task.lineageRoot },
  }
}

async function chooseService(parameters: FineTuneParameters): Promise<OfferedService> {
  const { wallet, provider, base } = parameters
  const services = await wallet.services()
  const fitting = services.filter(
    (each) =>
      (provider === undefined || each.provider === provider.toLowerCase()) &&
      (provider !== undefined || base.startsWith('0x') || each.models.includes(base)),
  )
  fitting.sort((a, b) => (a.pricePerTokenWei < b.pricePerTokenWei ? -1 : 1))
  const [cheapest] = fitting
  if (cheapest !== undefined) return cheapest
  throw new FineTuningError({
    ...{ code: 'MODEL_UNKNOWN', message: `no approved provider offers ${base}` },
    fix: `models on offer: ${[...new Set(services.flatMap(({ models }) => models))].join(', ') || 'none'}`,
  })
}

/** Sends the dataset, gets the price, asks, and writes down what was agreed before anything is paid. */
async function agree(parameters: FineTuneParameters & { api: ProviderApi; service: OfferedService }): Promise<State> {
  const { wallet, api, service, base, datasetPath, trainingParams, folder, confirm, onEvent } = parameters
  parseTrainingParameters(trainingParams)
  const model = (await api.models()).find(({ name, hash }) => name === base || hash === base.toLowerCase())
  if (model === undefined)
    throw new FineTuningError({ code: 'MODEL_UNKNOWN', message: `${service.url} offers no ${base}` })
  const data = await readFile(datasetPath)
  const datasetHash = await datasetName({ ...parameters, data })
  const quote = await api.quote({ datasetHash, preTrainedModelHash: model.hash as Hash, trainingParams })
  const feeWei = BigInt(quote.fee)
  const { depositWei, transferWei } = await wallet.shortfall({ provider: service.provider, feeWei })
  const event = { type: 'quote', quote, service, depositWei, transferWei } as const
  onEvent?.(event)
  if (confirm !== undefined && !(await confirm(event))) throw new DOMException('declined', 'AbortError')
  const state: State = {
    ...{ id: randomUUID(), provider: service.provider, datasetHash, baseRoot: model.hash as Hash, created: false },
    ...{ feeWei: quote.fee, nonce: String(BigInt(Date.now()) * 10_000n + 40n), trainingParams },
    deliverByS: Math.floor(Date.now() / 1000) + (parameters.deliverWithinS ?? DAY_S),
  }
  await writeState(folder, state)
  return state
}

/** By its root where the network holds the dataset already; else it is sent, and seen by the provider alone. */
async function datasetName(parameters: FineTuneParameters & { api: ProviderApi; data: Uint8Array }): Promise<Hash> {
  const { api, data, storage } = parameters
  if (storage !== undefined && data.length > 0) {
    const { root } = await buildFileTree({ source: memorySource(data) })
    const known = await storage.has(root).catch(() => false)
    if (known && (await api.describe()).storage) return root
  }
  return await api.sendDataset(data)
}

async function create(parameters: FineTuneParameters & { api: ProviderApi; state: State }): Promise<State> {
  const { wallet, api, state, folder, onEvent } = parameters
  const { id, provider, datasetHash, baseRoot, feeWei, deliverByS, trainingParams } = state
  const { account } = wallet
  await wallet.fund({ provider, feeWei: BigInt(feeWei) })
  onEvent?.({ type: 'funded' })
  const contract = await wallet.reader(provider).taskBook()
  const terms = { user: account.address, provider, id, maxFeeWei: BigInt(feeWei), deliverByS }
  const nonce = BigInt(state.nonce)
  const digest = createTaskDigest({ user: account.address, nonce, datasetHash })
  const signature = await signTerms({ signer: account, chainId: wallet.chain.id, contract, terms })
  try {
    await api.create({
      ...{ userAddress: account.address, datasetHash, trainingParams, preTrainedModelHash: baseRoot, fee: '0' },
      ...{ nonce: state.nonce, signature: await signTaskDigest({ signer: account, digest }), wait: true },
      ...(BigInt(feeWei) > 0n ? { terms: { id, maxFee: feeWei, deliverBy: deliverByS, signature } } : {}),
    })
  } catch (error) {
    // An earlier try got through, and its answer did not.
    if (!(error instanceof Error) || Reflect.get(error, 'code') !== 'TASK_EXISTS') throw error
  }
  const created = { ...state, created: true }
  await writeState(folder, created)
  return created
}

/** Waits until a task is delivered, with its curve as it grows. */
async function follow(parameters: FineTuneParameters & { api: ProviderApi; id: string }) {
  const { api, id, onEvent, signal, pollMs = 2_000 } = parameters
  let last = 0
  for (let said = ''; ; ) {
    signal?.throwIfAborted()
    const task = await api.task(id)
    const points = await api.curve(id, last)
    if (points.length > 0) onEvent?.({ type: 'curve', points })
    last = points.at(-1)?.step ?? last
    const { progress, queuePosition, estimatedSeconds, failure } = task
    const line = `${progress} ${queuePosition}`
    if (line !== said) onEvent?.({ type: 'progress', progress, queuePosition, estimatedSeconds })
    said = line
    if (progress === 'Failed') {
      throw new FineTuningError({
        ...{ code: 'TASK_FAILED', message: `${failure?.code ?? 'failed'}: ${failure?.message ?? 'no reason given'}` },
        fix: failure?.fix ?? 'nothing was charged; what was held returns to the ledger',
        details: { id, reason: failure?.code },
      })
    }
    if (['Delivered', 'UserAcknowledged', 'Finished'].includes(progress)) return task
    await delay(pollMs, undefined, { signal })
  }
}

async function waitForKey(parameters: FineTuneParameters & { provider: Hex; id: string }): Promise<Hex> {
  const { wallet, provider, id, signal, pollMs = 2_000 } = parameters
  const giveUpAt = Date.now() + FINISH_WAIT_MS
  for (;;) {
    const found = await wallet.reader(provider).deliverable(wallet.account.address, id)
    if (found?.settled === true && found.encryptedSecret !== '0x') return found.encryptedSecret
    if (found?.settled === true) throw failed('the provider closed this task without its key', 'create the task again')
    if (Date.now() > giveUpAt) {
      throw new FineTuningError({
        ...{ code: 'TASK_WAIT', message: 'the provider has not released the key yet; it is paid only when it does' },
        fix: 'run the same command again later: it goes on here',
      })
    }
    await delay(pollMs, undefined, { signal })
  }
}

async function readState(folder: string): Promise<State | undefined> {
  const path = join(folder, TASK_FILE)
  if (!existsSync(path)) return undefined
  return stateSchema.parse(JSON.parse(await readFile(path, 'utf8')))
}

async function writeState(folder: string, state: State): Promise<void> {
  await atomicWrite({ path: join(folder, TASK_FILE), data: `${JSON.stringify(state, null, 2)}\n`, mode: 0o600 })
}

function failed(message: string, fix: string): FineTuningError {
  return new FineTuningError({ code: 'TASK_FAILED', message, fix })
}
