import { type Address, encodeFunctionData, type TransactionReceipt } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { ContractRevertError } from '#kit/chain/sender.ts'
import { flowAbi } from '#protocol/abi/flow.ts'
import { poraMineAbi } from '#protocol/abi/pora-mine.ts'
import { storageRewardAbi } from '#protocol/abi/storage-reward.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import type { MineContext, SubtaskSettings, WorkerContext } from '../puzzle.ts'
import type { RecordedEpoch } from '../store/miner-store.ts'
import type { PoraAnswer } from '../submit/answer.ts'
import { ethCall } from './eth-call.ts'

/** What the contract takes for a caller of `computeWorkerContext` (storage-contracts §5.5). */
const WORKER_CALLER: Address = '0x000000000000000000000000000000000000000A'

/** The version of the rules this miner knows. */
export const PORA_VERSION = 1n

/** Calls to the contracts a miner deals with. Those with a block ask for the state of that block. */
export class MineContracts {
  readonly chain: Chain
  readonly flow: Address
  readonly mine: Address
  readonly reward: Address
  /** Never changes once the flow is deployed. */
  #epochs: { firstBlock: number; blocks: number } | undefined

  constructor({ chain, flow, mine, reward }: { chain: Chain; flow: Address; mine: Address; reward: Address }) {
    this.chain = chain
    this.flow = flow
    this.mine = mine
    this.reward = reward
  }

  async head(signal?: AbortSignal): Promise<number> {
    return Number(await this.chain.request('eth_blockNumber', [], { signal }))
  }

  async balanceWei(address: Address): Promise<bigint> {
    return BigInt(String(await this.chain.request('eth_getBalance', [address, 'latest'])))
  }

  async poraVersion(): Promise<bigint> {
    return BigInt((await this.#mine('poraVersion')) as bigint)
  }

  async beneficiary(minerId: Hash): Promise<Address> {
    return ((await this.#mine('beneficiaries', [minerId])) as Address).toLowerCase() as Address
  }

  /** What the id is to mine at a block; the epoch's context is made on the way, without a transaction. */
  async workerContext(minerId: Hash, block: number): Promise<WorkerContext> {
    const answer = (await this.#mine('computeWorkerContext', [minerId], { from: WORKER_CALLER, block })) as {
      context: ContextAnswer
      poraTarget: bigint
      subtaskDigest: Hash
      maxShards: bigint
    }
    const { context, poraTarget, subtaskDigest, maxShards } = answer
    return { context: readContext(context), poraTarget, subtaskDigest, maxShards: Number(maxShards) }
  }

  /** The settings that hold in an epoch: those announced for the next mined one begin with it. */
  async subtaskSettings(epoch: number, block: number): Promise<SubtaskSettings> {
    const at = { block }
    const lastMined = Number(await this.#mine('lastMinedEpoch', [], at))
    const suffix = epoch > lastMined && lastMined > 0 ? 'NextEpoch' : ''
    const [subtasks, intervalBlocks, windowBlocks] = await Promise.all([
      this.#mine(`nSubtasks${suffix}`, [], at),
      this.#mine(`subtaskInterval${suffix}`, [], at),
      this.#mine('targetMineBlocks', [], at),
    ])
    return {
      subtasks: Number(subtasks),
      intervalBlocks: Number(intervalBlocks),
      windowBlocks: Number(windowBlocks),
    }
  }

  /** The context that was last made in a transaction. */
  async context(block: number): Promise<MineContext> {
    const call = { chain: this.chain, address: this.flow, abi: flowAbi, functionName: 'getContext', block }
    return readContext((await ethCall(call)) as ContextAnswer)
  }

  /** The last block of an epoch: the next one begins behind it. */
  async epochEnd(epoch: number): Promise<number> {
    const read = async (functionName: string): Promise<number> =>
      Number(await ethCall({ chain: this.chain, address: this.flow, abi: flowAbi, functionName }))
    this.#epochs ??= { firstBlock: await read('firstBlock'), blocks: await read('blocksPerEpoch') }
    return this.#epochs.firstBlock + (epoch + 1) * this.#epochs.blocks
  }

  /** Recorded epoch number `index`; undefined when there is none yet. */
  async recordedEpoch(index: number, block: number): Promise<RecordedEpoch | undefined> {
    const call = { chain: this.chain, address: this.flow, abi: flowAbi, functionName: 'getEpochRangeHistory', block }
    try {
      const answer = (await ethCall({ ...call, args: [BigInt(index)] })) as { start: bigint; end: bigint; digest: Hash }
      return { index, start: Number(answer.start), end: Number(answer.end), digest: answer.digest }
    } catch (error) {
      // Panic: what the public contract says for an index past its array. Anything else says nothing about the index.
      const reasons = ['UnknownEpochRange', 'Panic']
      if (error instanceof ContractRevertError && reasons.includes(error.errorName ?? '')) return undefined
      throw error
    }
  }

  /** @throws ContractRevertError with the contract's reason when it would refuse the answer now */
  async simulateSubmit(answer: PoraAnswer, from: Address): Promise<void> {
    await this.#mine('submit', [answer], { from })
  }

  submitData(answer: PoraAnswer): Hex {
    return encodeFunctionData({ abi: poraMineAbi, functionName: 'submit', args: [answer] })
  }

  requestMinerIdData(beneficiary: Address, seed: number): Hex {
    return encodeFunctionData({ abi: poraMineAbi, functionName: 'requestMinerId', args: [beneficiary, BigInt(seed)] })
  }

  transferBeneficialData(to: Address, minerId: Hash): Hex {
    return encodeFunctionData({ abi: poraMineAbi, functionName: 'transferBeneficial', args: [to, minerId] })
  }

  makeContextData(): Hex {
    return encodeFunctionData({ abi: flowAbi, functionName: 'makeContext' })
  }

  withdrawData(payee: Address): Hex {
    return encodeFunctionData({ abi: storageRewardAbi, functionName: 'withdrawPayments', args: [payee] })
  }

  /** What the account may draw. */
  async payments(payee: Address): Promise<bigint> {
    const call = { chain: this.chain, address: this.reward, abi: storageRewardAbi, functionName: 'payments' }
    return (await ethCall({ ...call, args: [payee] })) as bigint
  }

  #mine(
    functionName: string,
    args: readonly unknown[] = [],
    options: { from?: Address; block?: number } = {},
  ): Promise<unknown> {
    return ethCall({ chain: this.chain, address: this.mine, abi: poraMineAbi, functionName, args, ...options })
  }
}

/** Gas a mined transaction cost, in wei. */
export function gasCostWei({ gasUsed, effectiveGasPrice }: TransactionReceipt): bigint {
  return gasUsed * effectiveGasPrice
}

interface ContextAnswer {
  epoch: bigint
  mineStart: bigint
  flowRoot: Hash
  flowLength: bigint
  blockDigest: Hash
  digest: Hash
}

function readContext(answer: ContextAnswer): MineContext {
  const { epoch, mineStart, flowRoot, flowLength, blockDigest, digest } = answer
  return {
    epoch: Number(epoch),
    mineStart: Number(mineStart),
    flowRoot,
    flowLength: Number(flowLength),
    blockDigest,
    digest,
  }
}
