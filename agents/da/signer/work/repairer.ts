import type { DaConnection } from '#client/da/connection.ts'
import { retrieve } from '#client/da/retrieve.ts'
import type { Logger } from '#kit/log.ts'
import type { RowSlice } from '#protocol/da/slice.ts'
import type { Epochs } from '../chain/epochs.ts'
import { reasonOf } from '../error.ts'
import type { Intake } from '../intake/intake.ts'
import { type BlobKey, keyText } from '../store/blob-key.ts'
import type { SignerStore } from '../store/signer-store.ts'

export interface RepairerParameters {
  connection: DaConnection
  store: SignerStore
  intake: Intake
  epochs: Epochs
  log: Logger
  signal: AbortSignal
}

/** Blobs looked at in one round. */
const BATCH = 16
/** After so many failed rounds a blob is tried less and less often. */
const MAX_PAUSE_ROUNDS = 64

/**
 * Gets back rows that this signer signed for and lost: a damaged disk, or a folder restored from an old copy. The blob is
 * fetched from the other signers, encoded again, and its rows go through the same checks as an upload.
 */
export class Repairer {
  readonly #parameters: RepairerParameters
  readonly #running = new Map<string, Promise<void>>()
  readonly #pauses = new Map<string, { rounds: number; left: number }>()
  repaired = 0
  /** Of the last round. */
  lost = 0

  constructor(parameters: RepairerParameters) {
    this.#parameters = parameters
  }

  /** Looks for lost rows and fetches some of them. */
  async round(): Promise<void> {
    const { store, epochs, log, signal } = this.#parameters
    const lost = store.lost({ sinceEpoch: epochs.current, limit: BATCH })
    this.lost = lost.length
    for (const blob of lost) {
      if (signal.aborted) return
      const name = keyText(blob)
      const pause = this.#pauses.get(name)
      if (pause !== undefined && pause.left-- > 0) continue
      try {
        await this.repair(blob)
        this.#pauses.delete(name)
        this.lost -= 1
      } catch (error) {
        if (signal.aborted) return
        const rounds = Math.min(MAX_PAUSE_ROUNDS, 2 * (pause?.rounds ?? 0) + 1)
        if (this.#pauses.size < 10_000) this.#pauses.set(name, { rounds, left: rounds })
        log.warn(
          { dataRoot: blob.dataRoot, epoch: blob.epoch, reason: reasonOf(error) },
          'lost rows could not be fetched',
        )
      }
    }
  }

  /** Fetches the rows of one blob. Calls for the same one share the work. */
  repair(key: BlobKey): Promise<void> {
    const name = keyText(key)
    const running = this.#running.get(name) ?? this.#repair(key).finally(() => this.#running.delete(name))
    this.#running.set(name, running)
    return running
  }

  async #repair({ dataRoot, epoch, quorumId }: BlobKey): Promise<void> {
    const { connection, intake, epochs, log, signal } = this.#parameters
    const { data } = await retrieve(connection, { dataRoot, epoch, quorumId, signal })
    const own = await epochs.own(epoch)
    if (own === undefined) return
    const encoded = await (await connection.codec()).encode(data, { signal })
    try {
      const slices = async function* (): AsyncGenerator<RowSlice[], void, undefined> {
        for (let i = 0; i < own.rowCount; i++) yield [encoded.slice(own.firstRow + i)]
      }
      const { commitment, rlc } = encoded
      await intake.put({ dataRoot, epoch, quorumId }, { commitment, rlc, slices: slices() })
    } finally {
      encoded.release()
    }
    this.repaired += 1
    log.info({ dataRoot, epoch, rows: own.rowCount }, 'lost rows are back')
  }
}
