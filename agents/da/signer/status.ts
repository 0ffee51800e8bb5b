import { formatEther } from 'viem'
import type { FollowerStatus } from '#kit/chain/log-follower.ts'
import type { OwnPlace } from './chain/epochs.ts'
import type { Stake } from './chain/membership.ts'
import type { SignerStore } from './store/signer-store.ts'
import type { SamplingCounts } from './work/sampler.ts'

/** What an operator sees: the answer of `/v1/status`. Amounts are wei as decimal text. */
export interface SignerStatus {
  /** `signing`: in this epoch's table; `joining`: from a later epoch on; `outside`: no stake. */
  state: 'signing' | 'joining' | 'outside'
  signer: string
  chainId: number
  entrance: string
  url: string
  epoch: number
  chain: { head: number | undefined; block: number | undefined; confirmations: number; synced: boolean; reorgs: number }
  stake: {
    bondedWei: string | undefined
    unbondingWei: string | undefined
    /** In this epoch's table. */
    countedWei: string
    /** Part of all stake that counts in this epoch, in per cent. */
    percent: number
  }
  /** This epoch's. */
  rows: { first: number; count: number } | undefined
  held: {
    blobs: number
    rows: number
    bytes: number
    maxBytes: number
    damaged: number
    lost: number
    repaired: number
  }
  blobs: {
    submitted: number
    recorded: number
    /** Recorded with this signer's signature. */
    signed: number
    /** Recorded without it, in epochs of whose table it was. */
    missed: number
  }
  custody: { asked: number; answered: number; failed: number; slashedWei: string }
  sampling: SamplingCounts & { rewards: number }
  earnings: { samplesWei: string; custodyWei: string; claimableWei: string | undefined; balanceWei: string | undefined }
  uploads: { running: number; stored: number; refused: number }
  downloads: { running: number }
  problems: string[]
}

export interface DescribeStatusParameters {
  identity: Pick<SignerStatus, 'signer' | 'chainId' | 'entrance' | 'url'>
  epoch: number
  confirmations: number
  follower: Pick<FollowerStatus, 'head' | 'synced' | 'reorgs'>
  store: SignerStore
  place: OwnPlace | undefined
  stake: Stake | undefined
  sampling: SamplingCounts
  maxBytes: number
  lost: number
  repaired: number
  claimableWei: bigint | undefined
  balanceWei: bigint | undefined
  uploads: SignerStatus['uploads']
  downloads: SignerStatus['downloads']
  problems: readonly string[]
}

/** Puts the status together. */
export function describeStatus(parameters: DescribeStatusParameters): SignerStatus {
  const { identity, epoch, follower, store, place, stake, sampling, confirmations, uploads, downloads } = parameters
  const totals = store.totals()
  const custody = store.custody.totals()
  const bonded = stake?.bondedWei ?? 0n
  return {
    state: place !== undefined ? 'signing' : bonded > 0n ? 'joining' : 'outside',
    ...identity,
    epoch,
    chain: {
      head: follower.head,
      block: store.tip()?.number,
      confirmations,
      synced: follower.synced,
      reorgs: follower.reorgs,
    },
    stake: {
      bondedWei: stake?.bondedWei.toString(),
      unbondingWei: stake?.unbondingWei.toString(),
      countedWei: String(place?.stakeWei ?? 0n),
      percent: place === undefined ? 0 : Number((place.stakeWei * 10_000n) / place.totalStakeWei) / 100,
    },
    rows: place === undefined ? undefined : { first: place.firstRow, count: place.rowCount },
    held: {
      ...store.held.totals(),
      maxBytes: parameters.maxBytes,
      damaged: store.held.damagedCount(),
      lost: parameters.lost,
      repaired: parameters.repaired,
    },
    blobs: {
      submitted: totals.submissions,
      recorded: totals.recorded,
      signed: totals.signed,
      missed: totals.missed,
    },
    custody: {
      asked: custody.asked,
      answered: custody.answered,
      failed: custody.failed,
      slashedWei: String(custody.slashedWei),
    },
    sampling: { ...sampling, rewards: totals.rewards },
    earnings: {
      samplesWei: String(totals.earnedWei),
      custodyWei: String(custody.earnedWei),
      claimableWei: parameters.claimableWei?.toString(),
      balanceWei: parameters.balanceWei?.toString(),
    },
    uploads,
    downloads,
    problems: [...parameters.problems],
  }
}

/** One line for the log. */
export function statusLine({ state, epoch, held, blobs, custody, earnings, problems }: SignerStatus): string {
  const earned = BigInt(earnings.samplesWei) + BigInt(earnings.custodyWei)
  return [
    `${state}, epoch ${epoch}`,
    `${held.blobs} blobs (${held.rows} rows, ${mib(held.bytes)})`,
    `signed ${blobs.signed}, missed ${blobs.missed}`,
    `custody ${custody.answered}/${custody.asked}${custody.failed === 0 ? '' : `, ${custody.failed} failed`}`,
    `earned ${formatEther(earned)}`,
    ...problems.slice(0, 2),
  ].join(' | ')
}

/** Everything, for a person. */
export function statusText(status: SignerStatus): string[] {
  const { chain, stake, rows, held, blobs, custody, sampling, earnings, uploads } = status
  const ether = (wei: string | undefined): string => (wei === undefined ? 'not known yet' : formatEther(BigInt(wei)))
  return [
    `state         ${status.state} in epoch ${status.epoch}`,
    `signer        ${status.signer} at ${status.url}`,
    `block         ${chain.block ?? 'none yet'} of ${chain.head ?? '?'}, ${chain.confirmations} on top of a payment${chain.synced ? '' : ', catching up'}`,
    `stake         ${ether(stake.bondedWei)} bonded (${stake.percent} % of this epoch), ${ether(stake.unbondingWei)} unbonding`,
    `rows          ${rows === undefined ? 'none in this epoch' : `${rows.first} to ${rows.first + rows.count - 1} of each blob`}`,
    `held          ${held.blobs} blobs, ${held.rows} rows, ${mib(held.bytes)} of ${mib(held.maxBytes)}`,
    ...(held.damaged + held.lost + held.repaired === 0
      ? []
      : [`lost rows     ${held.damaged} blobs damaged, ${held.lost} to be fetched, ${held.repaired} fetched`]),
    `blobs         ${blobs.submitted} paid, ${blobs.signed} confirmed with this signature, ${blobs.missed} without`,
    `custody       ${custody.asked} asked, ${custody.answered} answered, ${custody.failed} failed (lost ${ether(custody.slashedWei)})`,
    `sampling      ${sampling.rounds} rounds, ${sampling.wins} wins, ${sampling.rewards} paid`,
    `earned        ${ether(earnings.samplesWei)} by samples, ${ether(earnings.custodyWei)} by custody`,
    `claimable     ${ether(earnings.claimableWei)}`,
    `balance       ${ether(earnings.balanceWei)} for gas`,
    `uploads       ${uploads.stored} stored, ${uploads.refused} refused, ${uploads.running} running`,
    ...status.problems.map((problem) => `problem       ${problem}`),
  ]
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`
}
