import { FIRST_FREE_ADDRESS } from './memory.ts'
import type { WideTrial } from './wide.ts'

/** Not a multiple of four, so that the last group of four is short. */
const SECTORS = 67

const DATA = FIRST_FREE_ADDRESS
const HASHES = DATA + 65536
const PADS = HASHES + 65536
const RECALLS = PADS + 65536
const SEALED = RECALLS + 65536

/** Every kernel on keccak, over short last groups and full ones. */
export const KECCAK_TRIAL: WideTrial = {
  bytes: 5 * 65536,
  timed: ({ leafHashes }) => leafHashes(DATA, HASHES, SECTORS),
  rest: ({ nodeHashes, foldLevel, fold, segmentRoots, scratchpads, seal }) => {
    nodeHashes(HASHES, HASHES + 8192, SECTORS - 1)
    foldLevel(HASHES + 8192, SECTORS - 2)
    fold(HASHES + 16384, SECTORS)
    segmentRoots(DATA, SECTORS, SECTORS + 9, HASHES + 24576, HASHES + 49152)
    scratchpads(DATA, PADS, RECALLS, 3)
    seal(DATA, SEALED, 5, DATA + 128, 0)
    seal(SEALED, SEALED + 20480, 5, DATA + 128, 1)
  },
}

const CHUNK_BYTES = 256 * 1024
const PAD = DATA + CHUNK_BYTES
const SEED = PAD + 16384

/** The seal hashes of one chunk. */
export const PORA_TRIAL: WideTrial = {
  bytes: CHUNK_BYTES + 65536,
  timed: ({ sealHashes }) => sealHashes(DATA, PAD, SEED, SEED + 64),
  rest: () => {},
}
