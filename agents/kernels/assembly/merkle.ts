// File Merkle tree: leaf = keccak256(256-byte sector), node = keccak256(left | right), an odd last node moves up.
import { keccakPermute2 } from '../build/generated/keccak';
import { absorb2, digest, pair, put2, R, RATE_END, S, setPadding, take, takeOne } from './lanes';

/** keccak256 of 256 zero bytes. */
const ZERO_SECTOR: usize = memory.data<u8>([
  0xd3, 0x97, 0xb3, 0xb0, 0x43, 0xd8, 0x7f, 0xcd, 0x6f, 0xad, 0x12, 0x91, 0xff, 0x0b, 0xfd, 0x16,
  0x40, 0x1c, 0x27, 0x48, 0x96, 0xd8, 0xc6, 0x3a, 0x92, 0x37, 0x27, 0xf0, 0x77, 0xb8, 0xe0, 0xb5,
], 16);

const SEGMENT_SECTORS: i32 = 1024;

/** Hashes of n sectors at src. An odd last sector fills both lanes. */
export function leafHashes(src: usize, dst: usize, n: i32): void {
  for (let i = 0; i < n; i += 2) {
    const two = i + 1 < n, b = two ? src + 256 : src;
    // 256 bytes are two blocks of the 136-byte rate: 17 lanes, then 15 lanes and the padding
    for (let k: usize = 0; k < 8; k++) put2(2 * k, src + 16 * k, b + 16 * k);
    v128.store(S, pair(src + 128, b + 128), 256);
    memory.fill(S + 272, 0, 128);
    keccakPermute2(S);
    for (let k: usize = 0; k < 7; k++) absorb2(2 * k, src + 136 + 16 * k, b + 136 + 16 * k);
    v128.store(S, v128.xor(v128.load(S, 224), pair(src + 248, b + 248)), 224);
    v128.store(S, v128.xor(v128.load(S, 240), i64x2.splat(1)), 240);
    v128.store(S, v128.xor(v128.load(S, 256), i64x2.splat(RATE_END)), 256);
    digest();
    if (two) take(R, dst, dst + 32); else takeOne(R, dst);
    src += 512; dst += 64;
  }
}

/** keccak256 of n nodes of 64 bytes; dst may equal src. */
export function nodeHashes(src: usize, dst: usize, n: i32): void {
  setPadding(8);
  for (let i = 0; i < n; i += 2) {
    const two = i + 1 < n, b = two ? src + 64 : src;
    for (let k: usize = 0; k < 4; k++) put2(2 * k, src + 16 * k, b + 16 * k);
    digest();
    if (two) take(R, dst, dst + 32); else takeOne(R, dst);
    src += 128; dst += 64;
  }
}

/** One level up, in place: n hashes at h become (n + 1) / 2. */
export function foldLevel(h: usize, n: i32): void {
  const half = n >> 1;
  nodeHashes(h, h, half);
  if (n & 1) memory.copy(h + (<usize>half << 5), h + (<usize>(n - 1) << 5), 32);
}

/** All levels up, in place: n hashes at h become the root. */
export function fold(h: usize, n: i32): void {
  for (; n > 1; n = (n + 1) >> 1) foldLevel(h, n);
}

/**
 * Roots, at dst, of the segments of `padded` sectors at src, of which the first `sectors` hold data and the others are
 * zero and never read. `work` holds the leaf hashes of one segment, 32 KiB.
 */
export function segmentRoots(src: usize, sectors: i32, padded: i32, work: usize, dst: usize): void {
  for (let first = 0; first < padded; first += SEGMENT_SECTORS) {
    const leaves = min(SEGMENT_SECTORS, padded - first), full = max(0, min(leaves, sectors - first));
    leafHashes(src + (<usize>first << 8), work, full);
    for (let i = full; i < leaves; i++) memory.copy(work + (<usize>i << 5), ZERO_SECTOR, 32);
    fold(work, leaves);
    memory.copy(dst, work, 32);
    dst += 32;
  }
}
