import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { GgufError } from '#protocol/gguf/gguf-error.ts'
import { decodeTensor, encodeTensor, type GgufMetadata } from '#protocol/gguf/layout.ts'
import { parseGgufHead, readGgufHead, readGgufTensor } from '#protocol/gguf/read.ts'
import { ggufChunks, ggufSizeBytes, writeGguf } from '#protocol/gguf/write.ts'
import { memorySource } from '#protocol/storage/byte-source.ts'

const metadata: GgufMetadata = {
  u8: { type: 'u8', value: 255 },
  i8: { type: 'i8', value: -128 },
  u16: { type: 'u16', value: 65_535 },
  i16: { type: 'i16', value: -32_768 },
  u32: { type: 'u32', value: 0xffffffff },
  i32: { type: 'i32', value: -1 },
  f32: { type: 'f32', value: 0.5 },
  f64: { type: 'f64', value: Math.PI },
  u64: { type: 'u64', value: 2n ** 64n - 1n },
  i64: { type: 'i64', value: -(2n ** 63n) },
  yes: { type: 'bool', value: true },
  no: { type: 'bool', value: false },
  text: { type: 'string', value: 'naïve ▁ 🦊' },
  texts: { type: 'array', of: 'string', value: ['', 'a', '▁b'] },
  numbers: { type: 'array', of: 'i32', value: [1, -2, 3] },
  flags: { type: 'array', of: 'bool', value: [true, false] },
  large: { type: 'array', of: 'u64', value: [1n, 2n ** 63n] },
  empty: { type: 'array', of: 'f32', value: [] },
}
const values = Float32Array.from({ length: 96 }, (_, i) => Math.sin(i) * 3)
const tensors = [
  { name: 'f32', ne: [32, 3], type: 'F32', data: values },
  { name: 'f16', ne: [96], type: 'F16', data: values },
  { name: 'q8', ne: [32, 3], type: 'Q8_0', data: () => values },
] as const
const file = writeGguf({ metadata, tensors })

describe('GGUF files', () => {
  // What is written is read back: every kind of pair, and tensors within the precision of their type.
  it('come back as they were written', async () => {
    const source = memorySource(file)
    const head = await readGgufHead(source)
    assert.deepEqual(
      Object.fromEntries(head.metadata),
      Object.fromEntries(Object.entries(metadata).map(([key, { value }]) => [key, value])),
    )
    assert.deepEqual(
      [...head.tensors.values()].map(({ name, ne, type }) => ({ name, ne, type })),
      [
        { name: 'f32', ne: [32, 3], type: 'F32' },
        { name: 'f16', ne: [96], type: 'F16' },
        { name: 'q8', ne: [32, 3], type: 'Q8_0' },
      ],
    )
    assert.deepEqual(await readGgufTensor({ source, head, name: 'f32' }), values)
    const f16 = await readGgufTensor({ source, head, name: 'f16' })
    f16.forEach((x, i) => {
      assert.ok(Math.abs(x - (values[i] ?? 0)) <= 3 / 1024, `f16 value ${i}`)
    })
    const q8 = await readGgufTensor({ source, head, name: 'q8' })
    q8.forEach((x, i) => {
      // Half a step, plus what rounding the scale to f16 costs at 127 steps.
      assert.ok(Math.abs(x - (values[i] ?? 0)) <= (3 / 127) * 0.57, `q8 value ${i}`)
    })
  })

  // The pieces of the streaming writer put together are the file, and its size is known before.
  it('are the same in pieces and in one', () => {
    const content = { metadata, tensors }
    const pieces = Buffer.concat([...ggufChunks(content)])
    assert.deepEqual(new Uint8Array(pieces), file)
    assert.equal(ggufSizeBytes(content), file.length)
    assert.equal(file.length % 32, 0)
  })

  // A block of zeros, and a block whose largest value is negative, survive Q8_0.
  it('quantises zeros and extremes', () => {
    const data = new Float32Array(64)
    data[40] = -5
    data[41] = 2.5
    const back = decodeTensor(encodeTensor({ name: 't', ne: [64], type: 'Q8_0' }, data), 'Q8_0', 64)
    assert.equal(back[0], 0)
    assert.ok(Math.abs((back[40] ?? 0) + 5) < 0.003)
    assert.ok(Math.abs((back[41] ?? 0) - 2.5) < 0.025)
  })

  // A file that ends too early, anywhere, is refused with a typed error and never read beyond its end.
  it('are refused when cut off', async () => {
    for (const length of [0, 3, 4, 20, 24, 100, file.length - 400, file.length - 30]) {
      const cut = memorySource(file.subarray(0, length))
      await assert.rejects(readGgufHead(cut), (error) => error instanceof GgufError && /^GGUF_/.test(error.code))
    }
  })

  // Whatever single byte of the descriptions changes, reading either works or throws a GgufError.
  it('never make the reader fail otherwise', () => {
    fc.assert(
      fc.property(fc.nat(file.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const bytes = file.slice()
        bytes[at] = (bytes[at] ?? 0) ^ flip
        try {
          parseGgufHead(bytes, { fileBytes: bytes.length })
        } catch (error) {
          assert.ok(error instanceof GgufError, String(error))
        }
      }),
      { numRuns: 2000, seed: 20_261_121 },
    )
  })

  it('are refused when another magic or version stands in front', () => {
    const other = file.slice()
    other[4] = 2
    assert.throws(() => parseGgufHead(other, { fileBytes: other.length }), { code: 'GGUF_FORMAT' })
    other[0] = 0
    assert.throws(() => parseGgufHead(other, { fileBytes: other.length }), { code: 'GGUF_FORMAT' })
  })

  it('are not written with shapes that cannot be', () => {
    const write = (tensor: object) => () =>
      writeGguf({
        metadata: {},
        tensors: [{ name: 't', ne: [32], type: 'F32', data: new Float32Array(32), ...tensor }],
      })
    assert.throws(write({ ne: [31] }), { code: 'GGUF_TENSOR' })
    assert.throws(write({ ne: [] }), { code: 'GGUF_TENSOR' })
    assert.throws(write({ ne: [0] }), { code: 'GGUF_TENSOR' })
    assert.throws(write({ ne: [16, 2], type: 'Q8_0' }), { code: 'GGUF_TENSOR' })
    const twice = { name: 't', ne: [1], type: 'F32', data: new Float32Array(1) } as const
    assert.throws(() => writeGguf({ metadata: {}, tensors: [twice, twice] }), { code: 'GGUF_TENSOR' })
  })

  it('say what is missing', async () => {
    const source = memorySource(file)
    const head = await readGgufHead(source)
    await assert.rejects(readGgufTensor({ source, head, name: 'gone' }), { code: 'GGUF_TENSOR' })
  })
})
