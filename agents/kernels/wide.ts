import { setFlagsFromString } from 'node:v8'
import { bindKernels, type KernelExports } from './bind.ts'
import { FIRST_FREE_ADDRESS, kernelMemory } from './memory.ts'

/**
 * Wide kernels: those on keccak, SHA-256 and the PoRA seal hash, with several states in step. V8 can fuse pairs of neighbouring 128-bit operations
 * into 256-bit ones (AVX2), which makes them up to twice as fast, but only behind a flag it calls experimental. So:
 *
 * - the flag is on only while one such module is compiled, ahead of use and in one go, and then off again: nothing
 *   else in the process is compiled with it;
 * - the result is used only if it then leaves the same bytes behind as the portable kernels, and is faster. This is not
 *   for form: V8 13.6 does get some code wrong. One comparison over random data is enough, because no instruction of
 *   these kernels depends on the data: wrong code is wrong for any. On other processors, other versions of V8, or with
 *   `WEIGHTLESS_KERNELS=portable` in the environment, it is not used.
 */

/** Versions of V8 known to have these flags; an unknown flag would print an error. */
const KNOWN_V8 = /^1[34]\./

/** Whether this process may try the wide kernels at all. */
export function mayBeWide(): boolean {
  const { WEIGHTLESS_KERNELS: choice } = process.env
  return choice !== 'portable' && process.arch === 'x64' && KNOWN_V8.test(process.versions.v8)
}

/**
 * Compiles a wide module; undefined when its kernels are wrong or no faster here. Takes about 20 ms for the kernels on
 * keccak.
 */
export function compileWide<Exports>(parameters: CompileWideParameters<Exports>): WebAssembly.Module | undefined {
  const { bytes, portable, trial } = parameters
  const wide = withFlags(['liftoff', 'wasm-lazy-compilation', 'no-experimental-wasm-revectorize'], () => {
    return new WebAssembly.Module(bytes)
  })
  // Without the baseline compiler the first call is already the optimised code, and the comparison fair.
  const reference = withFlags(['liftoff'], () => run({ module: portable, trial }))
  const candidate = run({ module: wide, trial })
  const same = Buffer.compare(candidate.results, reference.results) === 0
  return same && candidate.ms < 0.97 * reference.ms ? wide : undefined
}

export interface CompileWideParameters<Exports = KernelExports> {
  /** The wide module. */
  bytes: Uint8Array<ArrayBuffer>
  /** The portable module, compiled. */
  portable: WebAssembly.Module
  trial: WideTrial<Exports>
}

/** What is run over memory filled with data that does not repeat; everything it leaves there is compared. */
export interface WideTrial<Exports = KernelExports> {
  /** Bytes from {@link FIRST_FREE_ADDRESS} on. */
  bytes: number
  /** The part whose time decides. */
  timed: (kernels: Exports) => void
  /** Every other kernel of the module. */
  rest: (kernels: Exports) => void
}

function run<Exports>({ module, trial }: RunParameters<Exports>): { results: Uint8Array; ms: number } {
  const memory = kernelMemory({ freeBytes: trial.bytes })
  const kernels = bindKernels<Exports>({ modules: [module], memory })
  const results = new Uint8Array(memory.buffer, FIRST_FREE_ADDRESS)
  let state = 1
  for (let i = 0; i < results.length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) | 0
    results[i] = state >>> 16
  }
  let ms = Number.POSITIVE_INFINITY
  for (let i = 0; i < 8; i++) {
    const start = performance.now()
    trial.timed(kernels)
    ms = Math.min(ms, performance.now() - start)
  }
  trial.rest(kernels)
  return { results, ms }
}

interface RunParameters<Exports> {
  module: WebAssembly.Module
  trial: WideTrial<Exports>
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
