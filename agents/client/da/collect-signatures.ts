import { setTimeout as delay } from 'node:timers/promises'
import { raceAbort } from '#kit/chain/abortable.ts'
import type { EncodedBlob } from '#protocol/da/blob-codec.ts'
import { meetsQuorum, type Quorum } from '#protocol/da/quorum.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash } from '#protocol/hex.ts'
import { readBlob } from './blob-record.ts'
import type { DaConnection } from './connection.ts'
import { codeOf, QuorumNotReachedError, reasonOf, SignerFailedError, type SignerFailure } from './errors.ts'
import type { DaListener } from './events.ts'
import { readQuorum } from './quorum-reader.ts'
import type { RowSource } from './row-collector.ts'
import { rowSources } from './row-sources.ts'
import { SignatureBook } from './signature-book.ts'
import { encodeUploadHead } from './signer-wire.ts'
import { sliceParts } from './slice-parts.ts'
import type { SubmittedBlob } from './submit-blobs.ts'

/** Signatures of at least two thirds of the stake, each verified. */
export interface CollectedSignatures {
  quorum: Quorum
  /** By place in the epoch's order. */
  signatures: ReadonlyMap<number, Hash>
  signedWei: bigint
  /** Signers that did not sign in time, and why. */
  failures: SignerFailure[]
}

export interface CollectSignaturesParameters {
  blob: EncodedBlob
  submission: Pick<SubmittedBlob, 'dataRoot' | 'epoch' | 'quorumId'>
  signal?: AbortSignal | undefined
  onEvent?: DaListener | undefined
}

/** The submission is not in that epoch any more: a reorganisation took it away. Code `SUBMISSION_MOVED`. */
export class SubmissionMovedError extends WeightlessError {}

/** How long a signer may hold an answer until it has seen the submission. */
const STATE_WAIT_MS = 2_000
/** How often it is made sure that the submission is still there. */
const WATCH_MS = 2_000
/** Time that each 256 KiB of an upload adds to its limit. */
const UPLOAD_BYTES_PER_SECOND = 256 * 1024

/**
 * Send every signer of the epoch its rows, side by side, and gather their signatures. Done as soon as two thirds of the
 * stake have signed, with a short grace for more. Foreign and false signatures do not count.
 *
 * @throws QuorumNotReachedError; SubmissionMovedError
 */
export async function collectSignatures(
  connection: DaConnection,
  parameters: CollectSignaturesParameters,
): Promise<CollectedSignatures> {
  return new Collection(connection, parameters, await readQuorum(connection, parameters.submission)).run()
}

class Collection {
  readonly #connection: DaConnection
  readonly #parameters: CollectSignaturesParameters
  readonly #quorum: Quorum
  readonly #book: SignatureBook
  readonly #failures = new Map<number, SignerFailure>()
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal
  readonly #deadline: number
  #sentBytes = 0
  #totalBytes = 0
  #enough: (() => void) | undefined
  #satisfied = false
  #uploading = 0
  readonly #turns: (() => void)[] = []
  #sources: Promise<RowSource[]> | undefined

