import { encodeFunctionData, type LocalAccount } from 'viem'
import { type Chain, connectChain } from '#kit/chain/client.ts'
import { createSender, type TransactionSender } from '#kit/chain/sender.ts'
import { fineTuningServingAbi } from '#protocol/abi/fine-tuning-serving.ts'
import { ledgerManagerAbi } from '#protocol/abi/ledger-manager.ts'
import type { Hex } from '#protocol/hex.ts'
import { FineTuningReader, revertName } from '../chain/fine-tuning-chain.ts'
import { FineTuningError } from '../error.ts'

/** A provider on offer. */
export interface OfferedService {
  provider: Hex
  url: string
  pricePerTokenWei: bigint
  models: readonly string[]
  signer: Hex
}

/** A user's account at the ledger and at fine-tuning providers. */
export class FineTuningWallet implements AsyncDisposable {
  readonly chain: Chain
  readonly account: LocalAccount
  readonly contract: Hex
  readonly #sender: TransactionSender

  private constructor(parts: { chain: Chain; account: LocalAccount; contract: Hex; sender: TransactionSender }) {
    this.chain = parts.chain
    this.account = parts.account
    this.contract = parts.contract
    this.#sender = parts.sender
  }

  static async open(parameters: { rpcUrls: readonly string[]; contract: Hex; account: LocalAccount }) {
    const { rpcUrls, contract, account } = parameters
    const chain = await connectChain({ rpcUrls })
    const abi = [...fineTuningServingAbi, ...ledgerManagerAbi]
    return new FineTuningWallet({ chain, account, contract, sender: createSender({ chain, account, abi }) })
  }

  reader(provider: Hex): FineTuningReader {
    return new FineTuningReader({ chain: this.chain, contract: this.contract, provider })
  }

  /** Providers whose signers are approved. */
  async services(): Promise<OfferedService[]> {
    const call = { address: this.contract, abi: fineTuningServingAbi, functionName: 'getAllServices' } as const
    const all = await this.chain.client.readContract(call)
    return all
      .filter(({ teeSignerAcknowledged }) => teeSignerAcknowledged)
      .map(({ provider, url, pricePerToken, models, teeSignerAddress }) => ({
        ...{ provider: provider.toLowerCase() as Hex, url, pricePerTokenWei: pricePerToken, models },
        signer: teeSignerAddress.toLowerCase() as Hex,
      }))
  }

  /** What must be deposited and transferred so that `feeWei` is free at a provider. */
  async shortfall({ provider, feeWei }: { provider: Hex; feeWei: bigint }) {
    const { client } = this.chain
    const ledger = await this.#ledger()
    const at = { address: ledger, abi: ledgerManagerAbi } as const
    const [account, minimumWei, minimumDepositWei, availableWei] = await Promise.all([
      this.reader(provider).account(this.account.address),
      client.readContract({ ...at, functionName: 'MIN_TRANSFER_AMOUNT' }),
      client.readContract({ ...at, functionName: 'MIN_ACCOUNT_BALANCE' }),
      this.#available(ledger),
    ])
    const missingWei = feeWei - (account?.freeWei ?? 0n)
    if (missingWei <= 0n) return { transferWei: 0n, depositWei: 0n, acknowledged: account?.acknowledged ?? false }
    const transferWei = account === undefined && missingWei < minimumWei ? minimumWei : missingWei
    const lackingWei = transferWei - (availableWei ?? 0n)
    const isFirst = availableWei === undefined && lackingWei < minimumDepositWei
    const depositWei = lackingWei <= 0n ? 0n : isFirst ? minimumDepositWei : lackingWei
    return { transferWei, depositWei, acknowledged: account?.acknowledged ?? false }
  }

  /** Deposits and transfers what is missing, and acknowledges the provider's signer. May be repeated. */
  async fund({ provider, feeWei }: { provider: Hex; feeWei: bigint }): Promise<void> {
    const ledger = await this.#ledger()
    const { transferWei, depositWei, acknowledged } = await this.shortfall({ provider, feeWei })
    if (depositWei > 0n) {
      const data = encodeFunctionData({ abi: ledgerManagerAbi, functionName: 'depositFund' })
      await this.#sender.send({ to: ledger, data, valueWei: depositWei })
    }
    if (transferWei > 0n) {
      const call = { address: ledger, abi: ledgerManagerAbi, functionName: 'getServiceInfo' } as const
      const { fullName } = await this.chain.client.readContract({ ...call, args: [this.contract] })
      const args = [provider, fullName, transferWei] as const
      const data = encodeFunctionData({ abi: ledgerManagerAbi, functionName: 'transferFund', args })
      await this.#sender.send({ to: ledger, data })
    }
    if (acknowledged) return
    const args = [provider, true] as const
    const data = encodeFunctionData({ abi: fineTuningServingAbi, functionName: 'acknowledgeTEESigner', args })
    await this.#sender.send({ to: this.contract, data })
  }

  async acknowledge({ provider, id }: { provider: Hex; id: string }): Promise<void> {
    const deliverable = await this.reader(provider).deliverable(this.account.address, id)
    if (deliverable?.acknowledged === true) return
    if (deliverable?.settled === true) {
      throw new FineTuningError({
        ...{
          code: 'SETTLED_UNPAID',
          message: 'the provider has settled this task without its key: it was acknowledged late',
        },
        fix: 'create the task again, and acknowledge in time',
      })
    }
    const data = encodeFunctionData({
      ...{ abi: fineTuningServingAbi, functionName: 'acknowledgeDeliverable', args: [provider, id] },
    })
    await this.#sender.send({ to: this.contract, data })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sender.close()
    this.chain.close()
  }

  async #ledger(): Promise<Hex> {
    const call = { address: this.contract, abi: fineTuningServingAbi, functionName: 'ledgerAddress' } as const
    return await this.chain.client.readContract(call)
  }

  /** Undefined before the first deposit. */
  async #available(ledger: Hex): Promise<bigint | undefined> {
    try {
      const call = { address: ledger, abi: ledgerManagerAbi, functionName: 'getLedger' } as const
      return (await this.chain.client.readContract({ ...call, args: [this.account.address] })).availableBalance
    } catch (error) {
      if (revertName(error) === 'LedgerNotExists') return undefined
      throw error
    }
  }
}
