import { WeightlessError } from '../error.ts'
import { fromHex, type Hex, toHex } from '../hex.ts'

/** Entries of one list (reads, writes or controls) of a stream write. Source: 0G storage-kv, stream data format. */
export const MAX_STREAM_ENTRIES = 65_536
/** Longest key, in bytes: its length is a 24-bit number. */
export const MAX_KEY_BYTES = 0xff_ffff

/** What a control does. The upper four bits name the family that replaces itself, the lower four the change. */
export const CONTROL = {
  GRANT_ADMIN_ROLE: 0x00,
  RENOUNCE_ADMIN_ROLE: 0x01,
  SET_KEY_TO_SPECIAL: 0x10,
  SET_KEY_TO_NORMAL: 0x11,
  GRANT_WRITER_ROLE: 0x20,
  REVOKE_WRITER_ROLE: 0x21,
  RENOUNCE_WRITER_ROLE: 0x22,
  GRANT_SPECIAL_WRITER_ROLE: 0x30,
  REVOKE_SPECIAL_WRITER_ROLE: 0x31,
  RENOUNCE_SPECIAL_WRITER_ROLE: 0x32,
} as const

export type ControlName = keyof typeof CONTROL

/** Name and fields of each control type. */
const CONTROL_BY_TYPE = new Map<number, { name: ControlName; hasKey: boolean; hasAccount: boolean }>(
  (Object.entries(CONTROL) as [ControlName, number][]).map(([name, type]) => [
    type,
    { name, hasKey: type >> 4 === 1 || type >> 4 === 3, hasAccount: /^(GRANT|REVOKE)_/.test(name) },
  ]),
)

/** A key of a stream, with the bytes of the key. */
export interface StreamKey {
  streamId: Hex
  key: Uint8Array
}

/** A write: `dataLength` bytes of the data that follow the write list; 0 deletes the key. */
export interface StreamWrite extends StreamKey {
  dataLength: number
}

/** A change of rights. `key` and `account` only where the type has them; renounce means the sender itself. */
export interface StreamControl {
  name: ControlName
  streamId: Hex
  key?: Uint8Array
  account?: Hex
}

/** The lists of one stream write, without the values; these lie in one run at `dataOffset`, in the order of `writes`. */
export interface StreamHead {
  /** The sender's view: a key it reads or writes must not be newer than this. Unsigned 64 bits. */
  version: bigint
  reads: StreamKey[]
  writes: StreamWrite[]
  dataOffset: number
  dataLength: number
}

/** Stream data that does not parse. `message` is the text the reference nodes give after `DataParseError: `. */
export class StreamDataError extends WeightlessError {}

/**
 * Reads stream data piece by piece: `read({ offset, length })` gives bytes of the (decrypted) file and at most what
 * there is; `sizeBytes` is how far reading may go (whole sectors: the zero tail of the last sector counts).
 *
 * @throws StreamDataError `STREAM_DATA`
 */
export async function parseStreamHead(reader: StreamReader): Promise<StreamHead> {
  const cursor = new Cursor(reader, 0)
  const version = (await cursor.view(8)).getBigUint64(0)
  const reads = await cursor.list('read', async () => ({ streamId: await cursor.streamId(), key: await cursor.key() }))
  const writes = await cursor.list('write', async () => ({
    streamId: await cursor.streamId(),
    key: await cursor.key(),
    dataLength: await cursor.u64Length(),
  }))
  const dataLength = writes.reduce((sum, write) => sum + write.dataLength, 0)
  if (cursor.offset + dataLength > reader.sizeBytes) throw invalid()
  return { version, reads, writes, dataOffset: cursor.offset, dataLength }
}

/** The controls of a stream write; they follow the values. @throws StreamDataError `STREAM_DATA` */
export async function parseStreamControls(reader: StreamReader, head: StreamHead): Promise<StreamControl[]> {
  const cursor = new Cursor(reader, head.dataOffset + head.dataLength)
  return cursor.list('access_control', async () => {
    const control = CONTROL_BY_TYPE.get((await cursor.view(1)).getUint8(0))
    if (control === undefined) throw invalid()
    const streamId = await cursor.streamId()
    const parsed: StreamControl = { name: control.name, streamId }
    if (control.hasKey) parsed.key = await cursor.key()
    if (control.hasAccount) parsed.account = toHex(await cursor.bytes(20))
    return parsed
  })
}

export interface StreamReader {
  readonly sizeBytes: number
  read(range: { offset: number; length: number }): Promise<Uint8Array>
}

/** What a stream write holds, for building one. */
export interface StreamData {
  version: bigint
  reads?: readonly StreamKey[]
  writes?: readonly (StreamKey & { data: Uint8Array })[]
  controls?: readonly StreamControl[]
}

