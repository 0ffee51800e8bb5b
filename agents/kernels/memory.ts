/** Statics of the modules end below this address; everything from here on is the caller's. */
export const FIRST_FREE_ADDRESS = 65536

const PAGE_BYTES = 65536

/** A shared memory of fixed size with `freeBytes` from {@link FIRST_FREE_ADDRESS} on. */
export function kernelMemory({ freeBytes }: { freeBytes: number }): WebAssembly.Memory {
  const pages = Math.ceil((FIRST_FREE_ADDRESS + freeBytes) / PAGE_BYTES)
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true })
}
