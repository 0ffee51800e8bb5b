// Sealing: each 32-byte word of a 4 KiB piece is xored with the hash of the sealed word before it; the first with
// keccak256(miner id | context digest | u256(position)). A chain within a piece, so four pieces go side by side.
import { digest, put, putWord, R, S, setPadding } from './lanes';

const PIECE: usize = 4096;
/** Sectors of a piece. */
const PIECE_SECTORS: u64 = 16;
/** Position of a piece, big-endian. */
const POSITIONS: usize = memory.data(32, 16);

/**
 * dst = seal(src), or with `undo` unseal(src), for n pieces; dst may equal src. key: miner id (32 bytes), context digest
 * (32 bytes), position of the first piece in sectors (u64, little-endian).
 */
export function seal(src: usize, dst: usize, n: i32, key: usize, undo: i32): void {
  const position = load<u64>(key, 64);
  for (let i = 0; i < n; i += 4) {
    const j = min(i + 1, n - 1), k = min(i + 2, n - 1), l = min(i + 3, n - 1);
    firstMask(key, position + i * PIECE_SECTORS, position + j * PIECE_SECTORS, position + k * PIECE_SECTORS, position + l * PIECE_SECTORS);
    setPadding(4);
    sealFour(<usize>i * PIECE, <usize>j * PIECE, <usize>k * PIECE, <usize>l * PIECE, src, dst, undo);
  }
}

/** R = keccak256(miner id | context digest | u256(position)) of four positions. */
function firstMask(key: usize, a: u64, b: u64, c: u64, d: u64): void {
  setPadding(12);
  for (let w: usize = 0; w < 64; w += 16) put(w >> 3, w, key, key, key, key);
  store<u64>(POSITIONS, bswap<u64>(a));
  store<u64>(POSITIONS, bswap<u64>(b), 8);
  store<u64>(POSITIONS, bswap<u64>(c), 16);
  store<u64>(POSITIONS, bswap<u64>(d), 24);
  putWord(11, POSITIONS, POSITIONS + 8, POSITIONS + 16, POSITIONS + 24);
  digest();
}

/** Four pieces at offsets a to d, from the first masks in R. */
function sealFour(a: usize, b: usize, c: usize, d: usize, src: usize, dst: usize, undo: i32): void {
  for (let w: usize = 0; w < PIECE; w += 32) {
    const p = src + w;
    const a0 = v128.load(p + a), a1 = v128.load(p + a, 16), b0 = v128.load(p + b), b1 = v128.load(p + b, 16);
    const c0 = v128.load(p + c), c1 = v128.load(p + c, 16), d0 = v128.load(p + d), d1 = v128.load(p + d, 16);
    // in: four lanes of four messages, each as AB and CD
    const i0 = v128.shuffle<i64>(a0, b0, 0, 2), j0 = v128.shuffle<i64>(c0, d0, 0, 2);
    const i1 = v128.shuffle<i64>(a0, b0, 1, 3), j1 = v128.shuffle<i64>(c0, d0, 1, 3);
    const i2 = v128.shuffle<i64>(a1, b1, 0, 2), j2 = v128.shuffle<i64>(c1, d1, 0, 2);
    const i3 = v128.shuffle<i64>(a1, b1, 1, 3), j3 = v128.shuffle<i64>(c1, d1, 1, 3);
    const o0 = v128.xor(i0, v128.load(R)), u0 = v128.xor(j0, v128.load(R, 16));
    const o1 = v128.xor(i1, v128.load(R, 32)), u1 = v128.xor(j1, v128.load(R, 48));
    const o2 = v128.xor(i2, v128.load(R, 64)), u2 = v128.xor(j2, v128.load(R, 80));
    const o3 = v128.xor(i3, v128.load(R, 96)), u3 = v128.xor(j3, v128.load(R, 112));
    const q = dst + w;
    v128.store(q + a, v128.shuffle<i64>(o0, o1, 0, 2)); v128.store(q + a, v128.shuffle<i64>(o2, o3, 0, 2), 16);
    v128.store(q + b, v128.shuffle<i64>(o0, o1, 1, 3)); v128.store(q + b, v128.shuffle<i64>(o2, o3, 1, 3), 16);
    v128.store(q + c, v128.shuffle<i64>(u0, u1, 0, 2)); v128.store(q + c, v128.shuffle<i64>(u2, u3, 0, 2), 16);
    v128.store(q + d, v128.shuffle<i64>(u0, u1, 1, 3)); v128.store(q + d, v128.shuffle<i64>(u2, u3, 1, 3), 16);
    if (w == PIECE - 32) break;
    // the sealed word, which is the input when unsealing, is the next message
    if (undo) chain(i0, j0, i1, j1, i2, j2, i3, j3); else chain(o0, u0, o1, u1, o2, u2, o3, u3);
    digest();
  }
}

@inline function chain(a: v128, b: v128, c: v128, d: v128, e: v128, f: v128, g: v128, h: v128): void {
  v128.store(S, a); v128.store(S, b, 16); v128.store(S, c, 32); v128.store(S, d, 48);
  v128.store(S, e, 64); v128.store(S, f, 80); v128.store(S, g, 96); v128.store(S, h, 112);
}
