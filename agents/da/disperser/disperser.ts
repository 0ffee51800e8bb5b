import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { currentEpoch, readBlob } from '#client/da/blob-record.ts'
import { type Certificate, type ConfirmBlobsParameters, confirmBlobs } from '#client/da/confirm-blobs.ts'
import type { DaConnection } from '#client/da/connection.ts'
import { type DisperseStages, disperseEncoded } from '#client/da/disperse.ts'
import { DaSettingError, reasonOf } from '#client/da/errors.ts'
import { retrieve } from '#client/da/retrieve.ts'
import { MAX_BATCH, type SubmittedBlob, submitBlobs } from '#client/da/submit-blobs.ts'
import type { Logger } from '#kit/log.ts'
import { type JobWorker, PermanentJobError, type Queue, type RunningJob } from '#kit/queue/queue.ts'
import type { BlobCommitment } from '#protocol/da/commitment.ts'
import { MAX_BLOB_BYTES } from '#protocol/da/constants.ts'
import { InvalidBlobError } from '#protocol/da/error.ts'
import type { Hash } from '#protocol/hex.ts'
import { type BlobFiles, contentHashOf } from '../blob-files.ts'
import { Batcher } from './batcher.ts'
import type { DisperserConfig } from './config.ts'
import { DisperserError } from './error.ts'
import type { Charge, FeeBook } from './fees/fee-book.ts'
import type { FeeDesk } from './fees/fee-desk.ts'
import type { RequestState, RequestStore, StoredRequest } from './request-store.ts'

/** What a job is told; the rest is in the store. */
export type DisperseJob = { requestId: string }

export interface DisperserParameters {
  connection: DaConnection
  store: RequestStore
  files: BlobFiles
  queue: Queue<DisperseJob, null>
  desk: FeeDesk
  book: FeeBook
  config: Pick<DisperserConfig, 'chain' | 'data' | 'jobs' | 'retentionEpochs'>
  log: Logger
  signal: AbortSignal
  now?: (() => number) | undefined
  onChange?: ((state: RequestState, request: StoredRequest) => void) | undefined
  /** Told between any two steps that leave a trace: for tests that end the process there. */
  onStep?: ((step: DisperserStep) => void) | undefined
}

/** What has just been done for good. */
export type DisperserStep = 'kept' | 'accepted' | 'queued' | 'paid' | 'signed' | 'certified' | 'confirmed' | 'final'

/** Requests looked at in one step. */
const PAGE = 256
const PRUNE_MS = 60_000

/**
 * Takes blobs and sees them through. What it accepted is on the disk with its job before the caller hears of it: after
 * any crash it is confirmed, or reported as failed, and paid for once.
 */
export class Disperser {
  readonly #parameters: DisperserParameters
  readonly #now: () => number
  readonly #stages: DisperseStages
  #worker: JobWorker | undefined
  #loops: Promise<unknown> | undefined

