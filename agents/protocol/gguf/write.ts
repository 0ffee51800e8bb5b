import { GgufError } from './gguf-error.ts'
import {
  alignUp,
  DEFAULT_ALIGNMENT,
  encodeTensor,
  type GgufMetadata,
  type GgufTensor,
  type GgufValue,
  MAX_DIMENSIONS,
  Q8_BLOCK,
  TENSOR_TYPES,
  tensorBytes,
  VALUE_TYPES,
  valueCount,
} from './layout.ts'

/** What goes into a file: pairs and tensors keep their order. */
export interface GgufContent {
  metadata: GgufMetadata
  tensors: readonly GgufTensor[]
}

/**
 * A GGUF v3 file in pieces, one tensor at a time: write them one after the other.
 *
 * @throws GgufError `GGUF_TENSOR` for a shape that its data do not fill or that its type cannot hold
 * @example
 * for (const piece of ggufChunks(content)) await file.write(piece)
 */
export function* ggufChunks({ metadata, tensors }: GgufContent): Generator<Uint8Array, void, void> {
  const head = encodeHead({ metadata, tensors })
  yield head
  const start = alignUp(head.length, DEFAULT_ALIGNMENT)
  yield new Uint8Array(start - head.length)
  for (const tensor of tensors) {
    const bytes = encodeTensor(tensor, typeof tensor.data === 'function' ? tensor.data() : tensor.data)
    yield bytes
    const padding = alignUp(bytes.length, DEFAULT_ALIGNMENT) - bytes.length
    if (padding > 0) yield new Uint8Array(padding)
  }
}

/** A GGUF v3 file as one array of bytes; for what fits into memory. */
export function writeGguf(content: GgufContent): Uint8Array {
  const bytes = new Uint8Array(ggufSizeBytes(content))
  let at = 0
  for (const chunk of ggufChunks(content)) {
    bytes.set(chunk, at)
    at += chunk.length
  }
  return bytes
}

/** Bytes of the file that `ggufChunks` makes. */
export function ggufSizeBytes(content: GgufContent): number {
  const start = alignUp(encodeHead(content).length, DEFAULT_ALIGNMENT)
  return content.tensors.reduce((end, tensor) => end + paddedBytes(tensor), start)
}

function paddedBytes({ type, ne }: GgufTensor): number {
  return alignUp(tensorBytes(type, valueCount(ne)), DEFAULT_ALIGNMENT)
}

function encodeHead({ metadata, tensors }: GgufContent): Uint8Array {
  const out = new Writer()
  out.bytes(new TextEncoder().encode('GGUF'))
  out.u32(3)
  out.u64(tensors.length)
  const pairs = Object.entries(metadata)
  out.u64(pairs.length)
  for (const [key, value] of pairs) {
    out.string(key)
    out.u32(VALUE_TYPES[value.type])
    out.value(value)
  }
  let offset = 0
  const names = new Set<string>()
  for (const tensor of tensors) {
    const { name, ne, type } = tensor
    const fits = ne.length >= 1 && ne.length <= MAX_DIMENSIONS && ne.every((n) => Number.isSafeInteger(n) && n > 0)
    const blocks = type !== 'Q8_0' || (ne[0] ?? 0) % Q8_BLOCK === 0
    if (!fits || !blocks || names.has(name)) {
      throw new GgufError({
        code: 'GGUF_TENSOR',
        message: names.has(name) ? `two tensors are called ${name}` : `${name}: [${ne.join(', ')}] cannot be ${type}`,
        details: { tensor: name, ne, type },
      })
    }
    names.add(name)
    out.string(name)
    out.u32(ne.length)
    for (const n of ne) out.u64(n)
    out.u32(TENSOR_TYPES[type])
    out.u64(offset)
    offset += paddedBytes(tensor)
  }
  return out.finish()
}

type ScalarType = Exclude<keyof typeof VALUE_TYPES, 'array'>
type Put = (view: DataView, at: number, value: number | bigint | boolean | string) => void

const SCALARS: Record<Exclude<ScalarType, 'string'>, { size: number; put: Put }> = {
  bool: { size: 1, put: (view, at, value) => view.setUint8(at, value ? 1 : 0) },
  u8: { size: 1, put: (view, at, value) => view.setUint8(at, Number(value)) },
  i8: { size: 1, put: (view, at, value) => view.setInt8(at, Number(value)) },
  u16: { size: 2, put: (view, at, value) => view.setUint16(at, Number(value), true) },
  i16: { size: 2, put: (view, at, value) => view.setInt16(at, Number(value), true) },
  u32: { size: 4, put: (view, at, value) => view.setUint32(at, Number(value), true) },
  i32: { size: 4, put: (view, at, value) => view.setInt32(at, Number(value), true) },
  f32: { size: 4, put: (view, at, value) => view.setFloat32(at, Number(value), true) },
  f64: { size: 8, put: (view, at, value) => view.setFloat64(at, Number(value), true) },
  u64: { size: 8, put: (view, at, value) => view.setBigUint64(at, BigInt(value), true) },
  i64: { size: 8, put: (view, at, value) => view.setBigInt64(at, BigInt(value), true) },
}

class Writer {
  #buffer = new Uint8Array(64 * 1024)
  #view = new DataView(this.#buffer.buffer)
  #length = 0

  finish(): Uint8Array {
    return this.#buffer.subarray(0, this.#length)
  }

  bytes(bytes: Uint8Array): void {
    const at = this.#take(bytes.length)
    this.#buffer.set(bytes, at)
  }

  u32(n: number): void {
    const at = this.#take(4)
    this.#view.setUint32(at, n, true)
  }

  u64(n: number | bigint): void {
    const at = this.#take(8)
    this.#view.setBigUint64(at, BigInt(n), true)
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text)
    this.u64(bytes.length)
    this.bytes(bytes)
  }

  value(value: GgufValue): void {
    if (value.type !== 'array') {
      this.#scalar(value.type, value.value)
      return
    }
    this.u32(VALUE_TYPES[value.of])
    this.u64(value.value.length)
    for (const element of value.value) this.#scalar(value.of, element)
  }

  #scalar(type: ScalarType, value: number | bigint | boolean | string): void {
    if (type === 'string') {
      this.string(String(value))
      return
    }
    const { size, put } = SCALARS[type]
    const at = this.#take(size)
    put(this.#view, at, value)
  }

  /** Makes room, which may replace the buffer and its view, and gives the offset of the room. */
  #take(size: number): number {
    const at = this.#length
    this.#length += size
    if (this.#length > this.#buffer.length) {
      const larger = new Uint8Array(Math.max(this.#length, 2 * this.#buffer.length))
      larger.set(this.#buffer)
      this.#buffer = larger
      this.#view = new DataView(larger.buffer)
    }
    return at
  }
}
