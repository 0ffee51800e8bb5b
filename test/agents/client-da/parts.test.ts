import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { asPowerOfTwo, misledProbability, PASSING_SHARE } from '#client/da/confidence.ts'
import { RowPlan } from '#client/da/row-plan.ts'
import { socketUrl } from '#client/da/row-sources.ts'
import {
  decodeSubline,
  decodeUploadHead,
  encodeSubline,
  encodeUploadHead,
  MAX_SUBLINE_BYTES,
  UPLOAD_HEAD_BYTES,
  WireError,
} from '#client/da/signer-wire.ts'
import { openPaymentJournal } from '#client/da/submit-journal.ts'
import { assignRows } from '#protocol/da/quorum.ts'

// 69 samples leave less than 2^-40 for an undecodable blob, 137 less than 2^-80, 171 less than 2^-100 (da.md C7).
test('the confidence of whole samples follows the code rate', () => {
  assert.ok(Math.abs(PASSING_SHARE - 2 / 3) < 1e-12)
  for (const [samples, bits] of [
    [69, 40],
    [137, 80],
    [171, 100],
  ] as const) {
    const misled = misledProbability({ samples, passed: samples, share: PASSING_SHARE })
    assert.ok(misled < 2 ** -bits && misled > 2 ** -(bits + 1), `${samples}: ${asPowerOfTwo(misled)}`)
  }
})

// A binomial tail: it grows with every failure, ends at 1, and agrees with counting for small numbers.
test('failed samples lower the confidence as the binomial tail says', () => {
  const share = 1 / 2
  assert.ok(Math.abs(misledProbability({ samples: 4, passed: 3, share }) - 5 / 16) < 1e-12)
  assert.ok(Math.abs(misledProbability({ samples: 4, passed: 0, share }) - 1) < 1e-12)
  let before = 0
  for (let passed = 69; passed >= 0; passed--) {
    const misled = misledProbability({ samples: 69, passed, share: PASSING_SHARE })
    assert.ok(misled >= before && misled <= 1)
    before = misled
  }
})

// Whatever the stakes, a plan asks each row of its holder at most once, first the payload, and finds as many as there are.
test('a plan never asks twice and finds enough rows where there are enough', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 1_000 }), { minLength: 1, maxLength: 40 }),
      fc.integer({ min: 1, max: 1_024 }),
      fc.array(fc.boolean(), { minLength: 40, maxLength: 40 }),
      (stakes, needRows, down) => {
        const holders = assignRows(stakes.map(BigInt))
        const plan = new RowPlan({ holders, needRows })
        const usable = (holder: number): boolean => down[holder] === false
        const asked = new Set<number>()
        const take = (tasks: ReturnType<RowPlan['moreTasks']>): number => {
          let rows = 0
          for (const { holder, from, to } of tasks) {
            const { firstRow = 0, rowCount = 0 } = holders[holder] ?? {}
            assert.ok(usable(holder) && from >= firstRow && to <= firstRow + rowCount && from < to)
            for (let row = from; row < to; row++) {
              assert.ok(!asked.has(row))
              assert.ok(row < needRows || row >= 1_024, 'rows behind the payload are zero')
              asked.add(row)
              rows += 1
            }
          }
          return rows
        }
        const first = take(plan.dataTasks(usable))
        const more = take(plan.moreTasks(needRows - first, usable))
        const useful = holders.reduce((sum, { firstRow, rowCount }, holder) => {
          if (!usable(holder)) return sum
          const rows = Array.from({ length: rowCount }, (_, i) => firstRow + i)
          return sum + rows.filter((row) => row < needRows || row >= 1_024).length
        }, 0)
        assert.equal(first + more, Math.min(needRows, useful))
      },
    ),
  )
})

// The head of an upload and a sub-line come out as they went in; other lengths are refused.
test('the wire keeps what it carries', () => {
  const head = { sizeBytes: 33_554_432, rowRoot: `0x${'a1'.repeat(32)}`, rlcRoot: `0x${'b2'.repeat(32)}` } as const
  const rlc = Uint8Array.from({ length: 16_384 }, (_, i) => i & 255)
  const bytes = encodeUploadHead({ ...head, rlc })
  assert.equal(bytes.length, UPLOAD_HEAD_BYTES)
  assert.deepEqual(decodeUploadHead(bytes), { ...head, rlc })
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 1_024 }), fc.integer({ min: 0, max: 31 }), (data, hashes) => {
      const path = new Uint8Array(32 * hashes).fill(7)
      const encoded = encodeSubline({ data, path })
      assert.ok(encoded.length <= MAX_SUBLINE_BYTES)
      const decoded = decodeSubline(encoded)
      assert.deepEqual(Buffer.from(decoded.data), Buffer.from(data))
      assert.deepEqual(Buffer.from(decoded.path), Buffer.from(path))
      assert.throws(() => decodeSubline(encoded.subarray(0, encoded.length - 1)), WireError)
      assert.throws(() => decodeSubline(Buffer.concat([encoded, Buffer.alloc(1)])), WireError)
    }),
  )
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (junk) => {
      try {
        decodeSubline(junk)
      } catch (error) {
        assert.ok(error instanceof WireError)
      }
    }),
  )
})

// Sockets on the chain are anybody's text: they become addresses or lead nowhere.
test('sockets become addresses', () => {
  assert.equal(socketUrl('http://10.0.0.1:34000/'), 'http://10.0.0.1:34000')
  assert.equal(socketUrl('10.0.0.1:34000'), 'http://10.0.0.1:34000')
  assert.equal(socketUrl('https://signer.example/da'), 'https://signer.example/da')
  assert.equal(socketUrl('file:///etc/passwd').startsWith('http://'), true)
  fc.assert(fc.property(fc.string(), (text) => /^https?:\/\//.test(socketUrl(text)) && URL.canParse(socketUrl(text))))
})

// The journal gives payments back by any of their blobs, to the same payer on the same chain only, and ignores what is not its own.
test('the journal finds payments on their way', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'da-journal-'))
  try {
    const key = { dir, chainId: 1, genesis: '0x0a', entrance: '0x01', payer: '0x02' } as const
    const journal = openPaymentJournal(key)
    const entry = { root: '0xaa', nonce: 3, transactions: [{ hash: '0x11', raw: '0x22' }] } as const
    await journal.open(['0xaa', '0xbb']).write({ ...entry, transactions: [...entry.transactions] })
    await writeFile(join(dir, 'foreign.json'), '{')
    const [found] = await openPaymentJournal(key).pending(['0xbb'])
    assert.deepEqual(found?.dataRoots, ['0xaa', '0xbb'])
    assert.deepEqual(found?.entry, entry)
    assert.deepEqual(await journal.pending(['0xcc']), [])
    assert.deepEqual(await openPaymentJournal({ ...key, payer: '0x03' }).pending(['0xaa']), [])
    assert.deepEqual(await openPaymentJournal({ ...key, genesis: '0x0b' }).pending(['0xaa']), [])
    await found?.journal.remove()
    assert.deepEqual(await journal.pending(['0xaa']), [])
  } finally {
    await rm(dir, { recursive: true })
  }
})
