import { EngineError } from '../engine-error.ts'
import { type AdapterFile, AdapterFiles, type AdapterFilesParameters } from './adapter-files.ts'

export interface EngineAdaptersParameters extends AdapterFilesParameters {
  /** Adapters in the memory of the process, those unloaded included. */
  maxLoaded: number
  /** Bytes of unloaded ones after which the process is renewed. */
  maxUnloadedBytes: number
  /** Has the process take an adapter, or forget one. */
  call: (
    message: { type: 'adapter'; name: string; path: string; scale: number } | { type: 'unload'; name: string },
  ) => Promise<unknown>
  /** Puts a new process in the place of the old one; it is sent {@link EngineAdapters.known}. */
  renew: () => Promise<void>
}

/** Ends of the process that an adapter may be the reason of; then it is not used any more. */
const MAX_STRIKES = 2
/** Adapters remembered for that. */
const MAX_SUSPECTS = 1_000

/**
 * The adapters of an engine: their private copies on disk, their names, and what they take of the process's memory.
 * llama.cpp frees adapters with their model only, so those unloaded pile up there; when they are too many the process is
 * renewed, before the next is loaded.
 */
export class EngineAdapters {
  readonly #parameters: EngineAdaptersParameters
  readonly #files: AdapterFiles
  readonly #adapters = new Map<string, AdapterFile>()
  /** Adapters in the memory of the process, by path, with their bytes; also those that no name means any more. */
  readonly #inMemory = new Map<string, number>()
  /** Ends of the process that an adapter may be the reason of, by path: the path follows from the content. */
  readonly #strikes = new Map<string, number>()
  /** Loading and unloading, one after the other. */
  #changing: Promise<unknown> = Promise.resolve()

  constructor(parameters: EngineAdaptersParameters) {
    this.#parameters = parameters
    this.#files = new AdapterFiles(parameters)
  }

  get names(): string[] {
    return [...this.#adapters.keys()]
  }

  has(name: string): boolean {
    return this.#adapters.has(name)
  }

  /** What a new process is sent first; its memory holds nothing yet. */
  known(): AdapterFile[] {
    this.#inMemory.clear()
    for (const { path, sizeBytes } of this.#adapters.values()) this.#inMemory.set(path, sizeBytes)
    return [...this.#adapters.values()]
  }

  /** @throws EngineError `ENGINE_ADAPTER`, `ENGINE_BUSY` */
  async load({ name, path, scale }: { name: string; path: string; scale: number }): Promise<void> {
    if (!/^[A-Za-z0-9_.-]{1,128}$/.test(name)) {
      throw new EngineError({
        code: 'ENGINE_ADAPTER',
        message: 'the name of an adapter has 1 to 128 letters, digits and _ . -',
        details: { field: 'name' },
      })
    }
    await this.#inOrder(async () => {
      const file = await this.#files.take({ name, path, scale })
      const before = this.#adapters.get(name)
      try {
        this.#refuseSuspect(file)
        await this.#makeRoom(file)
        this.#inMemory.set(file.path, file.sizeBytes)
        await this.#parameters.call({ type: 'adapter', name, path: file.path, scale })
        this.#adapters.set(name, file)
      } finally {
        for (const one of [before, file]) if (one !== undefined) await this.#release(one)
      }
    })
  }

  async unload(name: string): Promise<void> {
    await this.#inOrder(async () => {
      const file = this.#adapters.get(name)
      if (file === undefined) return
      this.#adapters.delete(name)
      try {
        await this.#parameters.call({ type: 'unload', name })
      } finally {
        await this.#release(file)
      }
    })
  }

  /**
   * The process ends, and one of these may be why: values of an adapter can be such that the model gives no numbers. After
   * the second time its name means nothing any more, and the same content is refused.
   */
  suspect(names: readonly string[]): void {
    for (const name of names) {
      const file = this.#adapters.get(name)
      if (file === undefined) continue
      const strikes = (this.#strikes.get(file.path) ?? 0) + 1
      this.#strikes.delete(file.path)
      this.#strikes.set(file.path, strikes)
      if (strikes >= MAX_STRIKES) this.#adapters.delete(name)
      const [oldest] = this.#strikes.size > MAX_SUSPECTS ? this.#strikes.keys() : []
      if (oldest !== undefined) this.#strikes.delete(oldest)
    }
  }

  async close(): Promise<void> {
    await this.#files.close()
  }

  #inOrder(work: () => Promise<void>): Promise<void> {
    const done = this.#changing.then(work)
    this.#changing = done.catch(() => undefined)
    return done
  }

  #refuseSuspect({ name, path }: AdapterFile): void {
    if ((this.#strikes.get(path) ?? 0) < MAX_STRIKES) return
    throw new EngineError({
      code: 'ENGINE_ADAPTER',
      message: `the model failed ${MAX_STRIKES} times while it answered with the adapter ${name}`,
      fix: 'train it anew, with a lower learning rate',
      details: { adapter: name },
    })
  }

  /** Deletes a private copy that no name means any more. */
  async #release({ path }: AdapterFile): Promise<void> {
    if (![...this.#adapters.values()].some((file) => file.path === path)) await this.#files.release(path)
  }

  async #makeRoom({ path }: AdapterFile): Promise<void> {
    const { maxLoaded, maxUnloadedBytes, renew } = this.#parameters
    if (this.#inMemory.has(path)) return
    const used = new Set([...this.#adapters.values()].map((file) => file.path))
    const unused = [...this.#inMemory].filter(([loaded]) => !used.has(loaded))
    const unusedBytes = unused.reduce((sum, [, sizeBytes]) => sum + sizeBytes, 0)
    const isFull = this.#inMemory.size >= maxLoaded
    if (unused.length > 0 && (isFull || unusedBytes > maxUnloadedBytes)) return await renew()
    if (!isFull) return
    throw new EngineError({
      code: 'ENGINE_BUSY',
      message: `${maxLoaded} adapters are loaded already`,
      fix: 'unload one that is not needed',
      details: { limit: maxLoaded },
    })
  }
}
