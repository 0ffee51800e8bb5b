import type { Address, LocalAccount } from 'viem'
import { entranceAbi, signersAbi } from '#client/da/abi.ts'
import { type Chain, connectChain } from '#kit/chain/client.ts'
import { createSender, type TransactionSender } from '#kit/chain/sender.ts'
import { createCloseStack } from '#kit/close-stack.ts'
import type { Logger } from '#kit/log.ts'
import { blsKeyFromSecret } from '#protocol/da/bls.ts'
import { Membership, type Stake } from './chain/membership.ts'
import type { SignerConfig } from './config.ts'
import { drawEarnings, type Earnings } from './earnings.ts'
import { SignerError } from './error.ts'

interface OperateParameters {
  config: SignerConfig
  /** Holds the stake and pays for gas. */
  account: LocalAccount
  blsSecret: Uint8Array
  log: Logger
  signal?: AbortSignal | undefined
}

/**
 * Registers a signer without running it, adds to its stake, or corrects its address on the chain.
 *
 * @param url default: `publicUrl` of the configuration
 * @throws SignerError `SIGNER_CHAIN` without an address, `SIGNER_STAKE`, `SIGNER_KEY`; chain errors
 */
export async function registerNow({
  url,
  stakeWei,
  ...parameters
}: OperateParameters & { url?: string | undefined; stakeWei?: bigint | undefined }): Promise<{
  outcome: 'registered' | 'moved' | 'unchanged' | 'added' | 'absent'
  stake: Stake
}> {
  const { config, signal } = parameters
  const address = url ?? config.publicUrl
  if (address === undefined) {
    throw new SignerError({
      code: 'SIGNER_CHAIN',
      message: 'a registration needs the address under which others reach this signer',
      fix: 'set publicUrl in the configuration, or give --url',
    })
  }
  return within(parameters, async ({ membership }) => {
    const initialWei = stakeWei ?? config.stake.initialWei
    const outcome = await membership.ensure({ url: address, initialWei, register: true, signal })
    if (outcome === 'registered' || stakeWei === undefined) return { outcome, stake: await membership.stake() }
    await membership.addStake(stakeWei, signal)
    return { outcome: 'added', stake: await membership.stake() }
  })
}

/**
 * Draws what a signer has earned and what has unbonded; with `unbondWei` also begins to take stake out (`all`: the
 * signer leaves with the next epoch).
 */
export async function withdrawNow({
  unbondWei,
  ...parameters
}: OperateParameters & { unbondWei?: bigint | 'all' | undefined }): Promise<
  Earnings & { unbondedWei: bigint; unbondingWei: bigint; releaseEpoch: number }
> {
  const { config, signal } = parameters
  return within(parameters, async ({ membership, chain, sender, custody, epoch }) => {
    const { entrance } = config.chain
    const earned = await drawEarnings({ chain, entrance, custody, payee: sender.address, sender, signal })
    const before = await membership.stake()
    const unbondedWei = before.unbondingWei > 0n && before.releaseEpoch <= epoch ? before.unbondingWei : 0n
    if (unbondedWei > 0n) await membership.withdraw(signal)
    if (unbondWei !== undefined) await membership.unbond(unbondWei === 'all' ? before.bondedWei : unbondWei, signal)
    const { unbondingWei, releaseEpoch } = await membership.stake()
    return { ...earned, unbondedWei, unbondingWei, releaseEpoch }
  })
}

async function within<T>(
  { config, account, blsSecret, log, signal }: OperateParameters,
  work: (parts: {
    membership: Membership
    chain: Chain
    sender: TransactionSender
    custody: Address
    epoch: number
  }) => Promise<T>,
): Promise<T> {
  const stack = createCloseStack({ log })
  try {
    const { rpcUrls, id, signers } = config.chain
    const chain = await connectChain({ rpcUrls, chainId: id, signal })
    stack.defer('chain', () => chain.close())
    const sender = createSender({ chain, account, abi: [...signersAbi, ...entranceAbi], log })
    stack.defer('transactions', () => sender.close())
    const membership = new Membership({ chain, signers, sender, key: blsKeyFromSecret(blsSecret), log })
    const read = { address: signers, abi: signersAbi } as const
    const [custody, epoch] = await Promise.all([
      chain.client.readContract({ ...read, functionName: 'custody' }),
      chain.client.readContract({ ...read, functionName: 'epochNumber' }),
    ])
    return await work({ membership, chain, sender, custody, epoch: Number(epoch) })
  } finally {
    await stack.close()
  }
}
