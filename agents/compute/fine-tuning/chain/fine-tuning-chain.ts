import { encodeFunctionData, type LocalAccount } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { ContractRevertError, type TransactionSender } from '#kit/chain/sender.ts'
import { fineTuningServingAbi } from '#protocol/abi/fine-tuning-serving.ts'
import { taskBookAbi } from '#protocol/abi/task-book.ts'
import { fineTuningSettlementDigest } from '#protocol/compute/settlement.ts'
import type { Hash, Hex } from '#protocol/hex.ts'

/** A user's sub-account. */
export interface FineTuningAccountState {
  acknowledged: boolean
  nonce: bigint
  balanceWei: bigint
  /** Neither pending as a refund nor held for a task. */
  freeWei: bigint
  /** From when on the user pays only what it signed terms for, in seconds since 1970; 0: at no time. */
  signedOnlyFromS: bigint
}

export interface ServiceState {
  url: string
  pricePerTokenWei: bigint
  signer: Hex
  acknowledged: boolean
  models: readonly string[]
}

export interface DeliverableState {
  modelRootHash: Hex
  encryptedSecret: Hex
  acknowledged: boolean
  settled: boolean
  timestampS: number
}

/** What reads of the contracts stand on. */
export interface ChainReaderParameters {
  chain: Chain
  contract: Hex
  provider: Hex
}

/** Reads of FineTuningServing about one provider; undefined where the contract has none. */
export class FineTuningReader {
  readonly chain: Chain
  readonly contract: Hex
  readonly provider: Hex
  #taskBook: Promise<Hex> | undefined

  constructor({ chain, contract, provider }: ChainReaderParameters) {
    this.chain = chain
    this.contract = contract
    this.provider = provider
  }

  async account(user: Hex): Promise<FineTuningAccountState | undefined> {
    const call = { address: this.contract, abi: fineTuningServingAbi, args: [user, this.provider] } as const
    const account = await this.chain.client
      .readContract({ ...call, functionName: 'getAccount' })
      .catch((error: unknown) => missing(error, 'AccountNotExists'))
    if (account === undefined) return undefined
    const [freeWei, signedOnlyFromS] = await Promise.all([
      this.chain.client.readContract({ ...call, functionName: 'freeBalance' }),
      this.chain.client.readContract({ ...call, functionName: 'signedChargesOnlyFrom' }),
    ])
    const { acknowledged, nonce, balance } = account
    return { acknowledged, nonce, balanceWei: balance, freeWei, signedOnlyFromS }
  }

  async service(): Promise<ServiceState | undefined> {
    const service = await this.chain.client
      .readContract({
        ...{ address: this.contract, abi: fineTuningServingAbi, functionName: 'getService' },
        args: [this.provider],
      })
      .catch((error: unknown) => missing(error, 'ServiceNotExist'))
    if (service === undefined) return undefined
    const { url, pricePerToken, teeSignerAddress, teeSignerAcknowledged, models } = service
    const signer = teeSignerAddress.toLowerCase() as Hex
    return { url, pricePerTokenWei: pricePerToken, signer, acknowledged: teeSignerAcknowledged, models }
  }

  async deliverable(user: Hex, id: string): Promise<DeliverableState | undefined> {
    const found = await this.chain.client
      .readContract({
        ...{ address: this.contract, abi: fineTuningServingAbi, functionName: 'getDeliverable' },
        args: [user, this.provider, id],
      })
      .catch((error: unknown) => missing(error, 'DeliverableNotExists', 'AccountNotExists'))
    if (found === undefined) return undefined
    const { modelRootHash, encryptedSecret, acknowledged, settled, timestamp } = found
    return { modelRootHash, encryptedSecret, acknowledged, settled, timestampS: Number(timestamp) }
  }

  async deliverableCount(user: Hex): Promise<number> {
    const list = await this.chain.client.readContract({
      ...{ address: this.contract, abi: fineTuningServingAbi, functionName: 'getDeliverables' },
      args: [user, this.provider],
    })
    return list.length
  }

  async lockTimeS(): Promise<number> {
    const call = { address: this.contract, abi: fineTuningServingAbi, functionName: 'lockTime' } as const
    return Number(await this.chain.client.readContract(call))
  }

  taskBook(): Promise<Hex> {
    this.#taskBook ??= this.chain.client
      .readContract({ address: this.contract, abi: fineTuningServingAbi, functionName: 'taskBook' })
      .catch((error: unknown) => {
        this.#taskBook = undefined
        throw error
      })
    return this.#taskBook
  }

