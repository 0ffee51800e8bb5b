import { type Address, parseAbiItem } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { poraMineAbi } from '#protocol/abi/pora-mine.ts'
import { storageRewardAbi } from '#protocol/abi/storage-reward.ts'

/** The books of the reward contract, read from the chain. */
export interface RewardReport {
  answers: number
  distributedWei: bigint
  withdrawnWei: bigint
  /** Accepted answers by epoch. */
  answersByEpoch: Map<bigint, number>
  /** Difficulty at regular steps, oldest first. */
  difficulties: number[]
}

const distributed = parseAbiItem(
  'event DistributeReward(uint256 indexed pricingIndex, address indexed beneficiary, bytes32 indexed minerId, uint256 amount)',
)
const withdrawn = parseAbiItem('event Withdrawn(address indexed payee, uint256 weiAmount)')
const answered = parseAbiItem(
  'event NewSubmission(uint256 indexed epoch, bytes32 indexed minerId, uint256 epochIndex, uint256 recallPosition)',
)

/**
 * Reads every reward event and checks the books. Throws with what does not add up:
 * - what was distributed to each payee is what it drew plus what it may still draw: nothing lost, nothing twice;
 * - each accepted answer has its own number in its epoch, counted from 0 without gaps;
 * - the contract's balance is what its pools, donations, fees and payees' balances add up to.
 */
export async function checkRewards({
  chain,
  reward,
  mine,
  fromBlock,
  stepBlocks,
}: {
  chain: Chain
  reward: Address
  mine: Address
  fromBlock: bigint
  /** Blocks between two looks at the difficulty. */
  stepBlocks: number
}): Promise<RewardReport> {
  const { client } = chain
  const toBlock = await client.getBlockNumber()
  const range = { fromBlock, toBlock }
  const [payouts, drawn, answers] = await Promise.all([
    client.getLogs({ address: reward, event: distributed, ...range }),
    client.getLogs({ address: reward, event: withdrawn, ...range }),
    client.getLogs({ address: mine, event: answered, ...range }),
  ])

  const due = new Map<string, bigint>()
  for (const { args } of payouts) add(due, args.beneficiary, args.amount)
  for (const { args } of drawn) add(due, args.payee, -(args.weiAmount ?? 0n))
  for (const [payee, expected] of due) {
    const payment = { address: reward, abi: storageRewardAbi, functionName: 'payments', blockNumber: toBlock } as const
    const open = await client.readContract({ ...payment, args: [payee as Address] })
    if (open !== expected) throw new Error(`${payee} may draw ${open} wei, its rewards say ${expected}`)
  }

  const numbers = new Map<bigint, bigint[]>()
  for (const { args } of answers) {
    const { epoch = 0n, epochIndex = 0n } = args
    numbers.set(epoch, [...(numbers.get(epoch) ?? []), epochIndex])
  }
  for (const [epoch, found] of numbers) {
    const wanted = found.map((_, index) => BigInt(index)).join()
    if (found.join() !== wanted) throw new Error(`the answers of epoch ${epoch} are numbered ${found.join()}`)
  }

  await checkBalance({
    chain,
    reward,
    blockNumber: toBlock,
    open: [...due.values()].reduce((sum, wei) => sum + wei, 0n),
  })
  const difficulties: number[] = []
  for (let blockNumber = fromBlock + BigInt(stepBlocks); blockNumber <= toBlock; blockNumber += BigInt(stepBlocks)) {
    const reading = { address: mine, abi: poraMineAbi, functionName: 'poraTarget', blockNumber } as const
    difficulties.push(2 ** 256 / Number(await client.readContract(reading)))
  }
  return {
    answers: answers.length,
    distributedWei: payouts.reduce((sum, { args }) => sum + (args.amount ?? 0n), 0n),
    withdrawnWei: drawn.reduce((sum, { args }) => sum + (args.weiAmount ?? 0n), 0n),
    answersByEpoch: new Map([...numbers].map(([epoch, found]) => [epoch, found.length])),
    difficulties,
  }
}

/** Pools that may hold money: far more than a soak run fills. */
const POOLS = 64

async function checkBalance({
  chain: { client },
  reward,
  blockNumber,
  open,
}: {
  chain: Chain
  reward: Address
  blockNumber: bigint
  open: bigint
}): Promise<void> {
  const contract = { address: reward, abi: storageRewardAbi, blockNumber } as const
  let accounted = open
  for (let index = 0n; index < POOLS; index++) {
    const pool = await client.readContract({ ...contract, functionName: 'rewards', args: [index] })
    accounted += pool[0] + pool[1]
  }
  accounted += await client.readContract({ ...contract, functionName: 'totalBaseReward' })
  accounted += await client.readContract({ ...contract, functionName: 'serviceFees' })
  const balance = await client.getBalance({ address: reward, blockNumber })
  if (balance !== accounted) throw new Error(`the reward contract holds ${balance} wei and accounts for ${accounted}`)
}

function add(sums: Map<string, bigint>, who: Address | undefined, wei: bigint | undefined): void {
  if (who !== undefined) sums.set(who, (sums.get(who) ?? 0n) + (wei ?? 0n))
}
