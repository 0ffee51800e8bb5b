/** What the compiled module offers. All arguments are addresses in its memory, or counts. */
export interface KernelExports {
  /** (src, dst, n): hashes of n sectors of 256 bytes. */
  leafHashes(src: number, dst: number, n: number): void
  /** (src, dst, n): hashes of n nodes of 64 bytes; dst may equal src. */
  nodeHashes(src: number, dst: number, n: number): void
  /** (h, n): n hashes become ceil(n / 2), in place. */
  foldLevel(h: number, n: number): void
  /** (h, n): n hashes become their root, in place. */
  fold(h: number, n: number): void
  /** (src, sectors, padded, work, dst): roots of consecutive segments; work is 32 KiB. */
  segmentRoots(src: number, sectors: number, padded: number, work: number, dst: number): void
  /** (src, dst, n): pad seeds (64 bytes) of n blocks of 128 bytes. */
  padSeeds(src: number, dst: number, n: number): void
  /** (seeds, pads, recalls, n): n scratchpads of 16 KiB and recall seeds of 32 bytes. */
  scratchpads(seeds: number, pads: number, recalls: number, n: number): void
  /** (chunk, pad, seed, out): the 64 seal hashes of a chunk. */
  sealHashes(chunk: number, pad: number, seed: number, out: number): void
  /** (src, dst, n, key, undo): seals or unseals n pieces; key is 72 bytes. */
  seal(src: number, dst: number, n: number, key: number, undo: number): void
}

/** Name of a kernel. */
export type KernelName = keyof KernelExports

/**
 * Instantiates modules over one memory; the functions of later ones take the place of earlier ones. The memory must
 * not belong to another instance, except of the erasure kernels: scratch would collide and digests come out wrong.
 */
export function bindKernels<Exports = KernelExports>({ modules, memory }: BindKernelsParameters): Exports {
  const instances = modules.map((module) => new WebAssembly.Instance(module, { env: { memory } }).exports)
  return Object.assign({}, ...instances)
}

export interface BindKernelsParameters {
  modules: WebAssembly.Module[]
  memory: WebAssembly.Memory
}

/** Names of the kernels in modules: every kernel is in the first. */
export function kernelNames([portable]: WebAssembly.Module[]): string[] {
  if (!portable) return []
  return WebAssembly.Module.exports(portable)
    .filter(({ kind }) => kind === 'function')
    .map(({ name }) => name)
}
