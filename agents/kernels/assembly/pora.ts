// PoRA hashes on Blake2b-512.
import { blake2bCompress, blake2bStart, sealHash2, sealHash3 } from '../build/generated/blake2b';

/** Pad seeds at dst (64 bytes each): Blake2b-512 of n blocks of 128 bytes (miner id, nonce, subtask, range digest). */
export function padSeeds(src: usize, dst: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n; i++) {
    blake2bStart(dst + 64 * i);
    blake2bCompress(dst + 64 * i, src + 128 * i, 128, true);
  }
}

/**
 * The 64 seal hashes (32 bytes each, at out) of a sealed 256 KiB chunk, mixed with a scratchpad, under a 64-byte pad
 * seed: 21 triples and a pair, of which one seal is in the triple before too.
 */
export function sealHashes(chunk: usize, pad: usize, seed: usize, out: usize): void {
  for (let s: usize = 0; s < 63; s += 3) sealHash3(chunk, pad, seed, out, s, s + 1, s + 2);
  sealHash2(chunk, pad, seed, out, 62, 63);
}
