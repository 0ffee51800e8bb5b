import { type Address, parseEventLogs } from 'viem'
import type { TransactionSender } from '#kit/chain/sender.ts'
import type { Logger } from '#kit/log.ts'
import { storageRewardAbi } from '#protocol/abi/storage-reward.ts'
import type { MineContracts } from './chain/mine-contracts.ts'
import { recordGas } from './chain/miner-id.ts'
import { pause } from './chain/watcher.ts'
import type { MinerStore } from './store/miner-store.ts'
import type { AnswerLog } from './submit/answer-log.ts'

export interface RewardKeeperParameters {
  contracts: MineContracts
  sender: TransactionSender
  store: MinerStore
  answers: AnswerLog
  beneficiary: Address
  withdrawAboveWei?: bigint | undefined
  checkIntervalMs: number
  log: Logger
  signal: AbortSignal
}

/** Watches what can be claimed, and draws it once it is worth a transaction. */
export class RewardKeeper {
  readonly #parameters: RewardKeeperParameters
  claimableWei: bigint | undefined
  /** Of the account that pays for gas. */
  balanceWei: bigint | undefined

  constructor(parameters: RewardKeeperParameters) {
    this.#parameters = parameters
  }

  /** Looks until the signal aborts. Never rejects. */
  async run(): Promise<void> {
    const { checkIntervalMs, signal, log } = this.#parameters
    while (!signal.aborted) {
      try {
        await this.look()
      } catch (error) {
        if (!signal.aborted) log.warn({ err: error }, 'the rewards could not be looked at')
      }
      await pause(checkIntervalMs, signal)
    }
  }

  /** Looks once, and withdraws what is above the threshold. */
  async look(): Promise<void> {
    const { contracts, beneficiary, sender, withdrawAboveWei } = this.#parameters
    const [claimable, balance] = await Promise.all([
      contracts.payments(beneficiary),
      contracts.balanceWei(sender.address),
    ])
    this.claimableWei = claimable
    this.balanceWei = balance
    const due = withdrawAboveWei !== undefined && claimable > 0n && claimable >= withdrawAboveWei
    if (!due) return
    const amountWei = await withdraw({ ...this.#parameters })
    this.claimableWei = claimable > amountWei ? claimable - amountWei : 0n
  }
}

/**
 * Pays the beneficiary all it can claim; anyone may send this.
 *
 * @throws ContractRevertError when nothing is due or the beneficiary refuses; chain errors
 */
export async function withdraw(
  parameters: Pick<RewardKeeperParameters, 'contracts' | 'sender' | 'beneficiary' | 'log'> &
    Partial<Pick<RewardKeeperParameters, 'store' | 'answers' | 'signal'>>,
): Promise<bigint> {
  const { contracts, sender, beneficiary, store, answers, log, signal } = parameters
  const request = { to: contracts.reward, data: contracts.withdrawData(beneficiary), abi: storageRewardAbi }
  const receipt = await sender.send(request, signal === undefined ? {} : { signal })
  const events = parseEventLogs({ abi: storageRewardAbi, eventName: 'Withdrawn', logs: receipt.logs })
  const amountWei = events.reduce((sum, { args }) => sum + args.weiAmount, 0n)
  if (store) recordGas(store, 'withdrawal', receipt, amountWei)
  answers?.changed()
  log.info({ beneficiary, amountWei: String(amountWei), tx: receipt.transactionHash }, 'rewards withdrawn')
  return amountWei
}
