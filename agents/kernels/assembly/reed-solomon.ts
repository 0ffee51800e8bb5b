// Reed–Solomon coding of rows by the additive FFT; the oracle is reed-solomon-twin.ts. Work goes in strips of columns, so
// narrow that the scratch of all rows stays in the second-level cache.
//
// Rows hold groups of 64 bytes: 32 low bytes, then 32 high bytes of 32 symbols. Multiplication by a constant looks nibbles
// up in tables (gf16.ts); indices are below 16, so that the relaxed swizzle gives the same result as the strict one.
import { TABLE_BYTES } from './gf16';

@inline function lookUp(t0: v128, t1: v128, t2: v128, t3: v128, a: v128, b: v128, c: v128, d: v128): v128 {
  return v128.xor(
    v128.xor(i8x16.relaxed_swizzle(t0, a), i8x16.relaxed_swizzle(t1, b)),
    v128.xor(i8x16.relaxed_swizzle(t2, c), i8x16.relaxed_swizzle(t3, d)),
  );
}

/** u ^= T·v; v ^= u, over `length` bytes. */
@inline function butterfly(u: usize, v: usize, length: usize, t: usize): void {
  const t0 = v128.load(t), h0 = v128.load(t, 16), t1 = v128.load(t, 32), h1 = v128.load(t, 48);
  const t2 = v128.load(t, 64), h2 = v128.load(t, 80), t3 = v128.load(t, 96), h3 = v128.load(t, 112);
  const m = i8x16.splat(15);
  for (const end = u + length; u < end; u += 64, v += 64) {
    for (let q: usize = 0; q < 32; q += 16) {
      const lo = v128.load(v + q), hi = v128.load(v + q, 32);
      const a = v128.and(lo, m), b = v128.and(i16x8.shr_u(lo, 4), m);
      const c = v128.and(hi, m), d = v128.and(i16x8.shr_u(hi, 4), m);
      const ul = v128.xor(v128.load(u + q), lookUp(t0, t1, t2, t3, a, b, c, d));
      const uh = v128.xor(v128.load(u + q, 32), lookUp(h0, h1, h2, h3, a, b, c, d));
      v128.store(u + q, ul);
      v128.store(u + q, uh, 32);
      v128.store(v + q, v128.xor(lo, ul));
      v128.store(v + q, v128.xor(hi, uh), 32);
    }
  }
}

/** The same for T below 256: these labels are a field of their own, so that low bytes have no part in high ones. */
@inline function butterflyLow(u: usize, v: usize, length: usize, t: usize): void {
  const t0 = v128.load(t), t1 = v128.load(t, 32);
  const t2 = v128.load(t, 64), h2 = v128.load(t, 80), t3 = v128.load(t, 96), h3 = v128.load(t, 112);
  const m = i8x16.splat(15);
  for (const end = u + length; u < end; u += 64, v += 64) {
    for (let q: usize = 0; q < 32; q += 16) {
      const lo = v128.load(v + q), hi = v128.load(v + q, 32);
      const a = v128.and(lo, m), b = v128.and(i16x8.shr_u(lo, 4), m);
      const c = v128.and(hi, m), d = v128.and(i16x8.shr_u(hi, 4), m);
      const ul = v128.xor(v128.load(u + q), lookUp(t0, t1, t2, t3, a, b, c, d));
      const uh = v128.xor(v128.load(u + q, 32), v128.xor(i8x16.relaxed_swizzle(h2, c), i8x16.relaxed_swizzle(h3, d)));
      v128.store(u + q, ul);
      v128.store(u + q, uh, 32);
      v128.store(v + q, v128.xor(lo, ul));
      v128.store(v + q, v128.xor(hi, uh), 32);
    }
  }
}

