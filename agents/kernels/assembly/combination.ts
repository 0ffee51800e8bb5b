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
  const m = i8x16.splat(15), even = i16x8.splat(255);
  for (let table = tables, end = tables + count * SYMBOL_TABLE_BYTES; table < end; coefficients += 16) {
    const symbols = v128.load(coefficients);
    const low = v128.and(symbols, even), high = i16x8.shr_u(symbols, 8);
    const a = v128.and(low, m), b = v128.and(i16x8.shr_u(low, 4), m);
    const c = v128.and(high, m), d = v128.and(i16x8.shr_u(high, 4), m);
    for (let t = bits, last = bits + 2048; t < last; t += 512, table += 256) {
      const p0 = timesBit(t, a, b, c, d), p1 = timesBit(t + 128, a, b, c, d);
      const p2 = timesBit(t + 256, a, b, c, d), p3 = timesBit(t + 384, a, b, c, d);
      const p01 = v128.xor(p0, p1), p23 = v128.xor(p2, p3);
      v128.store(table, i64x2.splat(0));
      v128.store(table, p0, 16);
      v128.store(table, p1, 32);
      v128.store(table, p01, 48);
      v128.store(table, p2, 64);
      v128.store(table, v128.xor(p2, p0), 80);
      v128.store(table, v128.xor(p2, p1), 96);
      v128.store(table, v128.xor(p2, p01), 112);
      v128.store(table, p3, 128);
      v128.store(table, v128.xor(p3, p0), 144);
      v128.store(table, v128.xor(p3, p1), 160);
      v128.store(table, v128.xor(p3, p01), 176);
      v128.store(table, p23, 192);
      v128.store(table, v128.xor(p23, p0), 208);
      v128.store(table, v128.xor(p23, p1), 224);
      v128.store(table, v128.xor(p23, p01), 240);
    }
  }
}

/**
 * Eight symbols, whose nibbles are a to d, times one constant, whose tables (gf16.ts) are at `t`. Odd bytes of the indices
 * are 0 and entry 0 of a table is 0, so that each product byte stands alone in its 16-bit lane.
 */
@inline function timesBit(t: usize, a: v128, b: v128, c: v128, d: v128): v128 {
  const l = v128.xor(
    v128.xor(i8x16.relaxed_swizzle(v128.load(t), a), i8x16.relaxed_swizzle(v128.load(t, 32), b)),
    v128.xor(i8x16.relaxed_swizzle(v128.load(t, 64), c), i8x16.relaxed_swizzle(v128.load(t, 96), d)),
  );
  const h = v128.xor(
    v128.xor(i8x16.relaxed_swizzle(v128.load(t, 16), a), i8x16.relaxed_swizzle(v128.load(t, 48), b)),
    v128.xor(i8x16.relaxed_swizzle(v128.load(t, 80), c), i8x16.relaxed_swizzle(v128.load(t, 112), d)),
  );
  return v128.or(l, i16x8.shl(h, 8));
}

