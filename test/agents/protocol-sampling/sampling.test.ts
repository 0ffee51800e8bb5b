import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { GUMBEL_TABLE_HASH, gumbelQ16, gumbelTable } from '#protocol/sampling/gumbel.ts'
import { AuditBet, tokenMargin } from '#protocol/sampling/margin.ts'
import { philox4x32, philoxKey } from '#protocol/sampling/philox.ts'
import { type Candidate, NO_CUT_Q16, sampleToken, samplingSettings } from '#protocol/sampling/sample.ts'

/** Philox by the paper's definition, in BigInt, sharing nothing with the code under test. */
function philoxReference(counter: readonly number[], seed: bigint): string[] {
  const word = 0xffffffffn
  let [x0, x1, x2, x3] = counter.map(BigInt) as [bigint, bigint, bigint, bigint]
  let k0 = seed & word
  let k1 = seed >> 32n
  for (let i = 0; i < 10; i++) {
    const a = 0xd2511f53n * x0
    const b = 0xcd9e8d57n * x2
    ;[x0, x1, x2, x3] = [(b >> 32n) ^ x1 ^ k0, b & word, (a >> 32n) ^ x3 ^ k1, a & word]
    k0 = (k0 + 0x9e3779b9n) & word
    k1 = (k1 + 0xbb67ae85n) & word
  }
  return [x0, x1, x2, x3].map((x) => x.toString(16).padStart(8, '0'))
}

const hex = (words: readonly number[]) => words.map((word) => word.toString(16).padStart(8, '0'))

