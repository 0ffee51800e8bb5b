import { formatEther } from 'viem'
import type { Hash } from '#protocol/hex.ts'
import type { MiningCounts } from './mine/mining-task.ts'
import { hashesPerHit } from './puzzle.ts'
import type { SealingStatus } from './seal/sealer.ts'
import type { AnswerTotals, Outcome } from './submit/answer-log.ts'

/** What an operator sees: the answer of `/v1/status`. Amounts are wei as decimal text. */
export interface MinerStatus {
  /** `mining`; `sealing` while there is nothing to mine yet; `waiting` for what `reason` says. */
  state: 'mining' | 'sealing' | 'waiting'
  reason: string | undefined
  minerId: Hash
  account: string
  beneficiary: string
  shard: string
  chain: { head: number; problem: string | undefined }
  epoch:
    | {
        number: number
        digest: Hash
        flowSectors: number
        windowFrom: number | undefined
        windowTo: number | undefined
      }
    | undefined
  sealing: {
    sealedChunks: number
    sealableChunks: number
    bytesPerSecond: number
    secondsLeft: number | undefined
    /** Chunks that no storage node had anything of: files that were paid for and never uploaded, most often. */
    missingChunks: number
    problem: string | undefined
  }
  mining: {
    attemptsPerSecond: number
    hashesPerSecond: number
    /** Mean time to a hit at the present target and speed; absent while nothing is mined. */
    expectedSecondsToHit: number | undefined
    target: Hash | undefined
    attempts: number
    hashes: number
    hits: number
    /** Attempts that recalled data which is not sealed here. */
    unsealed: number
    outOfRange: number
    threads: number
  }
  answers: Record<Outcome, number> & {
    queued: number
    dropped: number
    refusals: { reason: string; count: number }[]
    lastRefusal: { reason: string; atMs: number } | undefined
  }
  money: {
    earnedWei: string
    claimableWei: string | undefined
    withdrawnWei: string
    gasSpentWei: string
    accountBalanceWei: string | undefined
  }
  nodes: { url: string; error: string }[]
}

export interface DescribeStatusParameters {
  identity: Pick<MinerStatus, 'minerId' | 'account' | 'beneficiary' | 'shard'>
  chain: MinerStatus['chain']
  epoch: MinerStatus['epoch']
  sealing: SealingStatus & { bytesPerSecond: number }
  counts: MiningCounts
  rates: { attemptsPerSecond: number; hashesPerSecond: number }
  mining: { active: boolean; target: bigint | undefined; threads: number }
  waiting: string | undefined
  totals: AnswerTotals
  queue: { queued: number; dropped: number; lastRefusal: { reason: string; atMs: number } | undefined }
  money: { claimableWei: bigint | undefined; balanceWei: bigint | undefined }
  nodes: MinerStatus['nodes']
}

const CHUNK_BYTES = 262_144

/** Puts together what the parts know. */
export function describeStatus(parameters: DescribeStatusParameters): MinerStatus {
  const { identity, chain, epoch, sealing, counts, rates, mining, waiting, totals, queue, money, nodes } = parameters
  const left = Math.max(0, sealing.sealable - sealing.sealed)
  const sealingNow = left > 0 && sealing.bytesPerSecond > 0
  const state = mining.active ? 'mining' : sealingNow ? 'sealing' : 'waiting'
  const { attempts, hashes, hits, unsealed, outOfRange } = counts
  const expected = mining.target === undefined ? undefined : hashesPerHit(mining.target) / rates.hashesPerSecond
  return {
    state,
    reason: state === 'mining' ? undefined : (waiting ?? (sealingNow ? undefined : sealing.problem)),
    ...identity,
    chain,
    epoch,
    sealing: {
      sealedChunks: sealing.sealed,
      sealableChunks: sealing.sealable,
      bytesPerSecond: Math.round(sealing.bytesPerSecond),
      secondsLeft: sealingNow ? Math.ceil((left * CHUNK_BYTES) / sealing.bytesPerSecond) : undefined,
      missingChunks: sealing.missing,
      problem: sealing.problem,
    },
    mining: {
      attemptsPerSecond: round(rates.attemptsPerSecond),
      hashesPerSecond: round(rates.hashesPerSecond),
      expectedSecondsToHit:
        mining.active && expected !== undefined && Number.isFinite(expected) ? round(expected) : undefined,
      target: mining.target === undefined ? undefined : `0x${mining.target.toString(16).padStart(64, '0')}`,
      attempts,
      hashes,
      hits,
      unsealed,
      outOfRange,
      threads: mining.threads,
    },
    answers: { ...totals.outcomes, ...queue, refusals: totals.refusals },
    money: {
      earnedWei: String(totals.earnedWei),
      claimableWei: money.claimableWei?.toString(),
      withdrawnWei: String(totals.withdrawnWei),
      gasSpentWei: String(totals.gasWei),
      accountBalanceWei: money.balanceWei?.toString(),
    },
    nodes,
  }
}