/** v ^= u; u ^= T·v, over `length` bytes. */
@inline function butterflyInverse(u: usize, v: usize, length: usize, t: usize): void {
  const t0 = v128.load(t), h0 = v128.load(t, 16), t1 = v128.load(t, 32), h1 = v128.load(t, 48);
  const t2 = v128.load(t, 64), h2 = v128.load(t, 80), t3 = v128.load(t, 96), h3 = v128.load(t, 112);
  const m = i8x16.splat(15);
  for (const end = u + length; u < end; u += 64, v += 64) {
    for (let q: usize = 0; q < 32; q += 16) {
      const ul = v128.load(u + q), uh = v128.load(u + q, 32);
      const lo = v128.xor(v128.load(v + q), ul), hi = v128.xor(v128.load(v + q, 32), uh);
      v128.store(v + q, lo);
      v128.store(v + q, hi, 32);
      const a = v128.and(lo, m), b = v128.and(i16x8.shr_u(lo, 4), m);
      const c = v128.and(hi, m), d = v128.and(i16x8.shr_u(hi, 4), m);
      v128.store(u + q, v128.xor(ul, lookUp(t0, t1, t2, t3, a, b, c, d)));
      v128.store(u + q, v128.xor(uh, lookUp(h0, h1, h2, h3, a, b, c, d)), 32);
    }
  }
}

/** The same for T below 256. */
@inline function butterflyInverseLow(u: usize, v: usize, length: usize, t: usize): void {
  const t0 = v128.load(t), t1 = v128.load(t, 32);
  const t2 = v128.load(t, 64), h2 = v128.load(t, 80), t3 = v128.load(t, 96), h3 = v128.load(t, 112);
  const m = i8x16.splat(15);
  for (const end = u + length; u < end; u += 64, v += 64) {
    for (let q: usize = 0; q < 32; q += 16) {
      const ul = v128.load(u + q), uh = v128.load(u + q, 32);
      const lo = v128.xor(v128.load(v + q), ul), hi = v128.xor(v128.load(v + q, 32), uh);
      v128.store(v + q, lo);
      v128.store(v + q, hi, 32);
      const a = v128.and(lo, m), b = v128.and(i16x8.shr_u(lo, 4), m);
      const c = v128.and(hi, m), d = v128.and(i16x8.shr_u(hi, 4), m);
      v128.store(u + q, v128.xor(ul, lookUp(t0, t1, t2, t3, a, b, c, d)));
      v128.store(u + q, v128.xor(uh, v128.xor(i8x16.relaxed_swizzle(h2, c), i8x16.relaxed_swizzle(h3, d))), 32);
    }
  }
}

/** dst = T·src over `length` bytes. */
@inline function scale(dst: usize, src: usize, length: usize, t: usize): void {
  const t0 = v128.load(t), h0 = v128.load(t, 16), t1 = v128.load(t, 32), h1 = v128.load(t, 48);
  const t2 = v128.load(t, 64), h2 = v128.load(t, 80), t3 = v128.load(t, 96), h3 = v128.load(t, 112);
  const m = i8x16.splat(15);
  for (const end = dst + length; dst < end; dst += 64, src += 64) {
    for (let q: usize = 0; q < 32; q += 16) {
      const lo = v128.load(src + q), hi = v128.load(src + q, 32);
      const a = v128.and(lo, m), b = v128.and(i16x8.shr_u(lo, 4), m);
      const c = v128.and(hi, m), d = v128.and(i16x8.shr_u(hi, 4), m);
      v128.store(dst + q, lookUp(t0, t1, t2, t3, a, b, c, d));
      v128.store(dst + q, lookUp(h0, h1, h2, h3, a, b, c, d), 32);
    }
  }
}

@inline function addInto(dst: usize, src: usize, length: usize): void {
  for (const end = dst + length; dst < end; dst += 32, src += 32) {
    v128.store(dst, v128.xor(v128.load(dst), v128.load(src)));
    v128.store(dst, v128.xor(v128.load(dst, 16), v128.load(src, 16)), 16);
  }
}

/** Coefficients to values at points [offset, offset + 2^n); `a` holds 2^n slots of `width` bytes. */
function fft(a: usize, n: i32, offset: i32, width: usize, tables: usize): void {
  for (let r = n - 1; r >= 0; r--) {
    const half = 1 << r;
    const step = <usize>half * width;
    for (let i = 0; i < 1 << n; i += 2 * half) {
      const twiddle = (offset + i) >> r;
      const p = a + <usize>i * width;
      if (twiddle == 0) addInto(p + step, p, step); // T = 0: the product vanishes
      else if (twiddle < 256) butterflyLow(p, p + step, step, tables + <usize>twiddle * TABLE_BYTES);
      else butterfly(p, p + step, step, tables + <usize>twiddle * TABLE_BYTES);
    }
  }
}