/** s + Σ products of eight symbols, whose low and high bytes are `lo` and `hi`; their tables are at `t`. */
@inline function combineEight(s: v128, lo: u64, hi: u64, t: usize): v128 {
  s = v128.xor(s, v128.xor(v128.load(t + ((<u32>lo << 4) & 240), 0), v128.load(t + (<u32>lo & 240), 256)));
  s = v128.xor(s, v128.xor(v128.load(t + ((<u32>hi << 4) & 240), 512), v128.load(t + (<u32>hi & 240), 768)));
  s = v128.xor(s, v128.xor(v128.load(t + (<u32>(lo >> 4) & 240), 1024), v128.load(t + (<u32>(lo >> 8) & 240), 1280)));
  s = v128.xor(s, v128.xor(v128.load(t + (<u32>(hi >> 4) & 240), 1536), v128.load(t + (<u32>(hi >> 8) & 240), 1792)));
  s = v128.xor(s, v128.xor(v128.load(t + (<u32>(lo >> 12) & 240), 2048), v128.load(t + (<u32>(lo >> 16) & 240), 2304)));
  s = v128.xor(s, v128.xor(v128.load(t + (<u32>(hi >> 12) & 240), 2560), v128.load(t + (<u32>(hi >> 16) & 240), 2816)));
  s = v128.xor(s, v128.xor(v128.load(t + (<u32>(lo >> 20) & 240), 3072), v128.load(t + (<u32>(lo >> 24) & 240), 3328)));
  s = v128.xor(s, v128.xor(v128.load(t + (<u32>(hi >> 20) & 240), 3584), v128.load(t + (<u32>(hi >> 24) & 240), 3840)));
  s = v128.xor(s, v128.xor(v128.load(t + (<u32>(lo >> 28) & 240), 4096), v128.load(t + (<u32>(lo >> 32) & 240), 4352)));
  s = v128.xor(s, v128.xor(v128.load(t + (<u32>(hi >> 28) & 240), 4608), v128.load(t + (<u32>(hi >> 32) & 240), 4864)));
  s = v128.xor(s, v128.xor(v128.load(t + (<u32>(lo >> 36) & 240), 5120), v128.load(t + (<u32>(lo >> 40) & 240), 5376)));
  s = v128.xor(s, v128.xor(v128.load(t + (<u32>(hi >> 36) & 240), 5632), v128.load(t + (<u32>(hi >> 40) & 240), 5888)));
  s = v128.xor(s, v128.xor(v128.load(t + (<u32>(lo >> 44) & 240), 6144), v128.load(t + (<u32>(lo >> 48) & 240), 6400)));
  s = v128.xor(s, v128.xor(v128.load(t + (<u32>(hi >> 44) & 240), 6656), v128.load(t + (<u32>(hi >> 48) & 240), 6912)));
  s = v128.xor(s, v128.xor(v128.load(t + (<u32>(lo >> 52) & 240), 7168), v128.load(t + (<u32>(lo >> 56) & 240), 7424)));
  s = v128.xor(s, v128.xor(v128.load(t + (<u32>(hi >> 52) & 240), 7680), v128.load(t + (<u32>(hi >> 56) & 240), 7936)));
  return s;
}

/** Columns that are copied together: rows often lie a power of two apart, where they would push each other out of caches. */
const STRIP: usize = 256;

/** Symbols whose tables are in use at a time: 16 KiB, half of a first-level cache. */
const TABLE_SYMBOLS: usize = 16;

/**
 * The part of the combinations of `count` rows (16 bytes each at `sums`, `stride` apart at `rows`) that the groups
 * [from, to) of 64 bytes contribute. `coefficients` are those of whole rows; `scratch` takes 16 KiB and 256 bytes a row.
 */
export function combineRows(bits: usize, coefficients: usize, rows: usize, stride: usize, count: usize, from: usize, to: usize, sums: usize, scratch: usize): void {
  memory.fill(sums, 0, count << 4);
  const tables = scratch, strip = scratch + TABLE_SYMBOLS * SYMBOL_TABLE_BYTES;
  for (let start = from << 6; start < to << 6; start += STRIP) {
    const width = min(STRIP, (to << 6) - start);
    for (let i: usize = 0; i < count; i++) memory.copy(strip + i * width, rows + i * stride + start, width);
    for (let column: usize = 0; column < width; column += 64) {
      for (let half: usize = 0; half < 32; half += TABLE_SYMBOLS) {
        buildCombinationTables(bits, coefficients + ((start + column) << 3) + (half << 4), TABLE_SYMBOLS, tables);
        let p = strip + column + half;
        for (let sum = sums, end = sums + (count << 4); sum < end; sum += 16, p += width) {
          let s = combineEight(v128.load(sum), load<u64>(p), load<u64>(p, 32), tables);
          s = combineEight(s, load<u64>(p, 8), load<u64>(p, 40), tables + 8 * SYMBOL_TABLE_BYTES);
          v128.store(sum, s);
        }
      }
    }
  }
}
