import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdtemp, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { fileSource } from '#kit/files.ts'
import { WeightlessError } from '#protocol/error.ts'
import { checkAdapter } from '#protocol/gguf/check-adapter.ts'
import { type GgufHead, readGgufHead } from '#protocol/gguf/read.ts'
import { EngineError } from '../engine-error.ts'

/** An adapter that was checked and may be loaded. */
export interface AdapterFile {
  name: string
  /** A private copy, named by its hash: what was checked is what is loaded, and llama.cpp keeps adapters by path. */
  path: string
  scale: number
  sizeBytes: number
}

/** Private, checked copies of adapter files. */
export class AdapterFiles {
  readonly #modelPath: string
  readonly #maxBytes: number
  #folder: Promise<string> | undefined
  #base: Promise<GgufHead> | undefined

  constructor({ modelPath, maxBytes }: { modelPath: string; maxBytes: number }) {
    this.#modelPath = modelPath
    this.#maxBytes = maxBytes
  }

  /**
   * Copies a file and checks the copy against the model.
   *
   * @throws EngineError `ENGINE_ADAPTER`
   */
  async take({ name, path, scale }: Omit<AdapterFile, 'sizeBytes'>): Promise<AdapterFile> {
    try {
      this.#base ??= headOf(this.#modelPath)
      this.#folder ??= mkdtemp(join(tmpdir(), 'weightless-adapters-'))
      const folder = await this.#folder
      const copy = join(folder, `${process.pid}-${name}.part`)
      const hash = createHash('sha256')
      let size = 0
      const maxBytes = this.#maxBytes
      await pipeline(
        createReadStream(path),
        async function* (stream: AsyncIterable<Buffer>) {
          for await (const piece of stream) {
            size += piece.length
            if (size > maxBytes) throw new Error(`the file has more than ${maxBytes} bytes`)
            hash.update(piece)
            yield piece
          }
        },
        createWriteStream(copy),
      )
      checkAdapter({ adapter: await headOf(copy), base: await this.#base })
      const checked = join(folder, `${hash.digest('hex')}.gguf`)
      await rename(copy, checked)
      return { name, path: checked, scale, sizeBytes: size }
    } catch (cause) {
      throw new EngineError({
        code: 'ENGINE_ADAPTER',
        message: `the adapter ${name} cannot be used: ${cause instanceof Error ? cause.message : String(cause)}`,
        fix: (cause instanceof WeightlessError ? cause.fix : undefined) ?? 'check the file',
        details: { adapter: name },
        cause,
      })
    }
  }

  /** Deletes a copy that nobody will load again. */
  async release(path: string): Promise<void> {
    await rm(path, { force: true })
  }

  async close(): Promise<void> {
    const folder = await this.#folder?.catch(() => undefined)
    if (folder !== undefined) await rm(folder, { recursive: true, force: true })
  }
}

async function headOf(path: string): Promise<GgufHead> {
  await using source = await fileSource(path)
  return await readGgufHead(source)
}
