import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RequestLimits } from '#compute/provider/admit/limits.ts'
import { ProviderError } from '#compute/provider/error.ts'

function open(overrides: Partial<ConstructorParameters<typeof RequestLimits>[0]> = {}) {
  const clock = { ms: 1_000_000 }
  const parameters = { requestsPerMinute: 60, burst: 3, concurrentPerUser: 10, concurrent: 20, now: () => clock.ms }
  return { clock, limits: new RequestLimits({ ...parameters, ...overrides }) }
}

function refusal(work: () => unknown): ProviderError {
  try {
    work()
  } catch (error) {
    assert.ok(error instanceof ProviderError)
    return error
  }
  throw new Error('it was let in')
}

// A user may send its burst at once and then one request for each 1/rate; other users are not affected.
test('lets a burst in, then as many as the rate allows', () => {
  const { clock, limits } = open()
  const [first] = [limits.take('a'), limits.take('a'), limits.take('a')]
  assert.equal(first?.headers['x-ratelimit-limit-requests'], '60')
  assert.equal(limits.headers('a')['x-ratelimit-remaining-requests'], '0')
  const refused = refusal(() => limits.take('a'))
  assert.deepEqual([refused.statusCode, refused.code, refused.retryAfterS], [429, 'rate_limit_exceeded', 1])
  limits.take('b')
  clock.ms += 1_000
  limits.take('a')
  assert.equal(refusal(() => limits.take('a')).statusCode, 429)
})

// A place is given back once, however often its request says that it ended.
test('counts requests under way, per user and in all', () => {
  const { limits } = open({ burst: 100, concurrentPerUser: 2, concurrent: 3 })
  const places = [limits.take('a'), limits.take('a')]
  assert.equal(refusal(() => limits.take('a')).code, 'too_many_concurrent_requests')
  limits.take('b')
  const full = refusal(() => limits.take('c'))
  assert.deepEqual([full.statusCode, full.code], [503, 'provider_busy'])
  places[0]?.release()
  places[0]?.release()
  assert.equal(limits.running, 2)
  limits.take('c')
})

test('a clock that is set back takes nothing away', () => {
  const { clock, limits } = open()
  limits.take('a')
  clock.ms -= 3_600_000
  limits.take('a')
  limits.take('a')
  assert.equal(refusal(() => limits.take('a')).statusCode, 429)
})
