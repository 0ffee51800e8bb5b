import assert from 'node:assert/strict'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { type BookKey, ComputeBook } from '#client/compute/book.ts'
import { judgeDemand } from '#client/compute/voucher-terms.ts'
import type { SignedVoucher } from '#protocol/compute/voucher.ts'

const key: BookKey = {
  chainId: 31_337,
  genesis: '0x01',
  contract: `0x${'0a'.repeat(20)}`,
  user: `0x${'0b'.repeat(20)}`,
  provider: `0x${'0c'.repeat(20)}`,
}
const hash = `0x${'11'.repeat(32)}` as const
const terms = { bodyBytes: 10, maxTokens: 5, inputPriceWei: 1n, outputPriceWei: 2n ** 70n }
const open = () => ComputeBook.open({ dir: ':memory:' })
const reserve = (book: ComputeBook, maxFeeWei: bigint, nowMs = 1_000) =>
  book.reserve(key, { requestHash: hash, maxFeeWei, terms, nowMs })
const receiptOf = (nonce: bigint, feeWei: bigint) => ({
  ...{ chatId: `chat-${nonce}`, digest: `0x${nonce.toString(16).padStart(64, '0')}` as const, nonce, feeWei },
  ...{ signer: key.provider, model: 'm', verified: true, checks: [], json: {}, nowMs: 1 },
})

test('a voucher covers what receipts justify, what is under way, and the request: no more', () => {
  using book = disposable(open())
  const first = reserve(book, 100n)
  assert.equal(first.cumulativeFeeWei, 100n)
  assert.equal(reserve(book, 50n).cumulativeFeeWei, 150n)
  book.settle(key, { id: first.id, feeWei: 30n })
  assert.deepEqual(book.account(key), { billedWei: 30n, openWei: 50n, signedWei: 150n })
  assert.equal(reserve(book, 10n).cumulativeFeeWei, 90n)
})

test('a failed request is owed nothing; a lost one only once its receipt is there, and only once', () => {
  using book = disposable(open())
  const [failed, lost] = [reserve(book, 100n), reserve(book, 100n)]
  book.fail(failed.id)
  book.lose(lost.id)
  assert.equal(reserve(book, 1n).cumulativeFeeWei, 1n)
  assert.equal(book.lost(key)[0]?.requestHash, hash)
  assert.deepEqual(book.lost(key)[0]?.terms, terms)
  book.settle(key, { id: lost.id, feeWei: 40n })
  book.settle(key, { id: lost.id, feeWei: 40n })
  book.settle(key, { id: failed.id, feeWei: 40n })
  assert.equal(book.account(key).billedWei, 40n)
})

test('a chain that began anew under the same number and addresses owes nothing', () => {
  using book = disposable(open())
  const { id } = reserve(book, 100n)
  book.settle(key, { id, feeWei: 30n })
  assert.deepEqual(book.account({ ...key, genesis: '0x02' }), { billedWei: 0n, openWei: 0n, signedWei: 0n })
})

test('a request of a process that is gone stops counting after an hour', () => {
  using book = disposable(open())
  reserve(book, 100n, 0)
  assert.equal(reserve(book, 1n, 3_600_001).cumulativeFeeWei, 1n)
})

test('a provider cannot use the number of a receipt twice', () => {
  using book = disposable(open())
  assert.equal(book.keepReceipt(key, receiptOf(7n, 1n)), true)
  assert.equal(book.keepReceipt(key, { ...receiptOf(7n, 2n), digest: hash }), false)
  assert.equal(book.receipt('chat-7')?.feeWei, 1n)
  assert.equal(book.receipt('chatcmpl-chat-7')?.feeWei, 1n)
  assert.equal(book.receipt('chat-8'), undefined)
})

test('books survive the process and are the user’s alone', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'book-'))
  t.after(() => rm(dir, { recursive: true }))
  const at = join(dir, 'compute')
  const book = ComputeBook.open({ dir: at })
  const { id } = reserve(book, 100n)
  book.settle(key, { id, feeWei: 3n })
  book.close()
  using again = disposable(ComputeBook.open({ dir: at }))
  assert.deepEqual(again.account(key), { billedWei: 3n, openWei: 0n, signedWei: 100n })
  assert.equal((await stat(at)).mode & 0o777, 0o700)
})

test('the average of speeds begins with the first figure and follows new ones', () => {
  using book = disposable(open())
  const note = (firstTokenMs: number) => book.notePerformance(key.provider, { ok: true, firstTokenMs, nowMs: 5 })
  note(100)
  assert.equal(Math.round(book.performance(key.provider)?.firstTokenMs ?? 0), 100)
  note(200)
  assert.equal(Math.round(book.performance(key.provider)?.firstTokenMs ?? 0), 130)
  book.notePerformance(key.provider, { ok: false, nowMs: 9 })
  const { firstTokenMs, ...rest } = book.performance(key.provider) ?? {}
  assert.equal(Math.round(firstTokenMs ?? 0), 130)
  assert.deepEqual(rest, { tokensPerSecond: undefined, successes: 2, failures: 1, lastFailureMs: 9 })
})

const demandOf = (billed: bigint, required: bigint, shown?: bigint) => ({
  cumulativeFeeWei: billed,
  requiredCumulativeFeeWei: required,
  lastVoucher:
    shown === undefined
      ? undefined
      : ({
          voucher: { ...key, cumulativeFeeWei: shown, expiresAtS: 1, generation: 0 },
          signature: '0x',
        } satisfies SignedVoucher),
  chatIds: [],
})

test('a demand within the books is signed, one above is refused', () => {
  const books = { billedWei: 10n, openWei: 5n, signedWei: 15n }
  const judge = (required: bigint, shown?: bigint, sound = true) =>
    judgeDemand({
      demand: demandOf(required - 5n, required, shown),
      books,
      signedBeforeWei: 12n,
      lastVoucherForeign: sound,
    }).verdict
  assert.equal(judge(15n), 'sign')
  assert.equal(judge(16n), 'refuse')
  // A voucher these books signed themselves proves nothing.
  assert.equal(judge(16n, 12n), 'refuse')
  // One signed elsewhere does, if it is the user's.
  assert.equal(judge(25n, 20n), 'adopt')
  assert.equal(judge(25n, 20n, false), 'refuse')
  // But not beyond what it allows.
  assert.equal(judge(26n, 20n), 'refuse')
})

test('whatever a provider demands, it never gets more than receipts or a voucher signed before justify', () => {
  const amount = fc.bigInt(0n, 1_000n)
  fc.assert(
    fc.property(
      amount,
      amount,
      amount,
      amount,
      amount,
      fc.option(amount, { nil: undefined }),
      fc.boolean(),
      (...drawn) => {
        const [billedWei, openWei, before, claimed, required, shown, sound] = drawn
        const books = { billedWei, openWei, signedWei: before }
        const demand = demandOf(claimed, required, shown)
        const verdict = judgeDemand({ demand, books, signedBeforeWei: before, lastVoucherForeign: sound })
        if (verdict.verdict === 'sign') assert.ok(required <= billedWei + openWei)
        if (verdict.verdict === 'adopt') {
          assert.ok(sound && shown !== undefined && shown > before)
          assert.ok(verdict.billedWei <= shown)
        }
      },
    ),
  )
})

function disposable(book: ComputeBook): ComputeBook & Disposable {
  return Object.assign(book, { [Symbol.dispose]: () => book.close() })
}