/** Inverse of `fft`; slots from `used` on are known to be zero, so that whole blocks of them are passed over. */
function inverseFft(a: usize, n: i32, used: i32, width: usize, tables: usize): void {
  for (let r = 0; r < n; r++) {
    const half = 1 << r;
    const step = <usize>half * width;
    for (let i = 0; i < used; i += 2 * half) {
      const twiddle = i >> r;
      const p = a + <usize>i * width;
      if (twiddle == 0) addInto(p + step, p, step);
      else if (twiddle < 256) butterflyInverseLow(p, p + step, step, tables + <usize>twiddle * TABLE_BYTES);
      else butterflyInverse(p, p + step, step, tables + <usize>twiddle * TABLE_BYTES);
    }
  }
}

/**
 * Parity rows for the columns [from, to) of all rows: K = 2^n data rows at `data` give (cosets − 1)·K rows at `parity`.
 * `scratch` holds 2·K·width bytes, `tables` those of the labels [0, cosets·K).
 */
export function encodeColumns(data: usize, parity: usize, n: i32, cosets: i32, rowBytes: usize, from: usize, to: usize, width: usize, scratch: usize, tables: usize): void {
  const rows: usize = 1 << n;
  for (let column = from; column < to; column += width) {
    const w = min(width, to - column);
    const copy = scratch + rows * w;
    for (let i: usize = 0; i < rows; i++) memory.copy(scratch + i * w, data + i * rowBytes + column, w);
    inverseFft(scratch, n, 1 << n, w, tables);
    for (let coset = 1; coset < cosets; coset++) {
      const last = coset == cosets - 1;
      const a = last ? scratch : copy; // the last coset may overwrite the coefficients
      if (!last) memory.copy(copy, scratch, rows * w);
      fft(a, n, coset << n, w, tables);
      const out = parity + <usize>(coset - 1) * rows * rowBytes + column;
      for (let i: usize = 0; i < rows; i++) memory.copy(out + i * rowBytes, a + i * w, w);
    }
  }
}

/**
 * The missing data rows for the columns [from, to). `rows` lists `points` addresses (u32, 0 for a missing row) of the rows
 * of all points, `out` the addresses of the 2^n data rows (0 where nothing is to be written). `weights` holds a
 * multiplication table for every point: of the locator for received ones, of its inverse for missing data ones.
 * `scratch` holds 2^log2Points · width + 2^n · width bytes.
 */
export function decodeColumns(rows: usize, out: usize, n: i32, points: i32, log2Points: i32, from: usize, to: usize, width: usize, weights: usize, scratch: usize, tables: usize): void {
  const K: usize = 1 << n;
  const all: usize = 1 << log2Points;
  for (let column = from; column < to; column += width) {
    const w = min(width, to - column);
    for (let x: usize = 0; x < <usize>points; x++) {
      const row = <usize>load<u32>(rows + (x << 2));
      if (row) scale(scratch + x * w, row + column, w, weights + x * TABLE_BYTES);
      else memory.fill(scratch + x * w, 0, w);
    }
    memory.fill(scratch + <usize>points * w, 0, (all - <usize>points) * w);
    inverseFft(scratch, log2Points, points, w, tables);
    const derivative = scratch + all * w;
    memory.fill(derivative, 0, K * w);
    for (let j: usize = 0; j < K; j++) {
      for (let bit: usize = 1; bit < all; bit <<= 1) if (!(j & bit)) addInto(derivative + j * w, scratch + (j | bit) * w, w);
    }
    fft(derivative, n, 0, w, tables);
    for (let x: usize = 0; x < K; x++) {
      const target = <usize>load<u32>(out + (x << 2));
      if (target) scale(target + column, derivative + x * w, w, weights + x * TABLE_BYTES);
    }
  }
}
