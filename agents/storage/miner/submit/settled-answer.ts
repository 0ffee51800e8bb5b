import { parseEventLogs, type TransactionReceipt } from 'viem'
import { storageRewardAbi } from '#protocol/abi/storage-reward.ts'
import type { Hash } from '#protocol/hex.ts'
import { gasCostWei, type MineContracts } from '../chain/mine-contracts.ts'
import type { AnswerResult } from './answer-log.ts'

export interface SettledAnswerParameters {
  receipt: TransactionReceipt
  contracts: Pick<MineContracts, 'reward'>
  minerId: Hash
}

/** What became of an answer, by the receipt of its transaction: credited or refused, in which block, for how much. */
export function settledAnswer({ receipt, contracts, minerId }: SettledAnswerParameters): AnswerResult {
  const gasWei = gasCostWei(receipt)
  const place = { block: Number(receipt.blockNumber), blockHash: receipt.blockHash }
  if (receipt.status !== 'success') return { outcome: 'refused', reason: 'reverted in the block', ...place, gasWei }
  let rewardWei = 0n
  const events = parseEventLogs({ abi: storageRewardAbi, eventName: 'DistributeReward', logs: receipt.logs })
  for (const { address, args } of events) {
    const ours = address.toLowerCase() === contracts.reward.toLowerCase() && args.minerId === minerId
    if (ours) rewardWei += args.amount
  }
  return { outcome: 'accepted', ...place, rewardWei, gasWei }
}