  constructor(parameters: DisperserParameters) {
    this.#parameters = parameters
    this.#now = parameters.now ?? Date.now
    const { connection, config } = parameters
    const waiting = { waitMs: config.jobs.batchMs, maxItems: MAX_BATCH }
    const submit = (blobs: readonly BlobCommitment[]): Promise<SubmittedBlob[]> =>
      submitBlobs(connection, { blobs, retentionEpochs: config.retentionEpochs })
    const confirm = (blobs: ConfirmBlobsParameters['blobs']): Promise<Certificate[]> =>
      confirmBlobs(connection, { blobs })
    const submissions = new Batcher({ ...waiting, run: submit, runAlone: async (blob) => one(await submit([blob])) })
    const confirmations = new Batcher({
      ...waiting,
      run: confirm,
      runAlone: async (blob) => one(await confirm([blob])),
    })
    this.#stages = {
      submit: async (blob) => {
        const submitted = await submissions.add(blob)
        this.#step('paid')
        return submitted
      },
      confirm: async (blob) => {
        this.#step('signed')
        const certificate = await confirmations.add(blob)
        this.#step('certified')
        return certificate
      },
    }
  }

  /** Begins to work, with what an earlier run left first. */
  async start(): Promise<void> {
    const { queue, store, config } = this.#parameters
    this.#worker = queue.process({ concurrency: config.jobs.concurrency, handler: (job) => this.#work(job) })
    // Accepted, and the process ended before its job was there.
    for (const { id } of store.inState('processing', Number.MAX_SAFE_INTEGER)) await this.#enqueue(id)
    this.#loops ??= Promise.all([this.#watchDepth(), this.#prune()])
  }

  /** Waits for the loops and jobs under way, after an abort. */
  async stopped(): Promise<void> {
    await this.#worker?.close()
    await this.#loops
  }

  /**
   * Takes a blob; when this returns it is on the disk and will be worked on.
   *
   * @param voucher the user's voucher as it came, where blobs are paid for
   * @throws DisperserError `BLOB_SIZE`, `VOUCHER_MISSING`, `VOUCHER_INSUFFICIENT`, `DEPOSIT_INSUFFICIENT`;
   * DispersalVoucherError; BlobFilesError `BLOB_STORE_FULL`
   */
  async accept(data: Uint8Array, { voucher }: { voucher?: string | undefined } = {}): Promise<StoredRequest> {
    const { store, files, desk } = this.#parameters
    if (data.length < 1 || data.length > MAX_BLOB_BYTES) {
      throw new DisperserError({
        code: 'BLOB_SIZE',
        message: `a blob has 1 to ${MAX_BLOB_BYTES} bytes, not ${data.length}`,
        fix: data.length === 0 ? 'send its bytes' : 'split it',
        details: { field: 'data', sizeBytes: data.length, limit: MAX_BLOB_BYTES },
      })
    }
    const offer = await desk.offer({ sizeBytes: data.length, header: voucher })
    // Before it takes space, and again in the step that takes the money.
    if (offer !== undefined) desk.check(offer, contentHashOf(data))
    const contentHash = await files.put(data)
    this.#step('kept')
    const nowMs = this.#now()
    const id = `${contentHash.slice(2)}-${nowMs.toString(16)}${randomBytes(4).toString('hex')}`
    store.database.transaction(() => {
      const charge = offer === undefined ? undefined : desk.take(offer, contentHash)
      store.add({ id, contentHash, sizeBytes: data.length, charge, nowMs })
    })
    this.#step('accepted')
    await this.#enqueue(id)
    this.#step('queued')
    return this.request(id)
  }

  /** @throws DisperserError `REQUEST_UNKNOWN` */
  request(id: string): StoredRequest {
    const request = this.#parameters.store.get(id)
    if (request !== undefined) return request
    throw new DisperserError({
      code: 'REQUEST_UNKNOWN',
      message: 'there is no request with this id',
      fix: 'use the id that the blob was accepted with, at the disperser that accepted it',
      details: { id: id.slice(0, 200) },
    })
  }

  /**
   * The bytes of a confirmed blob: from the disk here, else from its signers, verified either way.
   *
   * @throws BlobUnknownError, BlobExpiredError, BlobUnavailableError
   */
  async retrieve(
    { dataRoot, epoch, quorumId }: { dataRoot: Hash; epoch?: number | undefined; quorumId?: number | undefined },
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    const { store, files, connection } = this.#parameters
    const known = store.byRoot(dataRoot)
    const isMeant = known !== undefined && (epoch === undefined || known.epoch === epoch)
    const kept = isMeant ? await files.get(known.contentHash).catch(() => undefined) : undefined
    if (kept !== undefined) return kept
    return (await retrieve(connection, { dataRoot, epoch, quorumId, signal })).data
  }

  /** What the user of a request pays for it; undefined where it is free. */
  chargeOf({ charge }: StoredRequest): Charge | undefined {
    return charge === undefined ? undefined : this.#parameters.book.charge(charge)
  }

  async #enqueue(id: string): Promise<void> {
    const { queue, config } = this.#parameters
    const { attempts } = config.jobs
    await queue.add({ id, data: { requestId: id }, attempts, backoff: { type: 'exponential', delayMs: 500 } })
  }

  async #work({ data: { requestId }, attempt, signal }: RunningJob<DisperseJob>): Promise<null> {
    const { store, connection, config, log } = this.#parameters
    const request = store.get(requestId)
    if (request === undefined || request.state !== 'processing') return null
    try {
      const bytes = await this.#bytesOf(request)
      const encoded = await (await connection.codec()).encode(bytes, { signal })
      try {
        const { certificate, feeWei } = await disperseEncoded(connection, { encoded, stages: this.#stages, signal })
        await this.#confirmed(request, certificate, feeWei)
      } finally {
        encoded.release()
      }
    } catch (error) {
      if (signal.aborted) throw error
      const permanent = error instanceof InvalidBlobError || error instanceof DaSettingError
      const last = permanent || error instanceof PermanentJobError || attempt >= config.jobs.attempts
      this.#change(request.id, { error: reasonOf(error), ...(last ? { state: 'failed' } : {}) })
      if (last) log.warn({ request: request.id, err: error }, 'a blob could not be dispersed')
      throw error
    }
    return null
  }

  async #bytesOf({ contentHash }: StoredRequest): Promise<Uint8Array> {
    const bytes = await this.#parameters.files.get(contentHash)
    if (bytes !== undefined) return bytes
    throw new PermanentJobError({
      code: 'BLOB_STORE_DAMAGED',
      message: 'the accepted bytes are gone from the disk',
      fix: 'send the blob again',
    })
  }

  async #confirmed(request: StoredRequest, certificate: Certificate, feeWei: bigint): Promise<void> {
    const { connection, log } = this.#parameters
    const { client } = await connection.chain()
    const { dataRoot, epoch, quorumId, expiryEpoch, submitTx, confirmTx } = certificate
    const block = certificate.block ?? Number(await client.getBlockNumber())
    const paid = BigInt(request.feeWei ?? '0') + feeWei
    const facts = { dataRoot, epoch, quorumId, expiryEpoch, submitTx, confirmTx, block }
    this.#change(request.id, { state: 'confirmed', ...facts, feeWei: paid.toString(), error: undefined })
    log.info({ request: request.id, dataRoot, epoch, block }, 'blob confirmed')
  }

  /** Confirmations become final with depth; those that a reorganisation took away are worked on again. */
  async #watchDepth(): Promise<void> {
    const { connection, store, queue, config, log, signal } = this.#parameters
    while (!signal.aborted) {
      try {
        const confirmed = store.inState('confirmed', PAGE)
        const head = confirmed.length === 0 ? 0 : Number(await (await connection.chain(signal)).client.getBlockNumber())
        for (const request of confirmed) {
          const { id, dataRoot, epoch, quorumId, block = head } = request
          if (dataRoot === undefined || epoch === undefined || head - block + 1 < config.chain.confirmations) continue
          const blob = await readBlob(connection, { dataRoot, epoch, quorumId })
          if (blob?.confirmed === true) this.#change(id, { state: 'final' })
          else {
            log.warn({ request: id, dataRoot }, 'a reorganisation took a confirmation away: working on it again')
            this.#change(id, { state: 'processing', block: undefined, confirmTx: undefined })
            await queue.remove(id)
            await this.#enqueue(id)
          }
        }
      } catch (error) {
        log.debug({ err: error }, 'looking at confirmations failed')
      }
      await delay(config.chain.pollIntervalMs, undefined, { signal }).catch(() => {})
    }
  }

  /** Lets go of bytes that nobody waits for. */
  async #prune(): Promise<void> {
    const { store, files, config, log, signal } = this.#parameters
    while (!signal.aborted) {
      await delay(Math.min(PRUNE_MS, config.data.keepMs), undefined, { signal }).catch(() => {})
      try {
        for (const { id, contentHash } of store.over({ beforeMs: this.#now() - config.data.keepMs, limit: PAGE })) {
          store.letGo(id)
          if (!store.isContentWanted(contentHash)) await files.remove(contentHash)
        }
      } catch (error) {
        log.warn({ err: error }, 'removing old blobs failed')
      }
    }
  }

  #change(id: string, changes: Partial<Omit<StoredRequest, 'id'>>): void {
    const { store, book, onChange } = this.#parameters
    // The state and what it means for the charge: both or neither.
    const request = store.database.transaction(() => {
      store.update(id, changes, this.#now())
      const changed = store.get(id)
      if (changed?.charge !== undefined && changes.state === 'final') book.settle(changed.charge, this.#now())
      if (changed?.charge !== undefined && changes.state === 'failed') book.release(changed.charge, this.#now())
      return changed
    })
    if (changes.state === 'confirmed' || changes.state === 'final') this.#step(changes.state)
    if (changes.state !== undefined && request !== undefined) onChange?.(changes.state, request)
  }

  /** Requests by their state. */
  counts(): Record<RequestState, number> {
    return this.#parameters.store.counts()
  }

  #step(step: DisperserStep): void {
    this.#parameters.onStep?.(step)
  }

  /** The epoch now, for `/healthz`: it shows that the chain answers. */
  epoch(): Promise<number> {
    return currentEpoch(this.#parameters.connection)
  }
}

function one<T>([only]: readonly T[]): T {
  if (only === undefined) throw new RangeError('a call for one gave none')
  return only
}
