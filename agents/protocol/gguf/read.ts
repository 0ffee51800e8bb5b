import type { ByteSource } from '../storage/byte-source.ts'
import { readFully } from '../storage/byte-source.ts'
import { GgufError } from './gguf-error.ts'
import {
  alignUp,
  DEFAULT_ALIGNMENT,
  decodeTensor,
  type GgmlType,
  MAX_DIMENSIONS,
  TENSOR_TYPES,
  tensorBytes,
  VALUE_TYPES,
  valueCount,
} from './layout.ts'

/** Most bytes of pairs and tensor descriptions that are read: large vocabularies take some ten megabytes. */
export const MAX_HEAD_BYTES = 256 * 1024 * 1024

const MAX_PAIRS = 65_536
const MAX_TENSORS = 65_536
const MAX_ARRAY = 4 * 1024 * 1024
const MAX_KEY_BYTES = 65_535

export type GgufReadValue = number | bigint | boolean | string | readonly (number | bigint | boolean | string)[]

/** Where a tensor is. `type` is undefined for ggml types that are not read here; `typeCode` is the number in the file. */
export interface GgufTensorInfo {
  name: string
  ne: readonly number[]
  typeCode: number
  type: GgmlType | undefined
  /** Offset in the file. */
  offset: number
}

/** All of a file but its tensor data. */
export interface GgufHead {
  metadata: ReadonlyMap<string, GgufReadValue>
  tensors: ReadonlyMap<string, GgufTensorInfo>
  /** Where tensor data begin. */
  dataOffset: number
}

/**
 * Reads pairs and tensor descriptions.
 *
 * @throws GgufError `GGUF_FORMAT`, `GGUF_SHORT`, `GGUF_LIMIT`
 * @example
 * const head = await readGgufHead(memorySource(bytes))
 * head.metadata.get('general.architecture') // 'llama'
 */
export async function readGgufHead(source: ByteSource): Promise<GgufHead> {
  for (let length = 1024 * 1024; ; length *= 4) {
    const prefix = new Uint8Array(Math.min(length, source.sizeBytes, MAX_HEAD_BYTES))
    await readFully(source, { offset: 0, target: prefix })
    try {
      return parseGgufHead(prefix, { fileBytes: source.sizeBytes })
    } catch (error) {
      const isShort = error instanceof GgufError && error.code === 'GGUF_SHORT'
      if (!isShort || prefix.length === source.sizeBytes) throw error
      if (prefix.length >= MAX_HEAD_BYTES) throw limit('head', MAX_HEAD_BYTES)
    }
  }
}

/**
 * Reads one tensor as f32 values.
 *
 * @throws GgufError `GGUF_TENSOR` when it is missing or outside the file, `GGUF_TYPE` for types other than F32, F16, Q8_0
 */
export async function readGgufTensor({ source, head, name }: ReadGgufTensorParameters): Promise<Float32Array> {
  const { type, offset, ne } = supportedTensor(head, name)
  const bytes = new Uint8Array(tensorBytes(type, valueCount(ne)))
  await readFully(source, { offset, target: bytes })
  return decodeTensor(bytes, type, valueCount(ne))
}

export interface ReadGgufTensorParameters {
  source: ByteSource
  head: GgufHead
  name: string
}

/** A description of a tensor whose type can be read here. */
export function supportedTensor(head: GgufHead, name: string): GgufTensorInfo & { type: GgmlType } {
  const info = head.tensors.get(name)
  if (info === undefined) {
    throw new GgufError({ code: 'GGUF_TENSOR', message: `tensor ${name} is missing`, details: { tensor: name } })
  }
  const { type } = info
  if (type === undefined) {
    throw new GgufError({
      code: 'GGUF_TYPE',
      message: `tensor ${name} has ggml type ${info.typeCode}, which is not read here`,
      fix: 'convert the model to F32, F16 or Q8_0',
      details: { tensor: name, typeCode: info.typeCode },
    })
  }
  return { ...info, type }
}

/**
 * Parses the beginning of a file, `bytes`, of a file of `fileBytes`.
 *
 * @throws GgufError `GGUF_SHORT` when `bytes` end before the descriptions do, `GGUF_FORMAT`, `GGUF_LIMIT`
 */
