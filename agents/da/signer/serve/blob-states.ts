import type { BlobState } from '#client/da/signer-wire.ts'
import { toHex } from '#protocol/hex.ts'
import type { OwnRows } from '../intake/intake.ts'
import type { BlobKey } from '../store/blob-key.ts'
import type { SignerStore } from '../store/signer-store.ts'
import { CONFIRM_EPOCHS } from '../work/pruner.ts'

export interface BlobStatesParameters {
  store: SignerStore
  ownRows: (epoch: number) => Promise<OwnRows | undefined>
  currentEpoch: () => number
  confirmations: number
  /** Makes the chain be looked at now. */
  wake: () => void
}

/** Callers that may wait at a time; more are answered at once. */
const MAX_WAITING = 1_024
/** While somebody waits, the chain is looked at this often. */
const WAKE_MS = 100

/** Says how a blob stands with this signer; callers may wait until the chain has told of it. */
export class BlobStates {
  readonly #parameters: BlobStatesParameters
  readonly #waiting = new Set<() => void>()
  #waker: NodeJS.Timeout | undefined

  constructor(parameters: BlobStatesParameters) {
    this.#parameters = parameters
  }

  /** The state; `unknown` only after `waitMs`. */
  async state(key: BlobKey, { waitMs, signal }: { waitMs: number; signal: AbortSignal }): Promise<BlobState> {
    const giveUpAt = Date.now() + waitMs
    for (;;) {
      const state = await this.#now(key)
      const left = giveUpAt - Date.now()
      if (state.state !== 'unknown' || left <= 0 || signal.aborted || this.#waiting.size >= MAX_WAITING) return state
      await this.#news(left, signal)
    }
  }

  /** The chain told something: whoever waits looks again. */
  news(): void {
    for (const wake of [...this.#waiting]) wake()
  }

  close(): void {
    clearInterval(this.#waker)
    this.news()
  }

  async #now(key: BlobKey): Promise<BlobState> {
    const { store, ownRows, currentEpoch, confirmations } = this.#parameters
    const read = { block: store.tip()?.number ?? 0, confirmations }
    const held = store.held.get(key)
    const submission = store.submission(key)
    if (submission === undefined) return { state: 'unknown', ...read }
    if (held !== undefined && !held.damaged) return { state: 'signed', signature: toHex(held.signature), ...read }
    const stale = key.epoch + CONFIRM_EPOCHS < currentEpoch() && !store.isRecorded(key)
    if (stale || submission.expiryEpoch < currentEpoch()) return { state: 'expired', ...read }
    const own = await ownRows(key.epoch)
    return { state: own === undefined || own.rowCount === 0 ? 'foreign' : 'wanted', ...read }
  }

  async #news(limitMs: number, signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, limitMs)
      const { wake } = this.#parameters
      const waiting = this.#waiting
      function done(): void {
        clearTimeout(timer)
        signal.removeEventListener('abort', done)
        waiting.delete(done)
        resolve()
      }
      signal.addEventListener('abort', done, { once: true })
      waiting.add(done)
      wake()
      this.#keepWaking()
    })
  }

  #keepWaking(): void {
    this.#waker ??= setInterval(() => {
      if (this.#waiting.size > 0) return this.#parameters.wake()
      clearInterval(this.#waker)
      this.#waker = undefined
    }, WAKE_MS)
  }
}
