import type { FileHandle } from 'node:fs/promises'
import { mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { KvError } from './error.ts'

/** Copy buffer, in bytes: large values pass through it piece by piece. */
const PIECE_BYTES = 1 << 20

/**
 * One append-only file that holds every value in the order of its submission. The tables say which bytes count: what
 * lies past the end they know of is left over from an interrupted replay and is written over.
 */
export class ValueLog {
  readonly #handle: FileHandle

  private constructor(handle: FileHandle) {
    this.#handle = handle
  }

  static async open(path: string): Promise<ValueLog> {
    await mkdir(dirname(path), { recursive: true })
    return new ValueLog(
      await open(path, 'a+').then(async (created) => {
        await created.close()
        return open(path, 'r+')
      }),
    )
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }

  /** Bytes `[offset, offset + length)`. @throws KvError `KV_VALUES` when the file is shorter than the tables say. */
  async read({ offset, length }: { offset: number; length: number }): Promise<Uint8Array> {
    const target = new Uint8Array(length)
    let done = 0
    while (done < length) {
      const { bytesRead } = await this.#handle.read(target, done, length - done, offset + done)
      if (bytesRead === 0) throw short(offset + length)
      done += bytesRead
    }
    return target
  }

  /** Copies ranges of `source` one after another to `end`; durable when it resolves. Gives the place of each. */
  async append({ source, ranges, end }: AppendParameters): Promise<{ offsets: number[]; end: number }> {
    const offsets: number[] = []
    let at = end
    for (const { length } of ranges) {
      offsets.push(at)
      at += length
    }
    let written = end
    for (const run of joinRanges(ranges)) {
      for (let done = 0; done < run.length; ) {
        const offset = run.offset + done
        const piece = await source.read({ offset, length: Math.min(PIECE_BYTES, run.length - done) })
        await this.#write(piece, written)
        done += piece.length
        written += piece.length
      }
    }
    if (at > end) await this.#handle.datasync()
    return { offsets, end: at }
  }

  async #write(piece: Uint8Array, position: number): Promise<void> {
    if (piece.length === 0) throw short(position)
    for (let done = 0; done < piece.length; ) {
      const { bytesWritten } = await this.#handle.write(piece, done, piece.length - done, position + done)
      done += bytesWritten
    }
  }
}

export interface AppendParameters {
  source: { read(range: { offset: number; length: number }): Promise<Uint8Array> }
  ranges: readonly { offset: number; length: number }[]
  /** Where committed values end. */
  end: number
}

/** Values of one write usually lie side by side: as one range they cost one read and one write. */
function joinRanges(ranges: readonly { offset: number; length: number }[]): { offset: number; length: number }[] {
  const runs: { offset: number; length: number }[] = []
  for (const { offset, length } of ranges) {
    const last = runs.at(-1)
    if (last !== undefined && last.offset + last.length === offset) last.length += length
    else runs.push({ offset, length })
  }
  return runs
}

function short(wanted: number): KvError {
  return new KvError({
    code: 'KV_VALUES',
    message: `the values end before byte ${wanted}`,
    fix: 'stop the agent and empty its data folder: everything is replayed from the chain and the storage nodes',
    details: { wanted },
  })
}