/**
 * The bytes of a stream write, to be stored as a file with the tags of `encodeStreamTags`.
 *
 * @throws StreamDataError `STREAM_DATA` for a list, key or version out of its limits
 * @example
 * encodeStreamData({ version: 2n ** 64n - 1n, writes: [{ streamId, key: utf8('name'), data: utf8('value') }] })
 */
export function encodeStreamData({ version, reads = [], writes = [], controls = [] }: StreamData): Uint8Array {
  if (version < 0n || version >= 1n << 64n) throw outOfLimit('version', '0 to 2^64 − 1')
  for (const [field, list] of Object.entries({ reads, writes, controls })) {
    if (list.length > MAX_STREAM_ENTRIES) throw outOfLimit(field, `at most ${MAX_STREAM_ENTRIES} entries`)
  }
  const parts: Uint8Array[] = [unsigned(version, 8), unsigned(reads.length, 4)]
  for (const read of reads) parts.push(streamWord(read.streamId), ...keyParts(read.key))
  parts.push(unsigned(writes.length, 4))
  for (const write of writes) {
    parts.push(streamWord(write.streamId), ...keyParts(write.key), unsigned(write.data.length, 8))
  }
  for (const write of writes) parts.push(write.data)
  parts.push(unsigned(controls.length, 4))
  for (const control of controls) {
    const type = CONTROL[control.name]
    parts.push(unsigned(type, 1), streamWord(control.streamId))
    const shape = CONTROL_BY_TYPE.get(type)
    if (shape?.hasKey) parts.push(...keyParts(control.key ?? new Uint8Array()))
    if (shape?.hasAccount) parts.push(fromHex(control.account ?? '0x', { byteLength: 20, field: 'account' }))
  }
  return new Uint8Array(Buffer.concat(parts))
}

/** Read-ahead of a cursor, in bytes: lists are short, one read usually covers them. */
const WINDOW_BYTES = 65_536

/** Reads big-endian fields in order from a reader, through a window. Never past the end: that is `Invalid stream data`. */
class Cursor {
  offset: number
  readonly #reader: StreamReader
  #window: Uint8Array = new Uint8Array()
  #windowOffset = 0

  constructor(reader: StreamReader, offset: number) {
    this.#reader = reader
    this.offset = offset
  }

  async bytes(length: number): Promise<Uint8Array> {
    if (this.offset + length > this.#reader.sizeBytes) throw invalid()
    const at = this.offset - this.#windowOffset
    this.offset += length
    if (at >= 0 && at + length <= this.#window.length) return this.#window.subarray(at, at + length)
    const offset = this.offset - length
    const wanted = Math.min(Math.max(length, WINDOW_BYTES), this.#reader.sizeBytes - offset)
    this.#window = await this.#reader.read({ offset, length: wanted })
    this.#windowOffset = offset
    if (this.#window.length < length) throw invalid()
    return this.#window.subarray(0, length)
  }

  async view(length: number): Promise<DataView> {
    const bytes = await this.bytes(length)
    return new DataView(bytes.buffer, bytes.byteOffset, length)
  }

  async streamId(): Promise<Hex> {
    return toHex(await this.bytes(32))
  }

  async key(): Promise<Uint8Array> {
    const view = await this.view(3)
    const length = (view.getUint16(0) << 8) | view.getUint8(2)
    if (length === 0) throw invalid()
    return (await this.bytes(length)).slice()
  }

  async u64Length(): Promise<number> {
    const length = (await this.view(8)).getBigUint64(0)
    // No file is longer than its size: a length past it cannot be honoured and would lose precision as a number.
    if (length > BigInt(this.#reader.sizeBytes)) throw invalid()
    return Number(length)
  }

  async list<T>(name: string, entry: () => Promise<T>): Promise<T[]> {
    const count = (await this.view(4)).getUint32(0)
    if (count > MAX_STREAM_ENTRIES) throw invalid(`Stream ${name} list too long`)
    const entries: T[] = []
    while (entries.length < count) entries.push(await entry())
    return entries
  }
}

function invalid(message = 'Invalid stream data'): StreamDataError {
  return new StreamDataError({ code: 'STREAM_DATA', message })
}

function outOfLimit(field: string, limit: string): StreamDataError {
  return new StreamDataError({
    code: 'STREAM_DATA',
    message: `${field} of the stream data is out of its limit`,
    fix: `give ${limit}`,
    details: { field, limit },
  })
}

function streamWord(streamId: Hex): Uint8Array {
  return fromHex(streamId, { byteLength: 32, field: 'streamId' })
}

function keyParts(key: Uint8Array): Uint8Array[] {
  if (key.length < 1 || key.length > MAX_KEY_BYTES) throw outOfLimit('key', `1 to ${MAX_KEY_BYTES} bytes`)
  return [unsigned(key.length, 3), key]
}

function unsigned(value: number | bigint, byteLength: number): Uint8Array {
  return fromHex(`0x${value.toString(16).padStart(2 * byteLength, '0')}`)
}