export function parseGgufHead(bytes: Uint8Array, { fileBytes }: { fileBytes: number }): GgufHead {
  const reader = new Reader(bytes)
  if (reader.u32() !== 0x46554747) throw format('the file does not begin with GGUF')
  const version = reader.u32()
  if (version !== 3) throw format(`GGUF version ${version} is not read here`)
  const tensorCount = reader.count('tensors', MAX_TENSORS)
  const pairCount = reader.count('pairs', MAX_PAIRS)
  const metadata = new Map<string, GgufReadValue>()
  for (let i = 0; i < pairCount; i++) {
    const key = reader.string(MAX_KEY_BYTES)
    if (metadata.has(key)) throw format(`the key ${key} occurs twice`)
    metadata.set(key, reader.value(reader.u32()))
  }
  const unit = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT
  if (typeof unit !== 'number' || unit < 8 || unit > 65_536 || unit % 8 !== 0)
    throw format('general.alignment is no use')
  const found: (Omit<GgufTensorInfo, 'offset'> & { relative: number })[] = []
  for (let i = 0; i < tensorCount; i++) found.push(reader.tensor())
  const dataOffset = alignUp(reader.offset, unit)
  const tensors = new Map<string, GgufTensorInfo>()
  for (const { relative, ...info } of found) {
    const offset = dataOffset + relative
    const end = offset + (info.type === undefined ? 0 : tensorBytes(info.type, valueCount(info.ne)))
    if (tensors.has(info.name)) throw format(`the tensor ${info.name} occurs twice`)
    if (relative % unit !== 0 || end > fileBytes) throw format(`the tensor ${info.name} lies outside the file`)
    tensors.set(info.name, { ...info, offset })
  }
  return { metadata, tensors, dataOffset }
}

const nameOfCode = new Map(Object.entries(TENSOR_TYPES).map(([name, code]) => [code as number, name as GgmlType]))

class Reader {
  offset = 0
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #text = new TextDecoder('utf-8')

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true)
  }

  #u64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true)
  }

  count(what: string, most: number): number {
    const n = this.#u64()
    if (n > BigInt(most)) throw limit(what, most)
    return Number(n)
  }

  string(most = MAX_HEAD_BYTES): string {
    const length = this.count('bytes of a text', most)
    const at = this.#take(length)
    return this.#text.decode(this.#bytes.subarray(at, at + length))
  }

  value(code: number): GgufReadValue {
    if (code !== VALUE_TYPES.array) return this.#scalar(code)
    const of = this.u32()
    if (of === VALUE_TYPES.array) throw format('an array of arrays is not read here')
    const length = this.count('elements of an array', MAX_ARRAY)
    const values: (number | bigint | boolean | string)[] = []
    for (let i = 0; i < length; i++) values.push(this.#scalar(of))
    return values
  }

  tensor(): Omit<GgufTensorInfo, 'offset'> & { relative: number } {
    const name = this.string(MAX_KEY_BYTES)
    const dimensions = this.u32()
    if (dimensions < 1 || dimensions > MAX_DIMENSIONS) throw format(`${name} has ${dimensions} dimensions`)
    const ne: number[] = []
    for (let i = 0; i < dimensions; i++) ne.push(this.count('values of a dimension', 2 ** 40))
    if (ne.some((n) => n === 0) || valueCount(ne) > 2 ** 44) throw format(`${name} has the shape [${ne.join(', ')}]`)
    const typeCode = this.u32()
    const type = nameOfCode.get(typeCode)
    if (type === 'Q8_0' && (ne[0] ?? 0) % 32 !== 0) throw format(`${name}: rows of ${ne[0]} values cannot be Q8_0`)
    return { name, ne, typeCode, type, relative: this.count('offset', 2 ** 48) }
  }

  #scalar(code: number): number | bigint | boolean | string {
    switch (code) {
      case VALUE_TYPES.u8:
        return this.#view.getUint8(this.#take(1))
      case VALUE_TYPES.i8:
        return this.#view.getInt8(this.#take(1))
      case VALUE_TYPES.u16:
        return this.#view.getUint16(this.#take(2), true)
      case VALUE_TYPES.i16:
        return this.#view.getInt16(this.#take(2), true)
      case VALUE_TYPES.u32:
        return this.u32()
      case VALUE_TYPES.i32:
        return this.#view.getInt32(this.#take(4), true)
      case VALUE_TYPES.f32:
        return this.#view.getFloat32(this.#take(4), true)
      case VALUE_TYPES.bool:
        return this.#view.getUint8(this.#take(1)) !== 0
      case VALUE_TYPES.string:
        return this.string()
      case VALUE_TYPES.u64:
        return this.#u64()
      case VALUE_TYPES.i64:
        return this.#view.getBigInt64(this.#take(8), true)
      case VALUE_TYPES.f64:
        return this.#view.getFloat64(this.#take(8), true)
      default:
        throw format(`metadata type ${code} does not exist`)
    }
  }

  #take(length: number): number {
    const at = this.offset
    if (at + length > this.#bytes.length) {
      throw new GgufError({
        code: 'GGUF_SHORT',
        message: `the file ends after ${this.#bytes.length} bytes, in the middle of its descriptions`,
        fix: 'fetch the file again',
        details: { bytes: this.#bytes.length },
      })
    }
    this.offset = at + length
    return at
  }
}

function format(message: string): GgufError {
  return new GgufError({ code: 'GGUF_FORMAT', message, fix: 'give a GGUF v3 file, little-endian' })
}

function limit(what: string, most: number): GgufError {
  return new GgufError({ code: 'GGUF_LIMIT', message: `more than ${most} ${what}`, details: { what, limit: most } })
}
