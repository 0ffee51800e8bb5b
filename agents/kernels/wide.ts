import { setFlagsFromString } from 'node:v8'
import { bindKernels } from './bind.ts'
import { FIRST_FREE_ADDRESS, kernelMemory } from './memory.ts'

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
  const same = Buffer.compare(candidate.results, reference.results) === 0
  return same && candidate.ms < 0.9 * reference.ms ? wide : undefined
}

export interface CompileWideParameters {
  /** The wide module. */
  bytes: Uint8Array<ArrayBuffer>
  /** The portable module, compiled. */
  portable: WebAssembly.Module
}

/** Time of hashing, and what every wide kernel makes of data that does not repeat, odd counts included. */
function trial(module: WebAssembly.Module): { results: Uint8Array; ms: number } {
  const memory = kernelMemory({ freeBytes: 5 * REGION_BYTES })
  const kernels = bindKernels({ modules: [module], memory })
  const bytes = new Uint8Array(memory.buffer, FIRST_FREE_ADDRESS)
  let state = 1
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) | 0
    bytes[i] = state >>> 16
  }
  const [data, hashes, pads, recalls, sealed] = [0, 1, 2, 3, 4].map(
    (i) => FIRST_FREE_ADDRESS + i * REGION_BYTES,
  ) as Regions
  let ms = Number.POSITIVE_INFINITY
  for (let i = 0; i < 8; i++) {
    const start = performance.now()
    kernels.leafHashes(data, hashes, SECTORS)
    ms = Math.min(ms, performance.now() - start)
  }
  kernels.nodeHashes(hashes, hashes + 8192, SECTORS - 1)
  kernels.foldLevel(hashes + 8192, SECTORS - 2)
  kernels.fold(hashes + 16384, SECTORS)
  kernels.segmentRoots(data, SECTORS, SECTORS + 9, hashes + 24576, hashes + 49152)
  kernels.scratchpads(data, pads, recalls, 3)
  kernels.seal(data, sealed, 5, data + 128, 0)
  kernels.seal(sealed, sealed + 20480, 5, data + 128, 1)
  return { results: bytes, ms }
}

type Regions = [number, number, number, number, number]

const REGION_BYTES = 65536

/** Not a multiple of four, so that the last group is short. */
const SECTORS = 67

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
