// Trees of RFC 6962 over rows: a leaf is SHA-256(0x00 | data), a node SHA-256(0x01 | left | right), and an odd last hash
// of a level is carried up as it is, which gives the tree its shape for any number of leaves.
import { HASH_SCRATCH, hashPrepared, prepareHashes } from './sha256-lanes';

/** Bytes of a row that are hashed as one leaf. */
const SUBLINE: usize = 1024;

/**
 * Hashes of `count` rows (`rowBytes` each, a multiple of 64 up to 32 KiB, one after another) to `leaves`: the roots over
 * their sub-lines. `scratch` takes 16 KiB.
 */
export function hashRows(rows: usize, rowBytes: usize, count: usize, leaves: usize, scratch: usize): void {
  prepareHashes(scratch);
  if (rowBytes <= SUBLINE) return hashPrepared(0, rows, rowBytes, rowBytes, count, leaves, 32, scratch);
  const n = (rowBytes + SUBLINE - 1) / SUBLINE;
  const hashes = scratch + HASH_SCRATCH;
  const stride = n << 5;
  for (let i: usize = 0; i < count; i += 8) {
    const rowsNow = min<usize>(8, count - i);
    const row = rows + i * rowBytes;
    for (let s: usize = 0; s < n; s++) {
      hashPrepared(0, row + s * SUBLINE, rowBytes, min(SUBLINE, rowBytes - s * SUBLINE), rowsNow, hashes + (s << 5), stride, scratch);
    }
    for (let width = n; width > 1; width = (width + 1) >> 1) {
      for (let k: usize = 0; k < width >> 1; k++) {
        hashPrepared(1, hashes + (k << 6), stride, 64, rowsNow, hashes + (k << 5), stride, scratch);
      }
      if (width & 1) for (let r: usize = 0; r < rowsNow; r++) copyHash(hashes + r * stride + ((width >> 1) << 5), hashes + r * stride + ((width - 1) << 5));
    }
    for (let r: usize = 0; r < rowsNow; r++) copyHash(leaves + ((i + r) << 5), hashes + r * stride);
  }
}

/** Hashes of `count` leaves of 16 bytes. `scratch` takes 4 KiB. */
export function hashCombinations(src: usize, count: usize, leaves: usize, scratch: usize): void {
  prepareHashes(scratch);
  hashPrepared(0, src, 16, 16, count, leaves, 32, scratch);
}

/** All levels above `count` hashes at `level`, each right behind the one below; the last one is the root. */
export function foldTree(level: usize, count: usize, scratch: usize): void {
  prepareHashes(scratch);
  for (let width = count; width > 1; width = (width + 1) >> 1) {
    const above = level + (width << 5);
    hashPrepared(1, level, 64, 64, width >> 1, above, 32, scratch);
    if (width & 1) copyHash(above + ((width >> 1) << 5), above - 32);
    level = above;
  }
}

/**
 * Replaces `count` hashes at `nodes` by the roots their paths lead to. Path i has turns[i] >> 16 hashes, at most 15, at
 * `paths` + i · `pathStride`; bit s of turns[i] says that hash s stands on the left. `scratch` takes 8 KiB.
 */
export function climb(nodes: usize, count: usize, paths: usize, pathStride: usize, turns: usize, scratch: usize): void {
  prepareHashes(scratch);
  const pairs = scratch + HASH_SCRATCH + 64;
  const above = pairs + 512;
  for (let i: usize = 0; i < count; i += 8) {
    const now = min<usize>(8, count - i);
    let steps: u32 = 0;
    for (let r: usize = 0; r < now; r++) steps = max(steps, stepsOf(load<u32>(turns + ((i + r) << 2))));
    for (let s: u32 = 0; s < steps; s++) {
      for (let r: usize = 0; r < now; r++) {
        const turn = load<u32>(turns + ((i + r) << 2));
        const left: usize = (turn >> s) & 1 ? 32 : 0;
        copyHash(pairs + (r << 6) + left, nodes + ((i + r) << 5));
        copyHash(pairs + (r << 6) + (left ^ 32), paths + (i + r) * pathStride + (<usize>s << 5));
      }
      hashPrepared(1, pairs, 64, 64, now, above, 32, scratch);
      for (let r: usize = 0; r < now; r++) {
        if (s < stepsOf(load<u32>(turns + ((i + r) << 2)))) copyHash(nodes + ((i + r) << 5), above + (r << 5));
      }
    }
  }
}

@inline function stepsOf(turn: u32): u32 {
  return (turn >> 16) & 15;
}

@inline function copyHash(to: usize, from: usize): void {
  const a = v128.load(from), b = v128.load(from, 16);
  v128.store(to, a);
  v128.store(to, b, 16);
}
