/**
 * Reed–Solomon coding of rows over GF(2^16) in plain TypeScript: the oracle of the kernels. All rows have the same length,
 * a multiple of 64 bytes; every symbol position is a code word of its own.
 */
import { fft, inverseFft, logarithm, multiply, power } from './gf16-twin.ts'

/** In a row, 64 bytes hold 32 symbols: first their 32 low bytes, then their 32 high bytes (the layout of Leopard). */
export const GROUP_BYTES = 64
const GROUP_SYMBOLS = 32

/** Symbol `index` of a row. */
export function readSymbol(row: Uint8Array, index: number): number {
  const at = symbolOffset(index)
  return (row[at] ?? 0) | ((row[at + GROUP_SYMBOLS] ?? 0) << 8)
}

function writeSymbol(row: Uint8Array, index: number, symbol: number): void {
  const at = symbolOffset(index)
  row[at] = symbol & 0xff
  row[at + GROUP_SYMBOLS] = symbol >> 8
}

function symbolOffset(index: number): number {
  return Math.floor(index / GROUP_SYMBOLS) * GROUP_BYTES + (index % GROUP_SYMBOLS)
}

/**
 * Parity rows of the low-rate layout: K = 2^k data rows at points 0 … K − 1, coset c of K parity rows at points
 * cK … (c + 1)K − 1. Any K of all rows decode.
 */
export function encodeTwin(data: readonly Uint8Array[], cosets: number): Uint8Array[] {
  const parity = emptyRows(data.length * (cosets - 1), rowBytes(data))
  forEachSymbol(rowBytes(data), (symbol) => {
    const coefficients = column(data, symbol)
    inverseFft(coefficients, 0)
    for (let coset = 1; coset < cosets; coset++) {
      const values = coefficients.slice()
      fft(values, coset * data.length)
      values.forEach((value, i) => {
        writeSymbol(rowAt(parity, (coset - 1) * data.length + i), symbol, value)
      })
    }
  })
  return parity
}

/**
 * Parity rows of Leopard's layout: with m the next power of two of `parityRows`, parity at points 0 … m − 1 and the data
 * from m on. Only for comparing with published vectors; the product uses the low-rate layout.
 */
export function encodeLeopardTwin(data: readonly Uint8Array[], parityRows: number): Uint8Array[] {
  const parity = emptyRows(parityRows, rowBytes(data))
  const m = 2 ** Math.ceil(Math.log2(parityRows))
  forEachSymbol(rowBytes(data), (symbol) => {
    const all = column(data, symbol)
    const sum = new Uint16Array(m)
    for (let start = 0; start < data.length; start += m) {
      const part = new Uint16Array(m)
      part.set(all.subarray(start, start + m))
      inverseFft(part, m + start)
      part.forEach((value, i) => {
        sum[i] = (sum[i] ?? 0) ^ value
      })
    }
    fft(sum, 0)
    for (let i = 0; i < parityRows; i++) writeSymbol(rowAt(parity, i), symbol, sum[i] ?? 0)
  })
  return parity
}

/**
 * The data rows from any K of the `points` rows of the low-rate layout (undefined where a row is missing), by the error
 * locator of the missing points and the formal derivative (Lin, Chung, Han 2014, section V).
 */
export function decodeTwin(rows: readonly (Uint8Array | undefined)[], dataRows: number): Uint8Array[] {
  const n = 2 ** Math.ceil(Math.log2(rows.length))
  const missing = Array.from({ length: n }, (_, point) => point).filter((point) => rows[point] === undefined)
  const first = rows.find((row) => row !== undefined)
  if (first === undefined || n - missing.length < dataRows) throw new RangeError(`fewer than ${dataRows} rows`)
  // L[x]: logarithm of the product over missing points e of (x − e), leaving out e = x.
  const locator = Array.from({ length: n }, (_, x) =>
    missing.reduce((sum, e) => sum + (e === x ? 0 : logarithm(x ^ e)), 0),
  )
  const data = Array.from({ length: dataRows }, (_, point) => rows[point]?.slice() ?? new Uint8Array(first.length))
  forEachSymbol(first.length, (symbol) => {
    const values = Uint16Array.from({ length: n }, (_, point) => {
      const row = rows[point]
      return row === undefined ? 0 : multiply(readSymbol(row, symbol), power(locator[point] ?? 0))
    })
    inverseFft(values, 0)
    const derivative = Uint16Array.from({ length: dataRows }, (_, j) => {
      let sum = 0
      for (let bit = 1; bit < n; bit *= 2) if ((j & bit) === 0) sum ^= values[j | bit] ?? 0
      return sum
    })
    fft(derivative, 0)
    for (let point = 0; point < dataRows; point++) {
      if (rows[point] !== undefined) continue
      writeSymbol(rowAt(data, point), symbol, multiply(derivative[point] ?? 0, power(-(locator[point] ?? 0))))
    }
  })
  return data
}

/** Words of a combination: an element of GF(2^128) taken as a vector of eight elements of GF(2^16). */
export const COMBINATION_WORDS = 8

/** Σ_j symbol_j · coefficient_j over a row; `coefficients` holds eight words for every symbol of the row. */
export function combineTwin(row: Uint8Array, coefficients: Uint16Array): Uint16Array {
  const sum = new Uint16Array(COMBINATION_WORDS)
  for (let j = 0; j < row.length / 2; j++) {
    const symbol = readSymbol(row, j)
    for (let word = 0; word < COMBINATION_WORDS; word++) {
      sum[word] = (sum[word] ?? 0) ^ multiply(symbol, coefficients[COMBINATION_WORDS * j + word] ?? 0)
    }
  }
  return sum
}

function column(rows: readonly Uint8Array[], symbol: number): Uint16Array {
  return Uint16Array.from(rows, (row) => readSymbol(row, symbol))
}

function forEachSymbol(bytes: number, work: (symbol: number) => void): void {
  for (let symbol = 0; symbol < bytes / 2; symbol++) work(symbol)
}

function rowBytes(rows: readonly Uint8Array[]): number {
  return rowAt(rows, 0).length
}

function rowAt(rows: readonly Uint8Array[], index: number): Uint8Array {
  const row = rows[index]
  if (row === undefined) throw new RangeError(`row ${index} of ${rows.length}`)
  return row
}

function emptyRows(count: number, bytes: number): Uint8Array[] {
  return Array.from({ length: count }, () => new Uint8Array(bytes))
}
