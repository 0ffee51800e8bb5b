import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { KernelError } from './error.ts'
import { kernelMemory } from './memory.ts'
import { isBuilt, PORTABLE_FILE, WIDE_FILE } from './sources.ts'
import { compileWide, mayBeWide } from './wide.ts'

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
}

/** Name of a kernel. */
export type KernelName = keyof KernelExports

/** An instance with a memory of its own. */
export interface Kernels {
  exports: KernelExports
  memory: WebAssembly.Memory
  /** The whole memory. It never grows, so that views of it stay good. */
  bytes: Uint8Array
}

let compiled: WebAssembly.Module[] | undefined

/**
 * The compiled kernels, read once: the portable ones and, where they are faster, the wide ones. When they are missing
 * or older than their sources they are built on the spot, in about three seconds and once for all processes;
 * `npm start`, `npm test` and `npm run build` do so beforehand.
 *
 * @throws KernelError `KERNELS_NOT_BUILT` when they cannot be built here: no compiler, or a folder that is read-only
 */
export function kernelModules(): WebAssembly.Module[] {
  compiled ??= compile()
  return compiled
}

/** A new instance of the kernels with `freeBytes` of memory for the caller. */
export function instantiateKernels({ freeBytes }: { freeBytes: number }): Kernels {
  const memory = kernelMemory({ freeBytes })
  const exports = bindKernels({ modules: kernelModules(), memory })
  return { exports, memory, bytes: new Uint8Array(memory.buffer) }
}

/**
 * Instantiates modules over one memory; the functions of later ones take the place of earlier ones. The memory must
 * not belong to another instance: their scratch would collide and digests come out wrong.
 */
export function bindKernels({ modules, memory }: BindKernelsParameters): KernelExports {
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

function compile(): WebAssembly.Module[] {
  if (!isBuilt()) build()
  const portable = new WebAssembly.Module(Uint8Array.from(readFileSync(PORTABLE_FILE)))
  if (!mayBeWide()) return [portable]
  const wide = compileWide({ bytes: Uint8Array.from(readFileSync(WIDE_FILE)), portable })
  return wide ? [portable, wide] : [portable]
}

/** In a process of its own, because compilation is asynchronous and kernels are wanted now. */
function build(): void {
  const script = fileURLToPath(new URL('build.ts', import.meta.url))
  const { status, stderr } = spawnSync(process.execPath, [script], { encoding: 'utf8', timeout: 120_000, env: {} })
  if (status === 0 && isBuilt()) return
  throw new KernelError({
    code: 'KERNELS_NOT_BUILT',
    message: 'the compiled kernels are missing and could not be built',
    fix: 'run: npm ci && npm run build:kernels',
    details: { script, output: stderr.slice(-2000) },
  })
}
