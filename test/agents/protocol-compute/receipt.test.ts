import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { concatHex, keccak256, recoverTypedDataAddress } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { maximumFee, promptTokenBound, usageFee } from '#protocol/compute/fees.ts'
import {
  engineHash,
  type Receipt,
  ReceiptError,
  receiptSeed,
  receiptTypedData,
  requestHash,
  signReceipt,
  verifyReceipt,
  ZERO_HASH,
} from '#protocol/compute/receipt.ts'
import { decodeReceipt, encodeReceipt } from '#protocol/compute/receipt-json.ts'
import {
  checkResponseSignature,
  ResponseSignatureError,
  responseText,
  signResponse,
} from '#protocol/compute/response-signature.ts'
import { requestsHash } from '#protocol/compute/settlement.ts'
import { tokenRoot } from '#protocol/compute/token-root.ts'
import { toHex } from '#protocol/hex.ts'

const user = privateKeyToAccount(`0x${'01'.repeat(32)}`)
const provider = privateKeyToAccount(`0x${'03'.repeat(32)}`)
const domain = { chainId: 31_337, contract: `0x${'ab'.repeat(20)}` } as const
const body = new TextEncoder().encode('{"model":"m","messages":[]}')
const promptTokens = Array.from({ length: 130 }, (_, i) => i * 3)
const outputTokens = [5, 6, 7]
const receipt: Receipt = {
  modelId: `0x${'0d'.repeat(32)}`,
  engine: engineHash('llama b7342'),
  user: user.address,
  provider: provider.address,
  requestHash: requestHash(body),
  promptRoot: tokenRoot(promptTokens),
  promptLen: promptTokens.length,
  outputRoot: tokenRoot(outputTokens),
  outputLen: outputTokens.length,
  settings: { temperatureQ16: 65_536, cutQ16: 0, seed: 99n, maxTokens: 16, stopIds: ZERO_HASH, bias: ZERO_HASH },
  stopReason: 'length',
  level: 1,
  profile: 'gumbel-philox-1',
  issuedAtS: 1_800_000_000,
  feeWei: 1_000n,
  coverageWei: 0n,
  plaintextRoot: ZERO_HASH,
  nonce: 2n ** 200n,
}
const sign = async (change: Partial<Receipt> = {}) => ({
  receipt: { ...receipt, ...change },
  signature: await signReceipt({ ...domain, receipt: { ...receipt, ...change }, signer: provider }),
  engine: 'llama b7342',
  promptTokens,
  outputTokens,
})
const refusedWith = (code: string) => (error: unknown) => error instanceof ReceiptError && error.code === code

test('a receipt survives its JSON and verifies; any EIP-712 library names the same signer', async () => {
  const signed = await sign()
  const read = decodeReceipt(JSON.parse(JSON.stringify(encodeReceipt(signed))))
  const { signer } = verifyReceipt({
    ...domain,
    ...read,
    signers: [provider.address],
    expected: {
      user: user.address,
      provider: provider.address,
      requestHash: requestHash(body),
      seed: 99n,
      maxFeeWei: 1_000n,
    },
  })
  assert.equal(signer, provider.address.toLowerCase())
  const { signature } = signed
  assert.equal(
    await recoverTypedDataAddress({ ...receiptTypedData({ ...domain, receipt }), signature }),
    provider.address,
  )
})

test('whatever does not fit a receipt is refused with the code that says so', async () => {
  const signed = await sign()
  const check = (change: object) => () =>
    verifyReceipt({ ...domain, ...signed, signers: [provider.address], ...change })
  const cases: [string, object][] = [
    ['RECEIPT_SIGNATURE', { receipt: { ...receipt, feeWei: 999n } }],
    ['RECEIPT_SIGNATURE', { receipt: { ...receipt, settings: { ...receipt.settings, seed: 98n } } }],
    ['RECEIPT_SIGNATURE', { signers: [user.address] }],
    ['RECEIPT_SIGNATURE', { signature: `0x${'00'.repeat(65)}` }],
    ['RECEIPT_TOKENS', { outputTokens: [5, 6, 8] }],
    ['RECEIPT_TOKENS', { outputTokens: [5, 6, 7, 0] }],
    ['RECEIPT_TOKENS', { promptTokens: undefined }],
    ['RECEIPT_ENGINE', { engine: 'llama b9999' }],
    ['RECEIPT_USER', { expected: { user: provider.address } }],
    ['RECEIPT_PROVIDER', { expected: { provider: user.address } }],
    ['RECEIPT_REQUEST', { expected: { requestHash: requestHash(new Uint8Array(1)) } }],
    ['RECEIPT_MODEL', { expected: { modelId: ZERO_HASH } }],
    ['RECEIPT_SEED', { expected: { seed: 98n } }],
    ['RECEIPT_FEE', { expected: { maxFeeWei: 999n } }],
  ]
  for (const [code, change] of cases) assert.throws(check(change), refusedWith(code), code)
})