  /** Terms of a task as opened; `maxFeeWei` 0 where they were not. */
  async terms(user: Hex, id: string): Promise<{ maxFeeWei: bigint; heldWei: bigint; deliverByS: number }> {
    const [maxFeeWei, heldWei, deliverByS] = await this.chain.client.readContract({
      ...{ address: await this.taskBook(), abi: taskBookAbi, functionName: 'taskOf' },
      args: [user, this.provider, id],
    })
    return { maxFeeWei, heldWei, deliverByS: Number(deliverByS) }
  }

  /** Time of the latest block, in seconds. */
  async nowS(): Promise<number> {
    const { timestamp } = await this.chain.client.getBlock()
    return Number(timestamp)
  }
}

/** The provider's transactions. Each may be repeated: it looks whether its effect is there already. */
export class FineTuningChain extends FineTuningReader {
  readonly #sender: TransactionSender
  readonly #signer: LocalAccount

  constructor(parameters: ChainReaderParameters & { sender: TransactionSender; signer: LocalAccount }) {
    super(parameters)
    this.#sender = parameters.sender
    this.#signer = parameters.signer
  }

  /** Opens a task on the user's terms: the highest fee is held from now on. */
  async openTask(task: {
    user: Hex
    id: string
    maxFeeWei: bigint
    deliverByS: number
    signature: Hex
  }): Promise<void> {
    const { user, id, maxFeeWei, deliverByS, signature } = task
    if ((await this.terms(user, id)).maxFeeWei > 0n) return
    const data = encodeFunctionData({
      ...{ abi: taskBookAbi, functionName: 'openTask' },
      args: [{ user, id, maxFee: maxFeeWei, deliverBy: BigInt(deliverByS) }, signature],
    })
    await this.#sender.send({ to: await this.taskBook(), data, abi: taskBookAbi })
  }

  /** Returns what is held for a task past its time. */
  async expireTask({ user, id }: { user: Hex; id: string }): Promise<void> {
    if ((await this.terms(user, id)).heldWei === 0n) return
    const args = [user, this.provider, id] as const
    const data = encodeFunctionData({ abi: taskBookAbi, functionName: 'expireTask', args })
    await this.#sender.send({ to: await this.taskBook(), data, abi: taskBookAbi })
  }

  async addDeliverable({ user, id, root }: { user: Hex; id: string; root: Hash }): Promise<void> {
    if ((await this.deliverable(user, id)) !== undefined) return
    const args = [user, id, root] as const
    const data = encodeFunctionData({ abi: fineTuningServingAbi, functionName: 'addDeliverable', args })
    await this.#sender.send({ to: this.contract, data })
  }

  /** Gives up the fee of a deliverable. */
  async abandon({ user, id }: { user: Hex; id: string }): Promise<void> {
    const args = [user, id] as const
    const data = encodeFunctionData({ abi: fineTuningServingAbi, functionName: 'abandonDeliverable', args })
    await this.#sender.send({ to: this.contract, data })
  }

  /** Settles a deliverable: with the key where the user acknowledged it, without where it did not. */
  async settle(charge: {
    user: Hex
    id: string
    root: Hex
    encryptedSecret: Hex
    nonce: bigint
    feeWei: bigint
  }): Promise<void> {
    const { user, id, root, encryptedSecret, nonce, feeWei } = charge
    const settlement = { id, encryptedSecret, modelRootHash: root, nonce, taskFeeWei: feeWei, user }
    const digest = fineTuningSettlementDigest({ chainId: this.chain.id, contract: this.contract, settlement })
    const signature = (await this.#signer.sign?.({ hash: digest })) ?? '0x'
    const input = { id, encryptedSecret, modelRootHash: root, nonce, signature, taskFee: feeWei, user }
    const data = encodeFunctionData({ abi: fineTuningServingAbi, functionName: 'settleFees', args: [input] })
    await this.#sender.send({ to: this.contract, data })
  }
}

/** The contract's own error in whatever was thrown: its name, or undefined. */
export function revertName(error: unknown): string | undefined {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 8; cause = cause.cause, depth += 1) {
    if (cause instanceof ContractRevertError && cause.errorName !== undefined) return cause.errorName
    const data: unknown = Reflect.get(cause, 'data')
    const name: unknown = typeof data === 'object' && data !== null ? Reflect.get(data, 'errorName') : undefined
    if (typeof name === 'string') return name
  }
  return undefined
}

/** Undefined for the contract's own "there is none"; everything else is thrown on. */
function missing(error: unknown, ...names: readonly string[]): undefined {
  const name = revertName(error)
  if (name !== undefined && names.includes(name)) return undefined
  throw error
}
