import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { bindKernels, type KernelExports } from './bind.ts'
import { KernelError } from './error.ts'
import { kernelMemory } from './memory.ts'
import { isBuilt, PORTABLE_FILE, WIDE_FILE } from './sources.ts'
import { compileWide, mayBeWide } from './wide.ts'

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
