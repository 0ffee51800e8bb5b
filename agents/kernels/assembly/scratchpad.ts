// PoRA scratchpads: 512 hashes in a row, each over the 64 bytes that the two before it left. The chain is sequential,
// so four nonces go side by side.
import { keccakDigest4 } from '../build/generated/keccak';
import { put, S, setPadding, digest, R, take } from './lanes';

const PAD: usize = 16384;
/** Bytes of half the running value of four nonces. */
const HALF: usize = 128;

/** n scratchpads (16 KiB each) and recall seeds (32 bytes each) from n pad seeds (64 bytes each). */
export function scratchpads(seeds: usize, pads: usize, recalls: usize, n: i32): void {
  for (let i = 0; i < n; i += 4) {
    const j = min(i + 1, n - 1), k = min(i + 2, n - 1), l = min(i + 3, n - 1);
    setPadding(8);
    for (let w: usize = 0; w < 64; w += 16) {
      put(w >> 3, w, seeds + (<usize>i << 6), seeds + (<usize>j << 6), seeds + (<usize>k << 6), seeds + (<usize>l << 6));
    }
    const a = pads + i * PAD, b = pads + j * PAD, c = pads + k * PAD, d = pads + l * PAD;
    for (let w: usize = 0; w < PAD; w += 64) {
      // the digest replaces the lower half of what it was taken of, the next one the upper half
      keccakDigest4(S, S);
      take(S, a + w, b + w, c + w, d + w);
      keccakDigest4(S, S + HALF);
      take(S + HALF, a + w + 32, b + w + 32, c + w + 32, d + w + 32);
    }
    digest();
    take(R, recalls + (<usize>i << 5), recalls + (<usize>j << 5), recalls + (<usize>k << 5), recalls + (<usize>l << 5));
  }
}