test('an engine that does not tell its tokens leaves the roots zero, and can then not claim any list', async () => {
  const bare = {
    ...(await sign({ promptRoot: ZERO_HASH, outputRoot: ZERO_HASH })),
    promptTokens: undefined,
    outputTokens: undefined,
  }
  verifyReceipt({ ...domain, ...bare, signers: [provider.address] })
  assert.throws(
    () => verifyReceipt({ ...domain, ...bare, outputTokens: [1, 2, 3], signers: [provider.address] }),
    refusedWith('RECEIPT_TOKENS'),
  )
})

test('whatever is sent as a receipt, the answer is a receipt or a ReceiptError', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (json) => {
      assert.throws(() => decodeReceipt(json), ReceiptError)
      assert.throws(() => decodeReceipt({ receipt: json, signature: json, engine: json }), ReceiptError)
    }),
    { numRuns: 200 },
  )
})

test('the token root is that of 256-byte chunks filled with zeros to a power of two', () => {
  const leaf = (ids: number[]) => {
    const chunk = new Uint8Array(256)
    for (const [i, id] of ids.entries()) new DataView(chunk.buffer).setUint32(4 * i, id, true)
    return keccak256(chunk)
  }
  assert.equal(tokenRoot([]), leaf([]))
  assert.equal(tokenRoot([1, 2 ** 32 - 1]), leaf([1, 2 ** 32 - 1]))
  const left = keccak256(concatHex([leaf(promptTokens.slice(0, 64)), leaf(promptTokens.slice(64, 128))]))
  const right = keccak256(concatHex([leaf(promptTokens.slice(128)), leaf([])]))
  assert.equal(tokenRoot(promptTokens), keccak256(concatHex([left, right])))
  assert.throws(() => tokenRoot([-1]), /unsigned 32-bit/)
  assert.throws(() => tokenRoot([0.5]), /unsigned 32-bit/)
})

test('the seed depends on the request and on the random bytes of the user, and on nothing else', () => {
  const randomness = `0x${'07'.repeat(32)}` as const
  const seed = receiptSeed({ requestHash: requestHash(body), randomness })
  const whole = keccak256(concatHex([requestHash(body), randomness]))
  assert.equal(seed, BigInt(whole.slice(0, 18)))
  assert.notEqual(seed, receiptSeed({ requestHash: requestHash(body), randomness: `0x${'08'.repeat(32)}` }))
})

test('the fee of any usage within the bounds stays within the maximum fee', () => {
  const price = fc.bigInt({ min: 0n, max: 10n ** 18n })
  fc.assert(
    fc.property(
      fc.nat(1e6),
      fc.nat(1e6),
      fc.nat(1e6),
      fc.integer({ min: 1, max: 16 }),
      price,
      price,
      (bytes, max, cached, divisor, inputPriceWei, outputPriceWei) => {
        const most = maximumFee({ bodyBytes: bytes, maxTokens: max, inputPriceWei, outputPriceWei })
        const promptTokens = promptTokenBound(bytes)
        const usage = { promptTokens, completionTokens: max, cachedTokens: cached, cacheDivisor: divisor }
        const fee = usageFee({ ...usage, inputPriceWei, outputPriceWei })
        assert.ok(fee <= most && fee >= 0n)
      },
    ),
  )
  assert.equal(
    usageFee({
      promptTokens: 10,
      completionTokens: 2,
      cachedTokens: 8,
      cacheDivisor: 4,
      inputPriceWei: 3n,
      outputPriceWei: 5n,
    }),
    22n,
  )
})

test('a response signature binds the bytes received', async () => {
  const response = new TextEncoder().encode('data: [DONE]\n\n')
  const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
  const answer = await signResponse({
    signer: provider,
    text: responseText({ engineRequest: body, response }),
    requestSha256: sha(body),
  })
  const checked = checkResponseSignature({ answer, responseSha256: sha(response) })
  assert.deepEqual(checked, { signer: provider.address.toLowerCase(), requestSha256: sha(body) })
  assert.throws(
    () => checkResponseSignature({ answer, responseSha256: sha(body) }),
    (error) => error instanceof ResponseSignatureError && error.code === 'RESPONSE_CONTENT',
  )
  assert.throws(
    () => checkResponseSignature({ answer: { ...answer, signature: '0x' }, responseSha256: sha(response) }),
    {
      code: 'RESPONSE_SIGNATURE',
    },
  )
})

test('the hash over a batch covers every request and its order', () => {
  const one = {
    requestHash: toHex(new Uint8Array(32)),
    user: user.address,
    feeWei: 3n,
    inputFeeWei: 1n,
    outputFeeWei: 2n,
  }
  const two = { ...one, feeWei: 4n }
  assert.notEqual(requestsHash([one, two]), requestsHash([two, one]))
  assert.notEqual(requestsHash([one]), requestsHash([two]))
})
