// SHA-256 of many short messages, eight side by side. Everything works in scratch of the caller, so that instances may
// share one memory. A message is one byte (0 for a leaf, 1 for a node: RFC 6962) and `length` bytes, where `length` is a
// multiple of 64, or 16; so the last block, with the padding, holds 1 or 17 bytes of it.
import { sha256Begin8, sha256Compress8, sha256Constants } from '../build/generated/sha256';

/** Bytes of scratch for `hashPrepared`: states, block in lanes, eight last blocks, round constants. */
export const HASH_SCRATCH: usize = 256 + 512 + 512 + 2048;
const BLOCK: usize = 256;
const LAST: usize = 768;
const CONSTANTS: usize = 1280;

/** Words of four messages, 16 bytes each from p, q, r, s, to lanes at `w` (words of 32 bytes), in machine order. */
@inline function take(x: v128, y: v128, z: v128, u: v128, w: usize): void {
  const order = i8x16(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
  const a = v128.shuffle<i32>(x, y, 0, 4, 1, 5), b = v128.shuffle<i32>(z, u, 0, 4, 1, 5);
  const c = v128.shuffle<i32>(x, y, 2, 6, 3, 7), d = v128.shuffle<i32>(z, u, 2, 6, 3, 7);
  v128.store(w, i8x16.swizzle(v128.shuffle<i64>(a, b, 0, 2), order));
  v128.store(w, i8x16.swizzle(v128.shuffle<i64>(a, b, 1, 3), order), 32);
  v128.store(w, i8x16.swizzle(v128.shuffle<i64>(c, d, 0, 2), order), 64);
  v128.store(w, i8x16.swizzle(v128.shuffle<i64>(c, d, 1, 3), order), 96);
}

/** A block of four messages to lanes. */
@inline function takeBlock(p: usize, q: usize, r: usize, s: usize, w: usize): void {
  for (let i: usize = 0; i < 64; i += 16, w += 128) take(v128.load(p + i), v128.load(q + i), v128.load(r + i), v128.load(s + i), w);
}

/** The same for the first block: the byte before the data gives way to the prefix. */
@inline function takeFirst(p: usize, q: usize, r: usize, s: usize, w: usize, prefix: u8): void {
  take(
    i8x16.replace_lane(v128.load(p), 0, prefix), i8x16.replace_lane(v128.load(q), 0, prefix),
    i8x16.replace_lane(v128.load(r), 0, prefix), i8x16.replace_lane(v128.load(s), 0, prefix), w,
  );
  for (let i: usize = 16; i < 64; i += 16) take(v128.load(p + i), v128.load(q + i), v128.load(r + i), v128.load(s + i), w + (i << 3));
}

/** The last block of a message: `rest` bytes from `p`, padding, length of the message in bits. */
@inline function writeLast(p: usize, rest: usize, bytes: usize, to: usize): void {
  const zero = i64x2.splat(0);
  v128.store(to, zero); v128.store(to, zero, 16); v128.store(to, zero, 32); v128.store(to, zero, 48);
  memory.copy(to, p, rest);
  store<u8>(to + rest, 0x80);
  store<u32>(to, bswap<u32>(<u32>bytes << 3), 60);
}

/** States of four messages from lanes at `h` to 32-byte hashes. */
@inline function give(h: usize, p: usize, q: usize, r: usize, s: usize): void {
  const order = i8x16(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
  for (let half: usize = 0; half < 32; half += 16, h += 128) {
    const x = v128.load(h), y = v128.load(h, 32), z = v128.load(h, 64), u = v128.load(h, 96);
    const a = v128.shuffle<i32>(x, y, 0, 4, 1, 5), b = v128.shuffle<i32>(z, u, 0, 4, 1, 5);
    const c = v128.shuffle<i32>(x, y, 2, 6, 3, 7), d = v128.shuffle<i32>(z, u, 2, 6, 3, 7);
    v128.store(p + half, i8x16.swizzle(v128.shuffle<i64>(a, b, 0, 2), order));
    v128.store(q + half, i8x16.swizzle(v128.shuffle<i64>(a, b, 1, 3), order));
    v128.store(r + half, i8x16.swizzle(v128.shuffle<i64>(c, d, 0, 2), order));
    v128.store(s + half, i8x16.swizzle(v128.shuffle<i64>(c, d, 1, 3), order));
  }
}

/** To be called once before `hashPrepared`, on the same scratch. */
export function prepareHashes(scratch: usize): void { sha256Constants(scratch + CONSTANTS); }

/**
 * Hashes of `count` messages at `src`, `src + stride` …, to `dst`, `dst + dstStride` …. A result may overwrite its own
 * message, or that of an earlier one. The byte before `src` is read (and not used).
 */
export function hashPrepared(prefix: u8, src: usize, stride: usize, length: usize, count: usize, dst: usize, dstStride: usize, scratch: usize): void {
  const w = scratch + BLOCK, k = scratch + CONSTANTS;
  for (let i: usize = 0; i < count; i += 8) {
    // Fewer than eight: the last one again, which stores the same hash in the same place.
    const last = count - 1 - i;
    const i1 = min(1, last), i2 = min(2, last), i3 = min(3, last), i4 = min(4, last), i5 = min(5, last), i6 = min(6, last), i7 = min(7, last);
    const s = src + i * stride - 1; // one byte early, so that the prefix has its place
    let p0 = s, p1 = s + i1 * stride, p2 = s + i2 * stride, p3 = s + i3 * stride;
    let p4 = s + i4 * stride, p5 = s + i5 * stride, p6 = s + i6 * stride, p7 = s + i7 * stride;
    sha256Begin8(scratch);
    let left = length + 1;
    for (; left > 63; left -= 64) {
      if (left > length) {
        takeFirst(p0, p1, p2, p3, w, prefix);
        takeFirst(p4, p5, p6, p7, w + 16, prefix);
      } else {
        takeBlock(p0, p1, p2, p3, w);
        takeBlock(p4, p5, p6, p7, w + 16);
      }
      p0 += 64; p1 += 64; p2 += 64; p3 += 64; p4 += 64; p5 += 64; p6 += 64; p7 += 64;
      sha256Compress8(scratch, w, k);
    }
    const b = scratch + LAST;
    writeLast(p0, left, length + 1, b); writeLast(p1, left, length + 1, b + 64);
    writeLast(p2, left, length + 1, b + 128); writeLast(p3, left, length + 1, b + 192);
    writeLast(p4, left, length + 1, b + 256); writeLast(p5, left, length + 1, b + 320);
    writeLast(p6, left, length + 1, b + 384); writeLast(p7, left, length + 1, b + 448);
    if (left > length) for (let lane: usize = 0; lane < 512; lane += 64) store<u8>(b + lane, prefix);
    takeBlock(b, b + 64, b + 128, b + 192, w);
    takeBlock(b + 256, b + 320, b + 384, b + 448, w + 16);
    sha256Compress8(scratch, w, k);
    const d = dst + i * dstStride;
    give(scratch, d, d + i1 * dstStride, d + i2 * dstStride, d + i3 * dstStride);
    give(scratch + 16, d + i4 * dstStride, d + i5 * dstStride, d + i6 * dstStride, d + i7 * dstStride);
  }
}
