import type { KernelExports } from './bind.ts'
import { FIRST_FREE_ADDRESS } from './memory.ts'
import { instantiateKernels } from './wasm.ts'

/** Bytes of the input region of this thread's instance. */
export const INPUT_BYTES = 512 * 1024

/** Bytes of its output region. */
export const OUTPUT_BYTES = 128 * 1024

/** The instance of this thread. Regions are reused by every call, which is safe because calls are synchronous. */
export interface LocalKernels {
  exports: KernelExports
  input: Uint8Array
  inputAddress: number
  output: Uint8Array
  outputAddress: number
}

let instance: LocalKernels | undefined

/** Kernels of this thread, instantiated at the first call. */
export function localKernels(): LocalKernels {
  instance ??= create()
  return instance
}

function create(): LocalKernels {
  const { exports, bytes } = instantiateKernels({ freeBytes: INPUT_BYTES + OUTPUT_BYTES })
  const inputAddress = FIRST_FREE_ADDRESS
  const outputAddress = inputAddress + INPUT_BYTES
  return {
    exports,
    input: bytes.subarray(inputAddress, outputAddress),
    inputAddress,
    output: bytes.subarray(outputAddress, outputAddress + OUTPUT_BYTES),
    outputAddress,
  }
}
