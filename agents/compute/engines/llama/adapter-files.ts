import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdtemp, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { fileSource } from '#kit/files.ts'
import { WeightlessError } from '#protocol/error.ts'
import { checkAdapter } from '#protocol/gguf/check-adapter.ts'
import { GgufError } from '#protocol/gguf/gguf-error.ts'
import { ADAPTER_BASE_ROOT } from '#protocol/gguf/lora.ts'
import { type GgufHead, readGgufHead, supportedTensor } from '#protocol/gguf/read.ts'
import type { Hash } from '#protocol/hex.ts'
import { EngineError } from '../engine-error.ts'

const EMBEDDINGS = 'token_embd.weight'

/** An adapter that was checked and may be loaded. */
export interface AdapterFile {
  name: string
  /** A private copy, named by its hash: what was checked is what is loaded, and llama.cpp keeps adapters by path. */
  path: string
  scale: number
  sizeBytes: number
}

export interface AdapterFilesParameters {
  modelPath: string
  /** Storage root of the model's file, where it is known. */
  modelId?: Hash | undefined
  /** Most bytes of an adapter. */
  maxBytes: number
}

/** Private, checked copies of adapter files. */
export class AdapterFiles {
  readonly #modelPath: string
  readonly #modelId: Hash | undefined
  readonly #maxBytes: number
  #folder: Promise<string> | undefined
  #base: Promise<GgufHead> | undefined

  constructor({ modelPath, modelId, maxBytes }: AdapterFilesParameters) {
    this.#modelPath = modelPath
    this.#modelId = modelId
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
      const adapter = await headOf(copy)
      const base = await this.#base
      checkAdapter({ adapter, base })
      checkForLlama({ adapter, base })
      this.#checkBase(adapter)
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

  /** Models of one family have the same shapes: an adapter of another would be loaded, and say nothing of use. */
  #checkBase(adapter: GgufHead): void {
    const trainedOn = adapter.metadata.get(ADAPTER_BASE_ROOT)
    if (trainedOn === undefined || this.#modelId === undefined || trainedOn === this.#modelId) return
    throw new GgufError({
      code: 'GGUF_METADATA',
      message: `it was trained on ${String(trainedOn).slice(0, 100)}, and this model is ${this.#modelId}`,
      fix: 'ask a provider of that model',
      details: { key: ADAPTER_BASE_ROOT },
    })
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

/**
 * Refuses what llama.cpp would end its process over. The file may be a stranger's, and the process answers for others.
 *
 * @throws GgufError
 */
function checkForLlama({ adapter, base }: { adapter: GgufHead; base: GgufHead }): void {
  // Bounds of tensors are known for the types that are read here alone.
  for (const tensor of adapter.tensors.keys()) supportedTensor(adapter, tensor)
  const a = adapter.tensors.get(`${EMBEDDINGS}.lora_a`)?.ne
  if (a === undefined) return
  const b = adapter.tensors.get(`${EMBEDDINGS}.lora_b`)?.ne
  const [dim, vocab] = base.tensors.get(EMBEDDINGS)?.ne ?? []
  const fits = a.length === 2 && b?.length === 2 && a[1] === vocab && b[1] === dim && a[0] === b[0] && (a[0] ?? 0) >= 1
  if (fits && base.tensors.has('output.weight')) return
  throw new GgufError({
    code: 'GGUF_TENSOR',
    message: fits
      ? 'the model multiplies by its embeddings too, so they cannot be adapted'
      : `${EMBEDDINGS} has the shape [${dim}, ${vocab}], which [${a.join(', ')}] and [${b?.join(', ')}] do not fit`,
    fix: 'train an adapter without the embeddings',
    details: { tensor: EMBEDDINGS },
  })
}

async function headOf(path: string): Promise<GgufHead> {
  await using source = await fileSource(path)
  return await readGgufHead(source)
}
