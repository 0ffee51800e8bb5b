import { setFlagsFromString } from 'node:v8'
import { FIRST_FREE_ADDRESS } from './memory.ts'

/**
 * The wide kernels: the keccak kernels with four states in step. V8 can fuse pairs of neighbouring 128-bit operations
 * into 256-bit ones (AVX2), which makes them twice as fast, but only behind a flag it calls experimental. So:
 *
 * - the flag is on only while this one module is compiled, ahead of use and in one go, and then off again: nothing
 *   else in the process is compiled with it;
 * - the result is used only if it then gives the same hashes as the portable kernels, and gives them faster. On other
 *   processors, other versions of V8, or with `WEIGHTLESS_KERNELS=portable` in the environment, it is not used.
 */

/** Versions of V8 known to have these flags; an unknown flag would print an error. */
const KNOWN_V8 = /^1[34]\./

/** Whether this process may try the wide kernels at all. */
export function mayBeWide(): boolean {
  const { WEIGHTLESS_KERNELS: choice } = process.env
  return choice !== 'portable' && process.arch === 'x64' && KNOWN_V8.test(process.versions.v8)
}

/** Compiles the wide kernels; undefined when they are wrong or no faster here. Takes about 20 ms. */
export function compileWide({ bytes, portable }: CompileWideParameters): WebAssembly.Module | undefined {
  const wide = withFlags(['liftoff', 'wasm-lazy-compilation'], () =>
    withFlags(['no-experimental-wasm-revectorize'], () => new WebAssembly.Module(bytes)),
  )
  // Without the baseline compiler the first call is already the optimised code, and the comparison fair.
  const reference = withFlags(['liftoff'], () => trial(portable))
  const candidate = trial(wide)
  const same = Buffer.compare(candidate.hashes, reference.hashes) === 0
  return same && candidate.ms < 0.9 * reference.ms ? wide : undefined
}

export interface CompileWideParameters {
  /** The wide module. */
  bytes: Uint8Array<ArrayBuffer>
  /** The portable module, compiled. */
  portable: WebAssembly.Module
}

/** Hashes and best time of a small tree over data that does not repeat. */
function trial(module: WebAssembly.Module): { hashes: Uint8Array; ms: number } {
  const sectors = 67
  const memory = new WebAssembly.Memory({ initial: 3, maximum: 3, shared: true })
  const bytes = new Uint8Array(memory.buffer)
  const { exports } = new WebAssembly.Instance(module, { env: { memory } })
  const kernels = exports as Record<string, (...values: number[]) => void>
  const leaves = FIRST_FREE_ADDRESS + sectors * 256
  let state = 1
  for (let i = FIRST_FREE_ADDRESS; i < leaves; i++) {
    state = (Math.imul(state, 1103515245) + 12345) | 0
    bytes[i] = state >>> 16
  }
  let ms = Number.POSITIVE_INFINITY
  for (let i = 0; i < 8; i++) {
    const start = performance.now()
    kernels.leafHashes?.(FIRST_FREE_ADDRESS, leaves, sectors)
    ms = Math.min(ms, performance.now() - start)
  }
  kernels.nodeHashes?.(FIRST_FREE_ADDRESS, leaves + sectors * 32, 2 * sectors - 1)
  kernels.fold?.(leaves + sectors * 32, sectors)
  return { hashes: Uint8Array.from(bytes.subarray(leaves, leaves + 4 * sectors * 32)), ms }
}

/** Runs with V8 flags the other way round: `no-x` turns x on, `x` turns it off. They are turned back after. */
function withFlags<Result>(flags: string[], run: () => Result): Result {
  const opposite = (flag: string) => (flag.startsWith('no-') ? flag.slice(3) : `no-${flag}`)
  for (const flag of flags) setFlagsFromString(`--${opposite(flag)}`)
  try {
    return run()
  } finally {
    for (const flag of flags) setFlagsFromString(`--${flag}`)
  }
}
