// Two messages side by side: a keccak state of 25 pairs of lanes, 16 bytes each. The low 8 bytes of a pair belong to
// message A, the high 8 bytes to message B. All functions work on raw addresses; nothing allocates.
import { keccakDigest2 } from '../build/generated/keccak';

/** Input state; keccakDigest2 leaves it untouched, so padding is set once for a batch. */
export const S: usize = memory.data(400, 64);
/** Four digest pairs. */
export const R: usize = memory.data(64, 64);
/** Last padding bit of the 136-byte rate, in lane 16. */
export const RATE_END: u64 = 0x8000000000000000;

/** S[lane..lane+2) = 16 bytes at a beside 16 bytes at b. */
@inline export function put2(lane: usize, a: usize, b: usize): void {
  const x = v128.load(a), y = v128.load(b), s = S + lane * 16;
  v128.store(s, v128.shuffle<i64>(x, y, 0, 2));
  v128.store(s, v128.shuffle<i64>(x, y, 1, 3), 16);
}

/** The same, but xored into S. */
@inline export function absorb2(lane: usize, a: usize, b: usize): void {
  const x = v128.load(a), y = v128.load(b), s = S + lane * 16;
  v128.store(s, v128.xor(v128.load(s), v128.shuffle<i64>(x, y, 0, 2)));
  v128.store(s, v128.xor(v128.load(s, 16), v128.shuffle<i64>(x, y, 1, 3)), 16);
}

/** 8 bytes at a beside 8 bytes at b. */
@inline export function pair(a: usize, b: usize): v128 {
  return i64x2.replace_lane(v128.load64_zero(a), 1, load<u64>(b));
}

/** Takes the two 32-byte digests out of four pairs at r. Both are read before either is stored. */
@inline export function take(r: usize, a: usize, b: usize): void {
  const p = v128.load(r), q = v128.load(r, 16), u = v128.load(r, 32), v = v128.load(r, 48);
  v128.store(a, v128.shuffle<i64>(p, q, 0, 2));
  v128.store(a, v128.shuffle<i64>(u, v, 0, 2), 16);
  v128.store(b, v128.shuffle<i64>(p, q, 1, 3));
  v128.store(b, v128.shuffle<i64>(u, v, 1, 3), 16);
}

/** Takes only the digest of message A. */
@inline export function takeOne(r: usize, a: usize): void {
  v128.store(a, v128.shuffle<i64>(v128.load(r), v128.load(r, 16), 0, 2));
  v128.store(a, v128.shuffle<i64>(v128.load(r, 32), v128.load(r, 48), 0, 2), 16);
}

/** Clears S and sets the padding of a one-block message of `words` 8-byte words. */
@inline export function setPadding(words: usize): void {
  memory.fill(S, 0, 400);
  v128.store(S + words * 16, i64x2.splat(1));
  v128.store(S + 256, i64x2.splat(RATE_END));
}

/** Digests of S to R. */
@inline export function digest(): void {
  keccakDigest2(S, R);
}
