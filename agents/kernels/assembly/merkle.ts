// File Merkle tree: leaf = keccak256(256-byte sector), node = keccak256(left | right), an odd last node moves up.
import { absorb, absorbWord, clearFrom, digest, pad, permute, put, putWord, R, setPadding, take } from './lanes';

/** keccak256 of 256 zero bytes. */
const ZERO_SECTOR: usize = memory.data<u8>([
  0xd3, 0x97, 0xb3, 0xb0, 0x43, 0xd8, 0x7f, 0xcd, 0x6f, 0xad, 0x12, 0x91, 0xff, 0x0b, 0xfd, 0x16,
  0x40, 0x1c, 0x27, 0x48, 0x96, 0xd8, 0xc6, 0x3a, 0x92, 0x37, 0x27, 0xf0, 0x77, 0xb8, 0xe0, 0xb5,
], 16);

const SEGMENT_SECTORS: i32 = 1024;

/** Hashes of n sectors at src. */
export function leafHashes(src: usize, dst: usize, n: i32): void {
  for (let i = 0; i < n; i += 4) {
    const j = min(i + 1, n - 1), k = min(i + 2, n - 1), l = min(i + 3, n - 1);
    const a = src + (<usize>i << 8), b = src + (<usize>j << 8), c = src + (<usize>k << 8), d = src + (<usize>l << 8);
    // 256 bytes are two blocks of the 136-byte rate: 17 lanes, then 15 lanes and the padding
    put(0, 0, a, b, c, d);
    put(2, 16, a, b, c, d);
    put(4, 32, a, b, c, d);
    put(6, 48, a, b, c, d);
    put(8, 64, a, b, c, d);
    put(10, 80, a, b, c, d);
    put(12, 96, a, b, c, d);
    put(14, 112, a, b, c, d);
    putWord(16, a + 128, b + 128, c + 128, d + 128);
    clearFrom(17);
    permute();
    absorb(0, 136, a, b, c, d);
    absorb(2, 152, a, b, c, d);
    absorb(4, 168, a, b, c, d);
    absorb(6, 184, a, b, c, d);
    absorb(8, 200, a, b, c, d);
    absorb(10, 216, a, b, c, d);
    absorb(12, 232, a, b, c, d);
    absorbWord(14, a + 248, b + 248, c + 248, d + 248);
    pad(15);
    digest();
    take(R, dst + (<usize>i << 5), dst + (<usize>j << 5), dst + (<usize>k << 5), dst + (<usize>l << 5));
  }
}

/** keccak256 of n nodes of 64 bytes; dst may equal src. */
export function nodeHashes(src: usize, dst: usize, n: i32): void {
  setPadding(8);
  for (let i = 0; i < n; i += 4) {
    const j = min(i + 1, n - 1), k = min(i + 2, n - 1), l = min(i + 3, n - 1);
    const a = src + (<usize>i << 6), b = src + (<usize>j << 6), c = src + (<usize>k << 6), d = src + (<usize>l << 6);
    put(0, 0, a, b, c, d);
    put(2, 16, a, b, c, d);
    put(4, 32, a, b, c, d);
    put(6, 48, a, b, c, d);
    digest();
    take(R, dst + (<usize>i << 5), dst + (<usize>j << 5), dst + (<usize>k << 5), dst + (<usize>l << 5));
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
