import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { JsonError, parseExactJson, toExactJson } from '#kit/http/exact-json.ts'

const parse = (text: string): unknown => parseExactJson(Buffer.from(text)).value

describe('exact JSON', () => {
  // Invariant: an integer of up to 78 digits comes out with every digit, at any depth.
  it('keeps every digit of large integers', () => {
    assert.deepEqual(parse('{"a":[17600000000000001,-9007199254740993]}'), {
      a: [17600000000000001n, -9007199254740993n],
    })
    assert.equal(parse(String(2n ** 256n - 1n)), 2n ** 256n - 1n)
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 255n), max: 2n ** 255n }), (value) => {
        const [read] = parse(`[ ${value}]`) as [number | bigint]
        assert.equal(BigInt(read), value)
        assert.equal(typeof read, Number.isSafeInteger(Number(value)) ? 'number' : 'bigint')
      }),
    )
  })

  // Invariant: apart from those integers, the result is JSON.parse's.
  it('agrees with JSON.parse on all other JSON', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 12 }), (text) => {
        const rounded: unknown = JSON.parse(toExactJson(parse(text)))
        assert.deepEqual(rounded, JSON.parse(text))
      }),
    )
  })

  // Invariant: what toExactJson writes, parseExactJson reads back equal, bigints included.
  it('round-trips bigints among other values', () => {
    const value = fc.oneof(fc.bigInt({ min: 2n ** 53n, max: 2n ** 255n }), fc.string(), fc.integer(), fc.boolean())
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.array(value)), (given) => {
        const plain = { ...given }
        assert.deepEqual({ ...(parse(toExactJson(plain)) as object) }, plain)
      }),
    )
    assert.equal(toExactJson(undefined), 'null')
  })

  it('gives the source of an id whose digits a number would lose', () => {
    for (const text of ['17600000000000001', '1.0', '-0', '1e3', '0.1e-7', '123456789012345678901234567890.5']) {
      const json = parseExactJson(Buffer.from(`{"params":[{"id":5}],"id":${text}}`))
      assert.equal(json.idSource(json.value as object), text)
    }
  })

  it('refuses text that is not JSON, not UTF-8, too deep or too long, each with its code', () => {
    const code = (bytes: Uint8Array, limits = {}): string => {
      try {
        parseExactJson(bytes, limits)
      } catch (error) {
        assert.ok(error instanceof JsonError)
        return error.code
      }
      return 'none'
    }
    assert.equal(code(Buffer.from('{"a":')), 'JSON_SYNTAX')
    assert.equal(code(Buffer.from('')), 'JSON_SYNTAX')
    assert.equal(code(Buffer.from([0x22, 0xff, 0x22])), 'JSON_ENCODING')
    assert.equal(code(Buffer.from('['.repeat(65) + ']'.repeat(65))), 'JSON_DEPTH')
    assert.equal(code(Buffer.from('['.repeat(64) + ']'.repeat(64))), 'none')
    assert.equal(code(Buffer.from('[1,2,3,4]'), { maxValues: 3 }), 'JSON_VALUES')
    assert.equal(code(Buffer.from('[1,2,3]'), { maxValues: 3 }), 'none')
  })

  // Invariant: brackets and commas inside text never count, whatever is escaped around them.
  it('does not count what stands inside text', () => {
    const hostile = fc.string({ unit: fc.constantFrom('[', '{', ',', ':', '"', '\\', 'é', '0') })
    fc.assert(
      fc.property(fc.array(hostile, { maxLength: 5 }), (texts) => {
        assert.deepEqual(parseExactJson(Buffer.from(JSON.stringify(texts)), { maxDepth: 1, maxValues: 6 }).value, texts)
      }),
    )
  })

  it('stays linear on 32 MiB of brackets, backslashes and digits', () => {
    for (const body of ['['.repeat(2 ** 25), `"${'\\'.repeat(2 ** 25)}`, '1'.repeat(2 ** 25), '-'.repeat(2 ** 25)]) {
      const start = performance.now()
      try {
        parse(body)
      } catch (error) {
        assert.ok(error instanceof JsonError)
      }
      assert.ok(performance.now() - start < 5_000, `took ${performance.now() - start} ms`)
    }
  })
})
