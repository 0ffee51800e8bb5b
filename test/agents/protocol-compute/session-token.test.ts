import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { keccak256, stringToHex } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { encodeSessionToken, parseSessionToken, SessionTokenError } from '#protocol/compute/session-token.ts'

const user = privateKeyToAccount(`0x${'01'.repeat(32)}`)
const stranger = privateKeyToAccount(`0x${'02'.repeat(32)}`)
const provider = privateKeyToAccount(`0x${'03'.repeat(32)}`).address
const NOW = 1_800_000_000_000

const parse = (header: string | undefined, nowMs = NOW) => parseSessionToken(header, { provider, nowMs })
const refusedWith = (code: string) => (error: unknown) => error instanceof SessionTokenError && error.code === code

/** A token over any text, signed by `by`. */
async function tokenOf(json: string, by = user): Promise<string> {
  const signature = await by.signMessage({ message: { raw: keccak256(stringToHex(json)) } })
  return `Bearer app-sk-${Buffer.from(`${json}|${signature}`).toString('base64')}`
}

const fields = (change: Record<string, unknown> = {}) =>
  JSON.stringify({
    address: user.address,
    provider,
    timestamp: NOW,
    expiresAt: NOW + 3_600_000,
    nonce: '0123456789abcdef0123456789abcdef',
    generation: 3,
    tokenId: 255,
    ...change,
  })

test('a token is accepted for its provider until it expires, and not a millisecond longer', async () => {
  const token = await encodeSessionToken({ signer: user, provider, nowMs: NOW, lifetimeMs: 1_000, generation: 7 })
  assert.equal(parse(`Bearer ${token}`).generation, 7)
  assert.equal(parse(token, NOW + 999).address, user.address.toLowerCase())
  assert.throws(() => parse(token, NOW + 1_000), refusedWith('TOKEN_EXPIRED'))
})

test('each fault of a token has its code', async () => {
  const cases: [string, Record<string, unknown>][] = [
    ['TOKEN_PROVIDER', { provider: stranger.address }],
    ['TOKEN_LIFETIME', { expiresAt: 0 }],
    ['TOKEN_LIFETIME', { expiresAt: NOW + 86_400_001 }],
    ['TOKEN_EXPIRED', { expiresAt: NOW - 1 }],
    ['TOKEN_NOT_YET', { timestamp: NOW + 600_000, expiresAt: NOW + 700_000 }],
    ['TOKEN_SIGNATURE', { address: stranger.address }],
    ['TOKEN_FORMAT', { address: 'me' }],
    ['TOKEN_FORMAT', { tokenId: 256 }],
    ['TOKEN_FORMAT', { generation: -1 }],
    ['TOKEN_FORMAT', { timestamp: '1' }],
    ['TOKEN_FORMAT', { nonce: 'short' }],
  ]
  for (const [code, change] of cases) {
    const header = await tokenOf(fields(change))
    assert.throws(() => parse(header), refusedWith(code), JSON.stringify(change))
  }
  assert.throws(() => parse(undefined), refusedWith('TOKEN_MISSING'))
  assert.throws(() => parse('Bearer sk-1234'), refusedWith('TOKEN_FORMAT'))
  assert.throws(() => parse(`Bearer app-sk-${'A'.repeat(5_000)}`), refusedWith('TOKEN_FORMAT'))
})

test('a persistent token may live for ever', async () => {
  assert.equal(parse(await tokenOf(fields({ tokenId: 4, expiresAt: 0 }))).tokenId, 4)
})

test('the text is hashed as received: other white space is fine, changed text is not', async () => {
  const spaced = JSON.stringify(JSON.parse(fields()), null, 2)
  assert.equal(parse(await tokenOf(spaced)).generation, 3)
  const token = await tokenOf(fields())
  const [json = '', signature = ''] = Buffer.from(token.slice('Bearer app-sk-'.length), 'base64').toString().split('|')
  const changed = Buffer.from(`${json.replace('"generation":3', '"generation":4')}|${signature}`).toString('base64')
  assert.throws(() => parse(`Bearer app-sk-${changed}`), refusedWith('TOKEN_SIGNATURE'))
})

test('whatever is sent as a token, the answer is a token or a SessionTokenError', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.base64String(), fc.json()), (text) => {
      for (const header of [text, `Bearer app-sk-${text}`, `app-sk-${Buffer.from(text).toString('base64')}`]) {
        assert.throws(() => parse(header), SessionTokenError)
      }
    }),
    { numRuns: 200 },
  )
})
