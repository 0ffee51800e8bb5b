import type { Metrics } from '#kit/metrics.ts'
import type { TokenUsage } from '#protocol/compute/fees.ts'

/** What a provider counts. */
export interface ProviderMetrics {
  /** The first byte of an answer left; `arrivedAt` is when its request had arrived (`performance.now()`). */
  firstToken(arrivedAt: number): void
  ended(kind: string, outcome: string, usage: TokenUsage): void
  refused(code: string): void
  settled(outcome: string, users: number): void
}

/** Codes counted by name; the rest are `other`. */
const REFUSALS = new Set([
  ...['invalid_session_token', 'session_token_expired', 'session_token_revoked', 'invalid_voucher', 'voucher_expired'],
  ...['voucher_insufficient', 'insufficient_balance', 'account_missing', 'rate_limit_exceeded', 'provider_busy'],
  ...['too_many_concurrent_requests', 'chain_unavailable', 'model_not_found', 'context_length_exceeded'],
  ...['invalid_adapter', 'adapter_too_large', 'adapter_unavailable', 'adapters_busy', 'adapter_fetch_limit'],
  ...['invalid_request', 'invalid_json', 'upstream_error', 'engine_timeout', 'engine_crashed', 'engine_busy'],
])

/** Opens the provider's metrics. */
export function createProviderMetrics(metrics: Metrics, read: { running: () => number }): ProviderMetrics {
  const first = metrics.histogram({ name: 'first_token_seconds', help: 'From a whole request to its first token' })
  const requests = metrics.counter({
    ...{ name: 'requests_total', help: 'Requests that were admitted, by how they ended' },
    labels: ['kind', 'outcome'],
  })
  const tokens = metrics.counter({ name: 'tokens_total', help: 'Tokens billed', labels: ['direction'] })
  const refusals = metrics.counter({ name: 'refusals_total', help: 'Requests refused', labels: ['code'] })
  const settlements = metrics.counter({
    ...{ name: 'settled_items_total', help: 'Settlement items by what the contract said' },
    labels: ['outcome'],
  })
  const running = metrics.gauge({ name: 'running_requests', help: 'Requests under way' })
  const collect = running as unknown as { collect: () => void }
  collect.collect = () => running.set(read.running())
  return {
    firstToken: (arrivedAt) => first.observe((performance.now() - arrivedAt) / 1000),
    ended(kind, outcome, { promptTokens, completionTokens }) {
      requests.inc({ kind, outcome })
      if (promptTokens > 0) tokens.inc({ direction: 'prompt' }, promptTokens)
      if (completionTokens > 0) tokens.inc({ direction: 'completion' }, completionTokens)
    },
    refused: (code) => refusals.inc({ code: REFUSALS.has(code) ? code : 'other' }),
    settled: (outcome, users) => settlements.inc({ outcome }, users),
  }
}