  constructor(connection: DaConnection, parameters: CollectSignaturesParameters, quorum: Quorum) {
    this.#connection = connection
    this.#parameters = parameters
    this.#quorum = quorum
    this.#deadline = Date.now() + connection.limits.signTimeoutMs
    const timer = AbortSignal.timeout(connection.limits.signTimeoutMs)
    const signals = [this.#stop.signal, timer]
    this.#signal = AbortSignal.any(parameters.signal === undefined ? signals : [...signals, parameters.signal])
    const { rowRoot, rlcRoot } = parameters.blob.commitment
    this.#book = new SignatureBook({ quorum, blob: { ...parameters.submission, rowRoot, rlcRoot } })
  }

  async run(): Promise<CollectedSignatures> {
    const { limits } = this.#connection
    const { signal, submission } = this.#parameters
    const sources = rowSources(this.#connection, this.#quorum, () => true)
    const enough = new Promise<void>((resolve) => {
      this.#enough = resolve
    })
    const moved = this.#watch()
    // All are asked at once, so that silent ones hold nobody up; only so many uploads run at a time.
    const all = Promise.all(sources.map((source, place) => this.#bring(place, source)))
    try {
      await Promise.race([all, enough, moved])
      if (this.#satisfied)
        await Promise.race([all, delay(limits.graceMs, undefined, { signal: this.#signal }).catch(() => {})])
    } finally {
      this.#stop.abort(new DOMException('enough signatures are here', 'AbortError'))
      await all.catch(() => {})
    }
    signal?.throwIfAborted()
    if (this.#reached()) {
      const { signatures, signedWei } = this.#book
      return { quorum: this.#quorum, signatures, signedWei, failures: this.#unsigned() }
    }
    for (const [place, { address, url }] of sources.entries()) {
      if (this.#book.has(place) || this.#failures.has(place)) continue
      const reason = `it did not sign within ${limits.signTimeoutMs} ms`
      this.#failures.set(place, { signer: address, url, code: 'SIGNER_TIMEOUT', reason })
    }
    throw new QuorumNotReachedError({
      ...submission,
      signedWei: this.#book.signedWei,
      totalWei: this.#quorum.totalStakeWei,
      failures: this.#unsigned(),
    })
  }

  /** Failures of those that have not signed after all. */
  #unsigned(): SignerFailure[] {
    return [...this.#failures].filter(([place]) => !this.#book.has(place)).map(([, failure]) => failure)
  }

  /** Whether two thirds have signed. Claims are checked once they would do: one pairing for all of them. */
  #reached(): boolean {
    if (!meetsQuorum({ quorum: this.#quorum, signed: this.#book.claimed() })) return false
    for (const place of this.#book.verify()) {
      const { address, socket: url } = this.#quorum.signers[place] ?? { address: '0x' as Hash, socket: '' }
      this.#failed(place, { address: address as Hash, url }, foreign())
    }
    return meetsQuorum({ quorum: this.#quorum, signed: this.#book.claimed() })
  }

  /** Deals with one signer until it has signed, has failed for good, or time is up. Never rejects. */
  async #bring(place: number, first: RowSource): Promise<void> {
    const { attempts } = this.#connection.limits
    let source = first
    for (let failed = 0; failed < attempts && !this.#signal.aborted; ) {
      try {
        const signature = await this.#ask(source)
        if (signature === undefined) continue
        if (!this.#book.claim(place, signature)) throw foreign()
        const { address: signer, url } = source
        const { signedWei } = this.#book
        this.#parameters.onEvent?.({ type: 'signed', signer, url, signedWei, totalWei: this.#quorum.totalStakeWei })
        // Those that come later are verified together at the end.
        if (!this.#satisfied && this.#reached()) {
          this.#satisfied = true
          this.#enough?.()
        }
        return
      } catch (error) {
        if (this.#signal.aborted) return
        failed += 1
        const final = failed >= attempts || !mayPass(error)
        this.#failed(place, source, error, final)
        if (final) return
        if (codeOf(error) === 'SIGNER_UNREACHABLE') source = (await this.#whereNow(place)) ?? source
        const retryAfterMs = error instanceof SignerFailedError ? (error.retryAfterMs ?? 0) : 0
        await delay(Math.max(100 * 2 ** failed, retryAfterMs), undefined, { signal: this.#signal }).catch(() => {})
      }
    }
  }

  /** A signer that is not where it was may have told the chain where it is now. Read once for all. */
  async #whereNow(place: number): Promise<RowSource | undefined> {
    this.#sources ??= (async () => {
      this.#connection.forget('quorum')
      return rowSources(this.#connection, await readQuorum(this.#connection, this.#quorum), () => true)
    })()
    return (await this.#sources.catch(() => []))[place]
  }

  /** The signature; undefined while the signer has not seen the submission. */
  async #ask(source: RowSource): Promise<Hash | undefined> {
    const { submission } = this.#parameters
    const left = this.#deadline - Date.now()
    const waitMs = Math.max(0, Math.min(STATE_WAIT_MS, left))
    const askedAt = Date.now()
    const { state, signature } = await source.http.state(submission, { waitMs, signal: this.#signal })
    if (state === 'signed' && signature !== undefined) return signature
    if (state === 'wanted') return this.#inTurn(() => this.#upload(source))
    if (state === 'unknown') {
      // A signer that does not wait as asked must not make a busy loop.
      const pauseMs = Math.max(0, 200 - (Date.now() - askedAt))
      await delay(pauseMs, undefined, { signal: this.#signal }).catch(() => {})
      return undefined
    }
    throw new SignerFailedError({
      code: state === 'expired' ? 'BLOB_EXPIRED' : 'ROWS_NOT_ASSIGNED',
      message: state === 'expired' ? 'the blob has expired for it' : 'it has no rows in this epoch',
      status: 409,
    })
  }

  /** Runs an upload when fewer than `width` others run; first come, first served, repeated ones at the end. */
  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    while (this.#uploading >= this.#connection.limits.width) {
      const turn = Promise.withResolvers<void>()
      this.#turns.push(turn.resolve)
      await raceAbort(turn.promise, this.#signal)
    }
    this.#uploading += 1
    try {
      return await work()
    } finally {
      this.#uploading -= 1
      this.#turns.shift()?.()
    }
  }

  async #upload(source: RowSource): Promise<Hash> {
    const { blob, submission, onEvent } = this.#parameters
    const { header, rowRoot, rlcRoot } = blob.commitment
    const head = encodeUploadHead({ sizeBytes: header.sizeBytes, rowRoot, rlcRoot, rlc: blob.rlc })
    const { parts, lengthBytes, sent } = sliceParts({ ...source, blob, head })
    this.#totalBytes += lengthBytes
    return source.http.upload(submission, {
      parts,
      lengthBytes,
      limitMs: this.#connection.limits.uploadTimeoutMs + (lengthBytes / UPLOAD_BYTES_PER_SECOND) * 1_000,
      signal: this.#signal,
      onPartSent: (part) => {
        sent(part)
        this.#sentBytes += part.length
        onEvent?.({ type: 'sending', doneBytes: this.#sentBytes, totalBytes: this.#totalBytes })
      },
    })
  }

  #failed(place: number, source: { address: Hash; url: string }, error: unknown, final = true): void {
    const failure = { signer: source.address, url: source.url, code: codeOf(error), reason: reasonOf(error) }
    this.#failures.set(place, failure)
    this.#parameters.onEvent?.({ type: 'signer-failed', ...failure, final })
  }

  /** Rejects when the chain does not have the submission any more, seen twice. Otherwise never settles. */
  async #watch(): Promise<void> {
    let missing = 0
    while (!this.#signal.aborted) {
      await delay(WATCH_MS, undefined, { signal: this.#signal }).catch(() => {})
      if (this.#signal.aborted) break
      const blob = await readBlob(this.#connection, this.#parameters.submission).catch(() => 'unread' as const)
      missing = blob === undefined ? missing + 1 : 0
      if (missing < 2) continue
      const { dataRoot, epoch } = this.#parameters.submission
      throw new SubmissionMovedError({
        code: 'SUBMISSION_MOVED',
        message: `the chain has no submission of ${dataRoot} in epoch ${epoch} any more`,
        fix: 'a reorganisation took it away: run the same command again, nothing is paid twice',
        details: { dataRoot, epoch },
      })
    }
    await new Promise(() => {})
  }
}

/** Whether another try with the same signer makes sense. */
function mayPass(error: unknown): boolean {
  if (!(error instanceof SignerFailedError)) return false
  const { status, code } = error
  if (code === 'SIGNER_FOREIGN_SIGNATURE' || code === 'SIGNER_ANSWER') return false
  return status === undefined || status === 404 || status === 408 || status === 429 || status >= 500
}

function foreign(): SignerFailedError {
  return new SignerFailedError({
    code: 'SIGNER_FOREIGN_SIGNATURE',
    message: 'its signature is not that of its registered key for this blob',
  })
}
