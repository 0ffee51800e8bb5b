import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { bindKernels, type KernelExports } from './bind.ts'
import { KernelError } from './error.ts'
import { kernelMemory } from './memory.ts'
import { isBuilt, PORTABLE_FILE, WIDE_FILE, WIDE_PORA_FILE } from './sources.ts'
import { compileWide, mayBeWide, type WideTrial } from './wide.ts'
import { KECCAK_TRIAL, PORA_TRIAL } from './wide-trials.ts'

/** An instance with a memory of its own. */
export interface Kernels {
  exports: KernelExports
  memory: WebAssembly.Memory
  /** The whole memory. It never grows, so that views of it stay good. */
  bytes: Uint8Array
}

let compiled: WebAssembly.Module[] | undefined
let compiledPora: WebAssembly.Module[] | undefined

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

/**
 * The same and, where it is faster, the wide seal hash, which only miners need: 100 ms more. To be called on the main
 * thread and handed to mining threads.
 *
 * @throws KernelError `KERNELS_NOT_BUILT`
 */
export function poraModules(): WebAssembly.Module[] {
  compiledPora ??= withWide({ modules: kernelModules(), file: WIDE_PORA_FILE, trial: PORA_TRIAL })
  return compiledPora
}

/** A new instance of the kernels with `freeBytes` of memory for the caller. */
export function instantiateKernels({ freeBytes, modules = kernelModules() }: InstantiateParameters): Kernels {
  const memory = kernelMemory({ freeBytes })
  return { exports: bindKernels({ modules, memory }), memory, bytes: new Uint8Array(memory.buffer) }
}

export interface InstantiateParameters {
  freeBytes: number
  modules?: WebAssembly.Module[] | undefined
}

function compile(): WebAssembly.Module[] {
  ensureBuilt()
  const portable = new WebAssembly.Module(Uint8Array.from(readFileSync(PORTABLE_FILE)))
  return withWide({ modules: [portable], file: WIDE_FILE, trial: KECCAK_TRIAL })
}

function withWide({ modules, file, trial }: { modules: WebAssembly.Module[]; file: URL; trial: WideTrial }) {
  const [portable] = modules
  if (!portable || !mayBeWide()) return modules
  const wide = compileWide({ bytes: Uint8Array.from(readFileSync(file)), portable, trial })
  return wide ? [...modules, wide] : modules
}

/** Builds the kernels where they are missing or older than their sources. @throws KernelError `KERNELS_NOT_BUILT` */
export function ensureBuilt(): void {
  if (!isBuilt()) build()
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
