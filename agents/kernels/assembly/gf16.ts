// GF(2^16) by labels in a Cantor basis, as gf16-twin.ts explains it: addition is XOR, s_r maps label v to v >> r.
// No mutable statics: several instances may share one memory, each with its own scratch.

const POLYNOMIAL: u32 = 0x1002d;
const CANTOR = memory.data<u16>([0x0001, 0xacca, 0x3c0e, 0x163e, 0xc582, 0xed2e, 0x914c, 0x4012, 0x6c98, 0x10d8, 0x6a72, 0xb900, 0xfdb8, 0xfb34, 0xff38, 0x991e]);

/** Bytes of the two conversion tables that `initField` fills: label to polynomial, polynomial to label. */
export const FIELD_BYTES: usize = 262144;
const SECOND: usize = 131072;

/** Bytes of the nibble tables of one multiplier. */
export const TABLE_BYTES: usize = 128;

/** Fills the conversion tables at `field`. */
export function initField(field: usize): void {
  store<u16>(field, 0);
  store<u16>(field + SECOND, 0);
  for (let label: u32 = 1; label < 65536; label++) {
    const p = load<u16>(field + (<usize>(label & (label - 1)) << 1)) ^ load<u16>(CANTOR + (<usize>ctz(label) << 1));
    store<u16>(field + (<usize>label << 1), p);
    store<u16>(field + SECOND + (<usize>p << 1), <u16>label);
  }
}

/** Product of two labels, bit by bit: for building tables only. */
export function multiply(field: usize, a: u32, b: u32): u32 {
  let x = <u32>load<u16>(field + (<usize>a << 1));
  let y = <u32>load<u16>(field + (<usize>b << 1));
  let product: u32 = 0;
  for (; y; y >>= 1) {
    if (y & 1) product ^= x;
    x <<= 1;
    if (x & 0x10000) x ^= POLYNOMIAL;
  }
  return <u32>load<u16>(field + SECOND + (<usize>product << 1));
}

/**
 * Nibble tables of `multiplier` at `table`: for nibble p of a symbol 16 low product bytes at 32p and 16 high ones at
 * 32p + 16, for `i8x16.swizzle`. Multiplication is linear over XOR, so an entry is the sum of its bits' products.
 */
export function buildTable(field: usize, multiplier: u32, table: usize): void {
  for (let p: u32 = 0; p < 4; p++) {
    const low = table + (<usize>p << 5);
    const high = low + 16;
    store<u8>(low, 0);
    store<u8>(high, 0);
    for (let bit: u32 = 1; bit < 16; bit <<= 1) {
      const product = multiply(field, multiplier, bit << (4 * p));
      for (let x: u32 = 0; x < bit; x++) {
        store<u8>(low + (x | bit), <u8>(load<u8>(low + x) ^ (product & 255)));
        store<u8>(high + (x | bit), <u8>(load<u8>(high + x) ^ (product >> 8)));
      }
    }
  }
}

/** Tables of the labels [0, count) at `tables`, one after another. */
export function buildTables(field: usize, count: u32, tables: usize): void {
  for (let label: u32 = 0; label < count; label++) buildTable(field, label, tables + <usize>label * TABLE_BYTES);
}

/** Tables of the `count` labels listed as u16 at `labels`. */
export function buildTablesOf(field: usize, labels: usize, count: u32, tables: usize): void {
  for (let i: usize = 0; i < <usize>count; i++) buildTable(field, load<u16>(labels + (i << 1)), tables + i * TABLE_BYTES);
}
