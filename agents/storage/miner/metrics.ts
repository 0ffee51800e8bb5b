import type { Metrics } from '#kit/metrics.ts'
import type { MinerStatus } from './status.ts'

const GAUGES = {
  mining_threads_active: 'Threads that mine now',
  sealed_chunks: 'Chunks (256 KiB) with sealed data',
  sealable_chunks: 'Chunks of the shard that could be sealed',
  sealing_bytes_per_second: 'Speed of sealing',
  attempts_per_second: 'PoRA attempts per second',
  hashes_per_second: 'Seals hashed per second that could have won',
  expected_hit_seconds: 'Mean time to a hit at the present target and speed; -1 when nothing is mined',
  answers_queued: 'Hits that wait to be sent',
  chain_head_blocks: 'Last block seen',
  earned_wei: 'Credited for accepted answers',
  claimable_wei: 'Rewards that the beneficiary can claim',
  withdrawn_wei: 'Rewards withdrawn by this miner',
  gas_spent_wei: 'Spent on transactions',
  account_balance_wei: 'Balance of the account that pays for gas',
} as const

/** Gives a function that shows a status in the metrics. */
export function createMinerMetrics(metrics: Metrics): (status: MinerStatus) => void {
  const gauges = Object.fromEntries(
    Object.entries(GAUGES).map(([name, help]) => [name, metrics.gauge({ name, help })]),
  ) as Record<keyof typeof GAUGES, ReturnType<Metrics['gauge']>>
  const attempts = metrics.counter({ name: 'attempts_total', help: 'PoRA attempts' })
  const hashes = metrics.counter({ name: 'hashes_total', help: 'Seals hashed that could have won' })
  const hits = metrics.counter({ name: 'hits_total', help: 'Hashes under the target' })
  const answers = metrics.gauge({ name: 'answers_count', help: 'Answers by what became of them', labels: ['outcome'] })
  const refusals = metrics.gauge({ name: 'refusals_count', help: 'Refused answers by reason', labels: ['reason'] })
  let seen = { attempts: 0, hashes: 0, hits: 0 }

  return (status) => {
    const { mining, sealing, money } = status
    attempts.inc(Math.max(0, mining.attempts - seen.attempts))
    hashes.inc(Math.max(0, mining.hashes - seen.hashes))
    hits.inc(Math.max(0, mining.hits - seen.hits))
    seen = { attempts: mining.attempts, hashes: mining.hashes, hits: mining.hits }
    gauges.mining_threads_active.set(status.state === 'mining' ? mining.threads : 0)
    gauges.sealed_chunks.set(sealing.sealedChunks)
    gauges.sealable_chunks.set(sealing.sealableChunks)
    gauges.sealing_bytes_per_second.set(sealing.bytesPerSecond)
    gauges.attempts_per_second.set(mining.attemptsPerSecond)
    gauges.hashes_per_second.set(mining.hashesPerSecond)
    gauges.expected_hit_seconds.set(mining.expectedSecondsToHit ?? -1)
    gauges.answers_queued.set(status.answers.queued)
    gauges.chain_head_blocks.set(status.chain.head)
    gauges.earned_wei.set(Number(money.earnedWei))
    gauges.withdrawn_wei.set(Number(money.withdrawnWei))
    gauges.gas_spent_wei.set(Number(money.gasSpentWei))
    if (money.claimableWei !== undefined) gauges.claimable_wei.set(Number(money.claimableWei))
    if (money.accountBalanceWei !== undefined) gauges.account_balance_wei.set(Number(money.accountBalanceWei))
    for (const outcome of ['accepted', 'refused', 'late', 'invalid', 'failed', 'unknown', 'sent'] as const) {
      answers.set({ outcome }, status.answers[outcome])
    }
    for (const { reason, count } of status.answers.refusals) refusals.set({ reason: reason.slice(0, 60) }, count)
  }
}