/** One line for the log and the terminal. */
export function statusLine({ state, reason, epoch, sealing, mining, answers, money }: MinerStatus): string {
  const doing = [
    state === 'mining' ? `mining epoch ${epoch?.number}` : state,
    ...(reason === undefined ? [] : [reason]),
    `sealed ${sealing.sealedChunks}/${sealing.sealableChunks} chunks${left(sealing.secondsLeft)}`,
  ]
  if (state === 'mining') {
    doing.push(`${whole(mining.attemptsPerSecond)} attempts/s, ${whole(mining.hashesPerSecond)} hashes/s`)
    if (mining.expectedSecondsToHit !== undefined) doing.push(`a hit every ${duration(mining.expectedSecondsToHit)}`)
  }
  doing.push(`hits ${mining.hits}, accepted ${answers.accepted}, refused ${answers.refused}`)
  const claimable = money.claimableWei === undefined ? '?' : formatEther(BigInt(money.claimableWei))
  doing.push(
    `earned ${formatEther(BigInt(money.earnedWei))}, claimable ${claimable}, gas ${formatEther(BigInt(money.gasSpentWei))}`,
  )
  return doing.join(' | ')
}

/** Everything, for a person. */
export function statusText(status: MinerStatus): string[] {
  const { epoch, sealing, mining, answers, money, nodes } = status
  const ether = (wei: string | undefined): string => (wei === undefined ? 'not known yet' : formatEther(BigInt(wei)))
  return [
    `state         ${status.state}${status.reason === undefined ? '' : `: ${status.reason}`}`,
    `miner id      ${status.minerId}`,
    `pays gas      ${status.account} (balance ${ether(money.accountBalanceWei)})`,
    `earns         ${status.beneficiary}`,
    `shard         ${status.shard}`,
    `block         ${status.chain.head}${status.chain.problem === undefined ? '' : ` (${status.chain.problem})`}`,
    ...(epoch === undefined
      ? []
      : [`epoch         ${epoch.number}, window after block ${epoch.windowFrom ?? '?'} to ${epoch.windowTo ?? '?'}`]),
    `sealed        ${sealing.sealedChunks} of ${sealing.sealableChunks} chunks${left(sealing.secondsLeft)}${
      sealing.missingChunks === 0 ? '' : `, ${sealing.missingChunks} not held by the nodes`
    }`,
    ...(sealing.problem === undefined ? [] : [`sealing stops ${sealing.problem}`]),
    `speed         ${whole(mining.attemptsPerSecond)} attempts/s, ${whole(mining.hashesPerSecond)} hashes/s`,
    `next hit      ${mining.expectedSecondsToHit === undefined ? 'not expected now' : `in about ${duration(mining.expectedSecondsToHit)}`}`,
    `hits          ${mining.hits} since the start`,
    `answers       ${answers.accepted} accepted, ${answers.refused} refused, ${answers.late} late, ${answers.sent} on their way`,
    ...answers.refusals.map(({ reason, count }) => `  refused     ${count} × ${reason}`),
    `earned        ${ether(money.earnedWei)}`,
    `claimable     ${ether(money.claimableWei)}`,
    `withdrawn     ${ether(money.withdrawnWei)}`,
    `gas spent     ${ether(money.gasSpentWei)}`,
    ...nodes.map(({ url, error }) => `node problem  ${url}: ${error}`),
  ]
}

function left(seconds: number | undefined): string {
  return seconds === undefined ? '' : ` (${duration(seconds)} left)`
}

function duration(seconds: number): string {
  if (seconds < 120) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`
  return seconds < 172_800 ? `${Math.round(seconds / 3_600)} h` : `${Math.round(seconds / 86_400)} d`
}

function whole(value: number): string {
  return Math.round(value).toLocaleString('en')
}

function round(value: number): number {
  return Math.round(value * 1_000) / 1_000
}
