// Four messages side by side: a keccak state of 25 lanes, 32 bytes each, 8 for each of the messages A, B, C and D.
// All functions work on raw addresses; nothing allocates. To hash fewer than four messages, name one of them again:
// the work is the same, and the same digest is stored twice in the same place.
import { keccakDigest4, keccakPermute4 } from '../build/generated/keccak';

/** Input state; keccakDigest4 leaves it untouched, so padding is set once for a batch. */
export const S: usize = memory.data(800, 64);
/** Four digest lanes. */
export const R: usize = memory.data(128, 64);
/** Last padding bit of the 136-byte rate, in lane 16. */
const RATE_END: u64 = 0x8000000000000000;

/** Bytes of a lane of all four messages. */
const LANE: usize = 32;

/** S[lane] and S[lane + 1] = 16 bytes of each message, from offset `at`. */
@inline export function put(lane: usize, at: usize, a: usize, b: usize, c: usize, d: usize): void {
  const x = v128.load(a + at), y = v128.load(b + at), z = v128.load(c + at), w = v128.load(d + at), s = S + lane * LANE;
  v128.store(s, v128.shuffle<i64>(x, y, 0, 2));
  v128.store(s, v128.shuffle<i64>(z, w, 0, 2), 16);
  v128.store(s, v128.shuffle<i64>(x, y, 1, 3), 32);
  v128.store(s, v128.shuffle<i64>(z, w, 1, 3), 48);
}

/** S[lane] = 8 bytes of each message. */
@inline export function putWord(lane: usize, a: usize, b: usize, c: usize, d: usize): void {
  v128.store(S + lane * LANE, pair(a, b));
  v128.store(S + lane * LANE, pair(c, d), 16);
}

/** The same as put, but xored into S. */
@inline export function absorb(lane: usize, at: usize, a: usize, b: usize, c: usize, d: usize): void {
  const x = v128.load(a + at), y = v128.load(b + at), z = v128.load(c + at), w = v128.load(d + at), s = S + lane * LANE;
  v128.store(s, v128.xor(v128.load(s), v128.shuffle<i64>(x, y, 0, 2)));
  v128.store(s, v128.xor(v128.load(s, 16), v128.shuffle<i64>(z, w, 0, 2)), 16);
  v128.store(s, v128.xor(v128.load(s, 32), v128.shuffle<i64>(x, y, 1, 3)), 32);
  v128.store(s, v128.xor(v128.load(s, 48), v128.shuffle<i64>(z, w, 1, 3)), 48);
}

/** The same as putWord, but xored into S. */
@inline export function absorbWord(lane: usize, a: usize, b: usize, c: usize, d: usize): void {
  const s = S + lane * LANE;
  v128.store(s, v128.xor(v128.load(s), pair(a, b)));
  v128.store(s, v128.xor(v128.load(s, 16), pair(c, d)), 16);
}

/** S[lane] ^= value, in all four messages. */
@inline export function absorbValue(lane: usize, value: u64): void {
  const s = S + lane * LANE;
  v128.store(s, v128.xor(v128.load(s), i64x2.splat(value)));
  v128.store(s, v128.xor(v128.load(s, 16), i64x2.splat(value)), 16);
}

/** Clears the lanes from `lane` on. */
@inline export function clearFrom(lane: usize): void {
  memory.fill(S + lane * LANE, 0, (25 - lane) * LANE);
}

/** Clears S and sets the padding of a message of `words` 8-byte words, fewer than 17. */
@inline export function setPadding(words: usize): void {
  clearFrom(0);
  pad(words);
}

/** Padding of a last block of `words` 8-byte words, xored into S. */
@inline export function pad(words: usize): void {
  absorbValue(words, 1);
  absorbValue(16, RATE_END);
}

/** Takes the four 32-byte digests out of the lanes at r. All are read before any is stored. */
@inline export function take(r: usize, a: usize, b: usize, c: usize, d: usize): void {
  const p = v128.load(r), q = v128.load(r, 32), u = v128.load(r, 64), v = v128.load(r, 96);
  const s = v128.load(r, 16), t = v128.load(r, 48), x = v128.load(r, 80), y = v128.load(r, 112);
  store2(a, v128.shuffle<i64>(p, q, 0, 2), v128.shuffle<i64>(u, v, 0, 2));
  store2(b, v128.shuffle<i64>(p, q, 1, 3), v128.shuffle<i64>(u, v, 1, 3));
  store2(c, v128.shuffle<i64>(s, t, 0, 2), v128.shuffle<i64>(x, y, 0, 2));
  store2(d, v128.shuffle<i64>(s, t, 1, 3), v128.shuffle<i64>(x, y, 1, 3));
}

/** Digests of S to R. */
@inline export function digest(): void {
  keccakDigest4(S, R);
}

/** S after a full block. */
@inline export function permute(): void {
  keccakPermute4(S);
}

@inline function store2(at: usize, low: v128, high: v128): void {
  v128.store(at, low);
  v128.store(at, high, 16);
}

/** 8 bytes at a beside 8 bytes at b. */
@inline function pair(a: usize, b: usize): v128 {
  return i64x2.replace_lane(v128.load64_zero(a), 1, load<u64>(b));
}
