import { type Address, isAddress, type LocalAccount } from 'viem'
import { connectChain } from '#kit/chain/client.ts'
import { createSender } from '#kit/chain/sender.ts'
import { createCloseStack } from '#kit/close-stack.ts'
import type { Logger } from '#kit/log.ts'
import { storageRewardAbi } from '#protocol/abi/storage-reward.ts'
import { MineContracts } from './chain/mine-contracts.ts'
import type { MinerConfig } from './config.ts'
import { MinerError } from './error.ts'
import { withdraw } from './rewards.ts'

export interface WithdrawNowParameters {
  config: MinerConfig
  /** Pays for gas; anyone may. */
  account: LocalAccount
  /** Default: the configured beneficiary, else the account. */
  payee?: string | undefined
  log: Logger
  signal?: AbortSignal | undefined
}

/**
 * Pays a beneficiary all it can claim, without a miner running here. Zero when nothing is due: then nothing is sent.
 *
 * @throws MinerError `MINER_PAYEE`; chain errors
 */
export async function withdrawNow(parameters: WithdrawNowParameters): Promise<{ payee: Address; amountWei: bigint }> {
  const { config, account, log, signal } = parameters
  const payee = checkPayee(parameters.payee ?? config.mining.beneficiary ?? account.address)
  const stack = createCloseStack({ log })
  try {
    const { rpcUrls, id, flow, mine, reward } = config.chain
    const chain = await connectChain({ rpcUrls, chainId: id, signal })
    stack.defer('chain', () => chain.close())
    const contracts = new MineContracts({ chain, flow, mine, reward })
    if ((await contracts.payments(payee)) === 0n) return { payee, amountWei: 0n }
    const sender = createSender({ chain, account, abi: storageRewardAbi, log })
    stack.defer('transactions', () => sender.close())
    return { payee, amountWei: await withdraw({ contracts, sender, beneficiary: payee, log, signal }) }
  } finally {
    await stack.close()
  }
}

function checkPayee(text: string): Address {
  if (isAddress(text, { strict: false })) return text.toLowerCase() as Address
  const fix = 'give 0x and 40 hex digits'
  throw new MinerError({ code: 'MINER_PAYEE', message: `${text.slice(0, 60)} is no address`, fix })
}