describe('Philox4x32-10', () => {
  // Known answer of the Random123 distribution for an all-zero counter and key.
  it('gives the known answer for zeros', () => {
    assert.deepEqual(hex(philox4x32([0, 0, 0, 0], [0, 0])), ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8'])
  })

  // Known answer of the Random123 distribution for all bits set.
  it('gives the known answer for ones', () => {
    const ones = 0xffffffff
    assert.deepEqual(hex(philox4x32([ones, ones, ones, ones], [ones, ones])), [
      '408f276d',
      '41c83b0e',
      'a20bc7c6',
      '6d5451fd',
    ])
  })

  // For any counter and key the number code equals the definition in big integers.
  it('equals its definition in big integers', () => {
    let [a, b] = [1, 0x9e3779b9]
    for (let i = 0; i < 500; i++) {
      a = Math.imul(a ^ (a >>> 13), 0x5bd1e995) + i
      b = (Math.imul(b, 1664525) + 1013904223) >>> 0
      const counter = [a >>> 0, b, i, (a ^ b) >>> 0] as const
      const seed = (BigInt(b) << 32n) | BigInt(a >>> 0)
      assert.deepEqual(hex(philox4x32(counter, philoxKey(seed))), philoxReference(counter, seed))
    }
  })
})

describe('Gumbel noise', () => {
  // The table is agreed on as bytes: its hash begins b9bcb94f and ends de2373, its values run from -1.94 to 22.18.
  it('has the agreed table', () => {
    assert.match(GUMBEL_TABLE_HASH, /^0xb9bcb94f[0-9a-f]{50}de2373$/)
    const table = gumbelTable()
    assert.equal(table.length, 8192)
    assert.equal((Math.min(...table) / 65_536).toFixed(2), '-1.94')
    assert.equal((Math.max(...table) / 65_536).toFixed(2), '22.18')
  })

  // Mean and variance over many draws are those of the Gumbel distribution: 0.5772 and 1.6449.
  it('is Gumbel distributed', () => {
    const key = philoxKey(99n)
    const n = 40_000
    let [sum, squares] = [0, 0]
    for (let i = 0; i < n; i++) {
      const value = gumbelQ16({ token: i % 1000, position: Math.floor(i / 1000), key }) / 65_536
      sum += value
      squares += value * value
    }
    const mean = sum / n
    assert.ok(Math.abs(mean - 0.5772) < 0.03, `mean ${mean}`)
    assert.ok(Math.abs(squares / n - mean * mean - 1.6449) < 0.06, `variance ${squares / n - mean * mean}`)
  })
})

describe('sampleToken', () => {
  const candidates: Candidate[] = [2, 1.5, 1, 0.5, 0, -0.5, -1, -1.5, -2, -2.5, -3, -3.5].map((logit, token) => ({
    token,
    logit,
  }))

  // Tokens come out with the frequencies of the softmax: chi-square over 12 tokens stays below its 99.9 % point, 31.3.
  it('draws from the softmax', () => {
    const n = 60_000
    const settings = samplingSettings({ temperature: 1, seed: 5n })
    const counts = new Array<number>(12).fill(0)
    for (let position = 0; position < n; position++) {
      const token = sampleToken({ candidates, position, settings }) ?? -1
      counts[token] = (counts[token] ?? 0) + 1
    }
    const weights = candidates.map(({ logit }) => Math.exp(logit))
    const total = weights.reduce((a, b) => a + b, 0)
    const chi = weights.reduce((sum, weight, i) => {
      const expected = (n * weight) / total
      return sum + ((counts[i] ?? 0) - expected) ** 2 / expected
    }, 0)
    assert.ok(chi < 31.3, `chi-square ${chi}`)
  })

  // At temperature 0 the largest logit wins, of equals the lowest token, whatever the order of the candidates.
  it('is greedy at temperature 0', () => {
    const settings = samplingSettings({ temperature: 0, seed: 1n })
    const tied = [
      { token: 9, logit: 3 },
      { token: 4, logit: 3 },
      { token: 1, logit: 2 },
    ]
    assert.equal(sampleToken({ candidates: tied, position: 0, settings }), 4)
    assert.equal(sampleToken({ candidates: tied.toReversed(), position: 7, settings }), 4)
  })

  // minP = p keeps exactly the tokens at least p times as likely as the best, at the temperature in force.
  it('never chooses a token that is cut', () => {
    const settings = samplingSettings({ temperature: 2, minP: Math.exp(-0.8), seed: 3n }) // cut: 1.6 logits
    const seen = new Set<number | undefined>()
    for (let position = 0; position < 2000; position++) seen.add(sampleToken({ candidates, position, settings }))
    assert.deepEqual([...seen].sort(), [0, 1, 2, 3])
    assert.equal(samplingSettings({ temperature: 1, seed: 0n }).cutQ16, NO_CUT_Q16)
  })

  // Only the 64 largest logits can be chosen, so 64 suffice for an audit.
  it('chooses among the 64 largest only', () => {
    const flat = Array.from({ length: 100 }, (_, token) => ({ token, logit: -token * 1e-6 }))
    const settings = samplingSettings({ temperature: 1, seed: 8n })
    for (let position = 0; position < 2000; position++) {
      const token = sampleToken({ candidates: flat, position, settings }) ?? -1
      assert.ok(token >= 0 && token < 64, `token ${token}`)
    }
  })

  it('chooses nothing from nothing', () => {
    assert.equal(
      sampleToken({ candidates: [], position: 0, settings: samplingSettings({ temperature: 1, seed: 0n }) }),
      undefined,
    )
  })
})

describe('audit', () => {
  const seed = 77n
  const logitsAt = (position: number): Candidate[] =>
    Array.from({ length: 80 }, (_, token) => ({ token, logit: 4 * Math.sin(token * 12.9898 + position * 78.233) }))

  // A provider that samples as agreed has margin 0 at every token; its wealth of suspicion only falls.
  it('finds nothing against an honest provider', () => {
    const settings = samplingSettings({ temperature: 0.8, minP: 0.02, seed })
    const bet = new AuditBet({ tolerance: 1e-3 })
    for (let position = 0; position < 200; position++) {
      const candidates = logitsAt(position)
      const chosen = sampleToken({ candidates, position, settings }) ?? -1
      const margin = tokenMargin({ candidates, chosen, position, settings })
      assert.equal(margin, 0)
      bet.add(margin)
    }
    assert.ok(bet.logWealth < 0)
  })

  // A provider that samples with another seed is convicted at 10^-6 within a hundred tokens.
  it('convicts a provider that uses other noise', () => {
    const settings = samplingSettings({ temperature: 0.8, seed })
    const other = { ...settings, seed: seed + 1n }
    const bet = new AuditBet({ tolerance: 1e-3 })
    let tokens = 0
    while (bet.logWealth < Math.log(1e6) && tokens < 100) {
      const candidates = logitsAt(tokens)
      const chosen = sampleToken({ candidates, position: tokens, settings: other }) ?? -1
      bet.add(tokenMargin({ candidates, chosen, position: tokens, settings }))
      tokens++
    }
    assert.ok(tokens < 100, `${tokens} tokens`)
  })

  // A token that the reference does not list costs the largest margin.
  it('charges a token out of sight with the clip', () => {
    const settings = samplingSettings({ temperature: 1, seed })
    assert.equal(tokenMargin({ candidates: logitsAt(0), chosen: 500, position: 0, settings, clip: 2 }), 2)
  })
})
