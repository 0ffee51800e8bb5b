import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { StreamDataBuilder } from '@0gfoundation/0g-ts-sdk'
import fc from 'fast-check'
import { type Hex, toHex } from '#protocol/hex.ts'
import {
  encodeStreamData,
  parseStreamControls,
  parseStreamHead,
  type StreamData,
  StreamDataError,
  type StreamReader,
} from '#protocol/kv/stream-data.ts'
import { decodeStreamTags, encodeStreamTags, STREAM_DOMAIN } from '#protocol/kv/tags.ts'

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)
const stream = (id: number): Hex => `0x${id.toString(16).padStart(64, '0')}`

function readerOf(bytes: Uint8Array): StreamReader {
  return {
    sizeBytes: bytes.length,
    read: async ({ offset, length }) => bytes.subarray(offset, offset + length),
  }
}

async function parse(bytes: Uint8Array) {
  const reader = readerOf(bytes)
  const head = await parseStreamHead(reader)
  return { head, controls: await parseStreamControls(reader, head) }
}

const entry = fc.record(
  { streamId: fc.integer({ min: 1, max: 9 }).map(stream), key: fc.uint8Array({ minLength: 1, maxLength: 40 }) },
  { noNullPrototype: true },
)
const address = fc.uint8Array({ minLength: 20, maxLength: 20 }).map(toHex)
const anyData: fc.Arbitrary<Required<StreamData>> = fc.record({
  version: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  reads: fc.array(entry, { maxLength: 5 }),
  writes: fc
    .array(fc.tuple(entry, fc.uint8Array({ maxLength: 300 })), { maxLength: 5 })
    .map((all) => all.map(([at, data]) => ({ ...at, data }))),
  controls: fc.array(
    fc.oneof(
      fc.tuple(entry, address).map(([{ streamId, key }, account]) => ({
        name: 'GRANT_SPECIAL_WRITER_ROLE' as const,
        ...{ streamId, key, account },
      })),
      fc.tuple(entry, address).map(([{ streamId }, account]) => ({
        name: 'GRANT_WRITER_ROLE' as const,
        ...{ streamId, account },
      })),
      entry.map(({ streamId, key }) => ({ name: 'SET_KEY_TO_SPECIAL' as const, streamId, key })),
      entry.map(({ streamId }) => ({ name: 'RENOUNCE_ADMIN_ROLE' as const, streamId })),
    ),
    { maxLength: 5 },
  ),
})

describe('stream data', () => {
  const vector: StreamData = {
    version: 1n,
    writes: [
      { streamId: stream(1), key: utf8('k1'), data: utf8('v1') },
      { streamId: stream(2), key: utf8('key2'), data: utf8('value2') },
    ],
  }

  it('encodes the vector of the specification', () => {
    const expected = [
      '0000000000000001' + '00000000' + '00000002',
      `${stream(1).slice(2)}0000026b310000000000000002`,
      `${stream(2).slice(2)}0000046b6579320000000000000006`,
      '7631' + '76616c756532' + '00000000',
    ]
    assert.equal(toHex(encodeStreamData(vector)), `0x${expected.join('')}`)
  })

  it('encodes as the published SDK does', () => {
    const builder = new StreamDataBuilder(1)
    builder.set(stream(1), utf8('k1'), utf8('v1'))
    builder.set(stream(2), utf8('key2'), utf8('value2'))
    assert.deepEqual(encodeStreamData(vector), new Uint8Array(builder.build(true).encode()))
    assert.equal(encodeStreamTags([stream(1), stream(2)]), toHex(builder.buildTags(true)))
  })

  it('reads back what it wrote', async () => {
    await fc.assert(
      fc.asyncProperty(anyData, async (data) => {
        const bytes = encodeStreamData(data)
        const { head, controls } = await parse(bytes)
        assert.equal(head.version, data.version)
        assert.deepEqual(head.reads, data.reads)
        assert.deepEqual(
          head.writes,
          data.writes.map(({ streamId, key, data: value }) => ({ streamId, key, dataLength: value.length })),
        )
        const values = Buffer.concat(data.writes.map(({ data: value }) => value))
        assert.ok(values.equals(bytes.subarray(head.dataOffset, head.dataOffset + head.dataLength)))
        assert.deepEqual(controls, data.controls)
      }),
      { numRuns: 200 },
    )
  })

  it('answers random bytes with a typed error or a value, never otherwise', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async (bytes) => {
        await parse(bytes).catch((error: unknown) => assert.ok(error instanceof StreamDataError))
      }),
      { numRuns: 500 },
    )
  })

  it('answers every truncation with a typed error', async () => {
    const bytes = encodeStreamData({ ...vector, controls: [{ name: 'RENOUNCE_ADMIN_ROLE', streamId: stream(1) }] })
    for (let length = 0; length < bytes.length; length++) {
      await assert.rejects(parse(bytes.subarray(0, length)), StreamDataError, `cut at ${length}`)
    }
  })

  it('refuses lists past their limit before reading them', async () => {
    const head = new Uint8Array(12)
    head.set([0, 1, 0, 1], 8)
    await assert.rejects(parse(head), { message: 'Stream read list too long' })
  })
})

describe('stream tags', () => {
  it('round-trip, and are nothing else', () => {
    assert.deepEqual(decodeStreamTags(encodeStreamTags([stream(3), stream(1)])), [stream(3), stream(1)])
    assert.equal(decodeStreamTags('0x'), undefined)
    assert.equal(decodeStreamTags(STREAM_DOMAIN), undefined)
    assert.equal(decodeStreamTags(`${STREAM_DOMAIN}00`), undefined)
    assert.equal(decodeStreamTags(`${stream(1)}${stream(2).slice(2)}`), undefined)
  })
})
