import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { bytesEqual, fromHex, InvalidHexError, toHex } from '#protocol/hex.ts'

describe('hex', () => {
  it('comes back from any bytes, in any case', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        const hex = toHex(bytes)
        assert.match(hex, /^0x[0-9a-f]*$/)
        assert.deepEqual(fromHex(hex), bytes)
        assert.deepEqual(fromHex(`0x${hex.slice(2).toUpperCase()}`, { byteLength: bytes.length }), bytes)
      }),
    )
  })

  it('is refused when it is none, or of another length', () => {
    for (const text of ['', '0', '12', '0x1', '0xzz', '0X12', '0x 12']) {
      assert.throws(
        () => fromHex(text, { field: 'root' }),
        { name: 'InvalidHexError', details: { field: 'root' } },
        text,
      )
    }
    assert.throws(() => fromHex('0x1234', { byteLength: 1 }), InvalidHexError)
  })

  it('compares bytes by value', () => {
    assert.equal(bytesEqual(Uint8Array.of(1, 2), Uint8Array.of(1, 2)), true)
    assert.equal(bytesEqual(Uint8Array.of(1, 2), Uint8Array.of(1, 3)), false)
    assert.equal(bytesEqual(Uint8Array.of(1), Uint8Array.of(1, 0)), false)
  })
})
