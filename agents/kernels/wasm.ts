import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { KernelError } from './error.ts'
import { isBuilt, WASM_FILE } from './sources.ts'

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

/** Statics of the module end below this address; everything from here on is the caller's. */
export const FIRST_FREE_ADDRESS = 65536

const PAGE_BYTES = 65536

/** An instance with a memory of its own. */
export interface Kernels {
  exports: KernelExports
  memory: WebAssembly.Memory
  /** The whole memory. It never grows, so that views of it stay good. */
  bytes: Uint8Array
}

let compiled: WebAssembly.Module | undefined

/**
 * The compiled kernels, read once. When they are missing or older than their sources they are built on the spot, in
 * about three seconds and once for all processes; `npm start`, `npm test` and `npm run build` do so beforehand.
 *
 * @throws KernelError `KERNELS_NOT_BUILT` when they cannot be built here: no compiler, or a folder that is read-only
 */
export function kernelModule(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(readWasm())
  return compiled
}

/**
 * A new instance of the kernels. `memory` must not belong to another instance: their scratch would collide and digests
 * come out wrong.
 */
export function instantiateKernels({ freeBytes }: { freeBytes: number }): Kernels {
  const memory = kernelMemory({ freeBytes })
  return { exports: bindKernels({ module: kernelModule(), memory }), memory, bytes: new Uint8Array(memory.buffer) }
}

/** A shared memory of fixed size with `freeBytes` from {@link FIRST_FREE_ADDRESS} on. */
export function kernelMemory({ freeBytes }: { freeBytes: number }): WebAssembly.Memory {
  const pages = Math.ceil((FIRST_FREE_ADDRESS + freeBytes) / PAGE_BYTES)
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true })
}

/** Instantiates `module` over `memory`. */
export function bindKernels({ module, memory }: { module: WebAssembly.Module; memory: WebAssembly.Memory }) {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } })
  return exports as unknown as KernelExports
}

function readWasm(): Uint8Array<ArrayBuffer> {
  if (!isBuilt()) build()
  return Uint8Array.from(readFileSync(WASM_FILE))
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
