import { segmentRoot } from './merkle.ts'

/** A piece of a worker's memory, to be filled in place and hashed there. */
export interface Slot {
  /** 1 MiB to be filled with file data from the front. */
  readonly input: Uint8Array
  /** Roots of the segments in `input[0..dataBytes)`, zero-filled to `paddedSectors`; 32 bytes each. */
  segmentRoots(parameters: { dataBytes: number; paddedSectors: number }): Promise<Uint8Array>
  /** Give the slot back. Must be called once, also after an error. */
  release(): void
}

/** Merkle hashing on worker threads. */
export class MerklePool {
  static async create(_parameters: { workers?: number } = {}): Promise<MerklePool> {
    return new MerklePool()
  }

  async segmentRoot(data: Uint8Array, paddedSectors: number): Promise<Uint8Array> {
    return segmentRoot(data, paddedSectors)
  }

  async claim(): Promise<Slot> {
    const input = new Uint8Array(1 << 20)
    return {
      input,
      release: () => {},
      segmentRoots: async ({ dataBytes, paddedSectors }) => {
        const count = Math.ceil(paddedSectors / 1024)
        const roots = new Uint8Array(count * 32)
        for (let i = 0; i < count; i++) {
          const data = input.subarray(Math.min(dataBytes, i * 262144), Math.min(dataBytes, (i + 1) * 262144))
          roots.set(segmentRoot(data, Math.min(1024, paddedSectors - i * 1024)), i * 32)
        }
        return roots
      },
    }
  }

  async close(): Promise<void> {}
}

let shared: Promise<MerklePool> | undefined

/** The pool of this process, made on first use; its idle workers do not keep the process alive. */
export function sharedMerklePool(): Promise<MerklePool> {
  shared ??= MerklePool.create()
  return shared
}
