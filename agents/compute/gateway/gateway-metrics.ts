import type { Metrics } from '#kit/metrics.ts'

/** How a request ended. */
export type GatewayOutcome = 'verified' | 'unverified' | 'failed' | 'cancelled'

/** What the gateway counts. */
export interface GatewayMetrics {
  ended(outcome: GatewayOutcome): void
  failedOver(): void
  firstToken(ms: number): void
  spent(feeWei: bigint): void
  /** Tells how many requests are under way, when asked. */
  running(read: () => number): void
}

export function createGatewayMetrics(metrics: Metrics): GatewayMetrics {
  const requests = metrics.counter({
    name: 'requests_total',
    help: 'Requests ended, by how: with a verified answer, an unverified one, without one, or given up by the client',
    labels: ['outcome'],
  })
  const failOvers = metrics.counter({ name: 'fail_overs_total', help: 'Providers that failed before the first token' })
  const firstToken = metrics.histogram({
    name: 'first_token_seconds',
    help: 'From a request to its first token, fail-overs included',
  })
  // A double holds wei exactly up to 2^53; beyond, the sum is right to 16 digits.
  const spent = metrics.counter({ name: 'spent_wei_total', help: 'Fees of the receipts received' })
  let read = () => 0
  const gauge = metrics.gauge({ name: 'running_requests', help: 'Requests under way' })
  Object.assign(gauge, { collect: () => gauge.set(read()) })
  return {
    ended: (outcome) => requests.inc({ outcome }),
    failedOver: () => failOvers.inc(),
    firstToken: (ms) => firstToken.observe(ms / 1_000),
    spent: (feeWei) => spent.inc(Number(feeWei)),
    running: (reader) => {
      read = reader
    },
  }
}
