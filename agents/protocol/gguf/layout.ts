import { GgufError } from './gguf-error.ts'

/**
 * The file format GGUF v3 as ggml-org/ggml `docs/gguf.md` states it, little-endian: magic ‖ version ‖ tensor count ‖ pair
 * count ‖ pairs ‖ tensor descriptions ‖ padding ‖ tensor data, each tensor padded to the alignment.
 */

/** A metadata value with its type in the file. llama.cpp checks types: counts and ids are u32, epsilon and alpha f32. */
export type GgufValue =
  | { type: 'u8' | 'i8' | 'u16' | 'i16' | 'u32' | 'i32' | 'f32' | 'f64'; value: number }
  | { type: 'u64' | 'i64'; value: bigint }
  | { type: 'bool'; value: boolean }
  | { type: 'string'; value: string }
  | { type: 'array'; of: 'string'; value: readonly string[] }
  | { type: 'array'; of: 'bool'; value: readonly boolean[] }
  | { type: 'array'; of: 'u64' | 'i64'; value: readonly bigint[] }
  | { type: 'array'; of: 'u8' | 'i8' | 'u16' | 'i16' | 'u32' | 'i32' | 'f32' | 'f64'; value: readonly number[] }

export type GgufMetadata = Record<string, GgufValue>

/** Number of each value type in the file. */
export const VALUE_TYPES = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const

/** Tensor types that can be read and written here. */
export type GgmlType = 'F32' | 'F16' | 'Q8_0'

/** Number of each tensor type in the file. */
export const TENSOR_TYPES = { F32: 0, F16: 1, Q8_0: 8 } as const

/** `general.file_type` of a model whose matrices have this type. */
export const FILE_TYPES = { F32: 0, F16: 1, Q8_0: 7 } as const

/** Alignment of tensor data where `general.alignment` is absent. */
export const DEFAULT_ALIGNMENT = 32

/** Most dimensions of a tensor. */
export const MAX_DIMENSIONS = 4

/** Values in a Q8_0 block: one f16 scale, then 32 signed bytes. Rows must be multiples of it. */
export const Q8_BLOCK = 32
const Q8_BLOCK_BYTES = 34

/**
 * A tensor to be written. `ne[0]` is the contiguous dimension: a row-major matrix [out, in] has `ne = [in, out]`. `data`
 * may be a function, so that only one tensor has to be in memory at a time.
 */
export interface GgufTensor {
  name: string
  ne: readonly number[]
  type: GgmlType
  data: Float32Array | (() => Float32Array)
}

/** Bytes of `count` values. */
export function tensorBytes(type: GgmlType, count: number): number {
  if (type === 'F32') return count * 4
  if (type === 'F16') return count * 2
  return (count / Q8_BLOCK) * Q8_BLOCK_BYTES
}

/** Number of values. */
export function valueCount(ne: readonly number[]): number {
  return ne.reduce((product, n) => product * n, 1)
}

/** The next multiple of `unit`. */
export function alignUp(offset: number, unit: number): number {
  return Math.ceil(offset / unit) * unit
}

/**
 * Values to the bytes of a tensor.
 *
 * @throws GgufError `GGUF_TENSOR` when Q8_0 rows are no multiples of 32
 */
export function encodeTensor({ name, ne, type }: Omit<GgufTensor, 'data'>, data: Float32Array): Uint8Array {
  if (valueCount(ne) !== data.length) {
    throw new GgufError({
      code: 'GGUF_TENSOR',
      message: `${name} has ${data.length} values, which do not fill [${ne.join(', ')}]`,
      details: { tensor: name, values: data.length, ne },
    })
  }
  if (type === 'F32') return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  if (type === 'F16') return new Uint8Array(Float16Array.from(data).buffer)
  if ((ne[0] ?? 0) % Q8_BLOCK !== 0) {
    throw new GgufError({
      code: 'GGUF_TENSOR',
      message: `${name}: rows of ${ne[0]} values do not split into Q8_0 blocks`,
      fix: 'choose dimensions that are multiples of 32, or F16',
      details: { tensor: name, ne },
    })
  }
  const bytes = new Uint8Array(tensorBytes('Q8_0', data.length))
  const view = new DataView(bytes.buffer)
  for (let block = 0; block * Q8_BLOCK < data.length; block++) {
    const at = block * Q8_BLOCK_BYTES
    const first = block * Q8_BLOCK
    let largest = 0
    for (let i = first; i < first + Q8_BLOCK; i++) largest = Math.max(largest, Math.abs(data[i] ?? 0))
    const scale = largest / 127
    const inverse = scale === 0 ? 0 : 1 / scale
    view.setFloat16(at, scale, true)
    for (let i = 0; i < Q8_BLOCK; i++) view.setInt8(at + 2 + i, Math.round((data[first + i] ?? 0) * inverse))
  }
  return bytes
}

/** The bytes of a tensor to values. */
export function decodeTensor(bytes: Uint8Array, type: GgmlType, count: number): Float32Array {
  const values = new Float32Array(count)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (type === 'F32') for (let i = 0; i < count; i++) values[i] = view.getFloat32(4 * i, true)
  else if (type === 'F16') for (let i = 0; i < count; i++) values[i] = view.getFloat16(2 * i, true)
  else {
    for (let block = 0; block * Q8_BLOCK < count; block++) {
      const at = block * Q8_BLOCK_BYTES
      const scale = view.getFloat16(at, true)
      for (let i = 0; i < Q8_BLOCK; i++) values[block * Q8_BLOCK + i] = scale * view.getInt8(at + 2 + i)
    }
  }
  return values
}
