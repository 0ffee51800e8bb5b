// Combinations of a row's symbols with coefficients in GF(2^128) = GF(2^16)^8: for every symbol four nibble tables of
// sixteen 16-byte entries, so that a symbol costs four loads and four XORs. The tables of a strip of symbols stay in cache
// while all rows pass over it.
/** Bytes of the tables of one symbol. */
const SYMBOL_TABLE_BYTES: usize = 1024;

/**
 * Tables of `count` symbols from their `coefficients` (eight u16 each). `bits` holds the multiplication tables of the 16
 * single bits: by linearity all products are sums of these.
 */
function buildCombinationTables(bits: usize, coefficients: usize, count: usize, tables: usize): void {
  for (let j: usize = 0; j < count; j++) {
    const coefficient = v128.load(coefficients + (j << 4));
    const table = tables + j * SYMBOL_TABLE_BYTES;
    for (let p: usize = 0; p < 4; p++) {
      const nibble = table + (p << 8);
      v128.store(nibble, i64x2.splat(0));
      for (let b: usize = 0; b < 4; b++) {
        const product = timesBit(bits + ((4 * p + b) << 7), coefficient);
        const bit: usize = 1 << b;
        for (let x: usize = 0; x < bit; x++) v128.store(nibble + ((x | bit) << 4), v128.xor(v128.load(nibble + (x << 4)), product));
      }
    }
  }
}

/** Eight symbols times one constant, whose nibble tables (gf16.ts) are at `t`. */
@inline function timesBit(t: usize, symbols: v128): v128 {
  const m = i8x16.splat(15);
  const even = i16x8.splat(255);
  const low = v128.and(symbols, even), high = i16x8.shr_u(symbols, 8);
  const a = v128.and(low, m), b = v128.and(i16x8.shr_u(low, 4), m), c = v128.and(high, m), d = v128.and(i16x8.shr_u(high, 4), m);
  // Odd bytes of the indices are 0 and table entry 0 is 0, so each product byte stands alone in its 16-bit lane.
  const l = v128.xor(v128.xor(i8x16.relaxed_swizzle(v128.load(t), a), i8x16.relaxed_swizzle(v128.load(t, 32), b)), v128.xor(i8x16.relaxed_swizzle(v128.load(t, 64), c), i8x16.relaxed_swizzle(v128.load(t, 96), d)));
  const h = v128.xor(v128.xor(i8x16.relaxed_swizzle(v128.load(t, 16), a), i8x16.relaxed_swizzle(v128.load(t, 48), b)), v128.xor(i8x16.relaxed_swizzle(v128.load(t, 80), c), i8x16.relaxed_swizzle(v128.load(t, 112), d)));
  return v128.or(l, i16x8.shl(h, 8));
}

/**
 * Adds to the combinations at `sums` (16 bytes each) of `count` rows their symbols of one strip: `group` is the address of
 * the strip in the first row, `groups` its length in groups of 64 bytes, `stride` the distance of the rows.
 */
function combineStrip(group: usize, stride: usize, count: usize, groups: usize, tables: usize, sums: usize): void {
  for (let i: usize = 0; i < count; i++) {
    let p = group + i * stride;
    let t = tables;
    let s0 = v128.load(sums + (i << 4)), s1 = i64x2.splat(0);
    for (let g: usize = 0; g < groups; g++, p += 64) {
      for (let word: usize = 0; word < 32; word += 8) {
        let lo = load<u64>(p + word), hi = load<u64>(p + word, 32);
        for (let k = 0; k < 8; k++, t += SYMBOL_TABLE_BYTES, lo >>= 8, hi >>= 8) {
          s0 = v128.xor(s0, v128.xor(v128.load(t + ((<usize>lo & 15) << 4)), v128.load(t + (<usize>lo & 240), 256)));
          s1 = v128.xor(s1, v128.xor(v128.load(t + ((<usize>hi & 15) << 4), 512), v128.load(t + (<usize>hi & 240), 768)));
        }
      }
    }
    v128.store(sums + (i << 4), v128.xor(s0, s1));
  }
}

/** Groups of a strip: their tables take 256 KiB, which stays in the second-level cache. */
const STRIP_GROUPS: usize = 8;

/**
 * The part of the combinations of `count` rows (16 bytes each at `sums`, `stride` apart at `rows`) that the groups
 * [from, to) of 64 bytes contribute. `coefficients` are those of whole rows; `scratch` takes 256 KiB.
 */
export function combineRows(bits: usize, coefficients: usize, rows: usize, stride: usize, count: usize, from: usize, to: usize, sums: usize, scratch: usize): void {
  memory.fill(sums, 0, count << 4);
  for (let group = from; group < to; group += STRIP_GROUPS) {
    const groups = min(STRIP_GROUPS, to - group);
    buildCombinationTables(bits, coefficients + (group << 9), groups << 5, scratch);
    combineStrip(rows + (group << 6), stride, count, groups, scratch, sums);
  }
}
