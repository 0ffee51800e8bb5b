import type { Metrics } from '#kit/metrics.ts'

/** What the log follower counts. */
export interface FollowerMetrics {
  readonly head: { set(value: number): void }
  readonly applied: { set(value: number): void }
  readonly logs: { inc(value?: number): void }
  readonly reorgs: { inc(): void }
  readonly errors: { inc(): void }
  readonly pageSeconds: { observe(value: number): void }
}

const NONE = { set: () => undefined, inc: () => undefined, observe: () => undefined }

/** The metrics in the agent's registry, or ones that do nothing. */
export function followerMetrics(metrics: Metrics | undefined): FollowerMetrics {
  if (metrics === undefined) {
    return { head: NONE, applied: NONE, logs: NONE, reorgs: NONE, errors: NONE, pageSeconds: NONE }
  }
  return {
    head: metrics.gauge({ name: 'log_sync_head_blocks', help: 'Block number of the chain head as last seen' }),
    applied: metrics.gauge({ name: 'log_sync_applied_blocks', help: 'Block number of the last block applied' }),
    logs: metrics.counter({ name: 'log_sync_logs_total', help: 'Logs applied' }),
    reorgs: metrics.counter({ name: 'log_sync_reorgs_total', help: 'Chain reorganisations taken back' }),
    errors: metrics.counter({ name: 'log_sync_errors_total', help: 'Reads of the chain that failed' }),
    pageSeconds: metrics.histogram({ name: 'log_sync_page_seconds', help: 'Time to fetch and check one page of logs' }),
  }
}
