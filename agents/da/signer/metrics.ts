import type { Metrics } from '#kit/metrics.ts'
import type { SignerStatus } from './status.ts'

const GAUGES = {
  epoch_count: 'The epoch as last read',
  chain_applied_blocks: 'Last block applied',
  stake_percent_ratio: 'Part of the epoch’s stake, 0 to 1',
  rows_count: 'Rows of each blob of this epoch',
  held_blobs_count: 'Blobs with rows here',
  held_rows_count: 'Rows here',
  held_bytes: 'Space of the rows',
  held_max_bytes: 'Space allowed',
  damaged_blobs_count: 'Blobs whose rows were found damaged',
  lost_blobs_count: 'Blobs that were signed and whose rows are lost',
  signed_blobs_count: 'Recorded blobs with this signer’s signature',
  missed_blobs_count: 'Recorded blobs without this signer’s signature',
  custody_asked_count: 'Custody requests',
  custody_answered_count: 'Custody requests answered',
  custody_failed_count: 'Custody requests not answered in time',
  samples_paid_count: 'Samples paid for',
  earned_wei: 'Credited for samples and custody answers',
  claimable_wei: 'Earnings to be drawn',
  account_balance_wei: 'Balance of the account that pays for gas',
  uploads_active_count: 'Uploads under way',
  downloads_active_count: 'Answers with rows under way',
} as const

/** Gives a function that shows a status in the metrics. */
export function createSignerMetrics(metrics: Metrics): (status: SignerStatus) => void {
  const gauges = Object.fromEntries(
    Object.entries(GAUGES).map(([name, help]) => [name, metrics.gauge({ name, help })]),
  ) as Record<keyof typeof GAUGES, ReturnType<Metrics['gauge']>>
  return ({ epoch, chain, stake, rows, held, blobs, custody, sampling, earnings, uploads, downloads }) => {
    gauges.epoch_count.set(epoch)
    gauges.chain_applied_blocks.set(chain.block ?? 0)
    gauges.stake_percent_ratio.set(stake.percent / 100)
    gauges.rows_count.set(rows?.count ?? 0)
    gauges.held_blobs_count.set(held.blobs)
    gauges.held_rows_count.set(held.rows)
    gauges.held_bytes.set(held.bytes)
    gauges.held_max_bytes.set(held.maxBytes)
    gauges.damaged_blobs_count.set(held.damaged)
    gauges.lost_blobs_count.set(held.lost)
    gauges.signed_blobs_count.set(blobs.signed)
    gauges.missed_blobs_count.set(blobs.missed)
    gauges.custody_asked_count.set(custody.asked)
    gauges.custody_answered_count.set(custody.answered)
    gauges.custody_failed_count.set(custody.failed)
    gauges.samples_paid_count.set(sampling.rewards)
    gauges.earned_wei.set(Number(BigInt(earnings.samplesWei) + BigInt(earnings.custodyWei)))
    if (earnings.claimableWei !== undefined) gauges.claimable_wei.set(Number(earnings.claimableWei))
    if (earnings.balanceWei !== undefined) gauges.account_balance_wei.set(Number(earnings.balanceWei))
    gauges.uploads_active_count.set(uploads.running)
    gauges.downloads_active_count.set(downloads.running)
  }
}
