import { type Address, encodeFunctionData } from 'viem'
import { signersAbi } from '#client/da/abi.ts'
import type { Chain } from '#kit/chain/client.ts'
import type { TransactionSender } from '#kit/chain/sender.ts'
import type { Logger } from '#kit/log.ts'
import { type BlsKey, sign } from '#protocol/da/bls.ts'
import { registrationDigest } from '#protocol/da/messages.ts'
import { SignerError } from '../error.ts'

/** What this signer has on the chain. */
export interface Stake {
  /** Keys are on record. */
  known: boolean
  bondedWei: bigint
  unbondingWei: bigint
  releaseEpoch: number
  socket: string | undefined
  minStakeWei: bigint
}

export interface MembershipParameters {
  chain: Chain
  signers: Address
  sender: TransactionSender
  key: BlsKey
  log: Logger
}

/** This signer in the table of signers: registration, stake, address. */
export class Membership {
  readonly #parameters: MembershipParameters

  constructor(parameters: MembershipParameters) {
    this.#parameters = parameters
  }

  /** @throws SignerError `SIGNER_KEY` when the chain has other keys for this account */
  async stake(): Promise<Stake> {
    const { chain, signers: address, sender, key } = this.#parameters
    const { client } = chain
    const own = sender.address
    const [known, [bondedWei, unbondingWei, releaseEpoch], minStakeWei] = await Promise.all([
      client.readContract({ address, abi: signersAbi, functionName: 'isSigner', args: [own] }),
      client.readContract({ address, abi: signersAbi, functionName: 'stakeOf', args: [own] }),
      client.readContract({ address, abi: signersAbi, functionName: 'minStake' }),
    ])
    const shared = { bondedWei, unbondingWei, releaseEpoch: Number(releaseEpoch), minStakeWei }
    if (!known) return { known, ...shared, socket: undefined }
    const [detail] = await client.readContract({ address, abi: signersAbi, functionName: 'getSigner', args: [[own]] })
    if (detail?.pkG1.X !== key.pk1.X || detail.pkG1.Y !== key.pk1.Y) {
      throw new SignerError({
        code: 'SIGNER_KEY',
        message: `the chain has another BLS key for ${own}`,
        fix: 'set bls.keystore to the key it was registered with; an account’s key can never be changed',
        details: { signer: own },
      })
    }
    return { known, ...shared, socket: detail.socket }
  }

  /**
   * Joins the table of the next epoch, or corrects the address on record. Nothing is sent when all is well.
   *
   * @returns what was done
   * @throws SignerError `SIGNER_STAKE`, `SIGNER_KEY`; ContractRevertError; chain errors
   */
  async ensure({
    url,
    initialWei,
    register,
    signal,
  }: {
    url: string
    initialWei: bigint | undefined
    register: boolean
    signal?: AbortSignal | undefined
  }): Promise<'registered' | 'moved' | 'unchanged' | 'absent'> {
    const { sender, log } = this.#parameters
    const stake = await this.stake()
    if (stake.bondedWei === 0n) {
      if (!register) return 'absent'
      const stakeWei = initialWei ?? stake.minStakeWei
      if (stakeWei < stake.minStakeWei) throw tooLittle(stakeWei, stake.minStakeWei)
      await this.#register(url, stakeWei, signal)
      log.info(
        { signer: sender.address, stakeWei: String(stakeWei), url },
        'registered: signing begins with the next epoch',
      )
      return 'registered'
    }
    if (stake.socket === url) return 'unchanged'
    await this.#call('updateSocket', [url], 0n, signal)
    log.info({ url, before: stake.socket }, 'the address on record was changed')
    return 'moved'
  }

  /** Adds to the stake, from the next epoch on. */
  async addStake(valueWei: bigint, signal?: AbortSignal): Promise<void> {
    await this.#call('addStake', [], valueWei, signal)
  }

  /** Takes stake out, from the next epoch on; it can be drawn after the unbonding time. */
  async unbond(amountWei: bigint, signal?: AbortSignal): Promise<void> {
    await this.#call('requestUnbond', [amountWei], 0n, signal)
  }

  /** Draws what has unbonded. */
  async withdraw(signal?: AbortSignal): Promise<void> {
    await this.#call('withdrawUnbonded', [], 0n, signal)
  }

  /** Records that the epoch began, so that its event is on the chain. */
  async makeEpoch(signal?: AbortSignal): Promise<void> {
    await this.#call('makeEpoch', [], 0n, signal)
  }

  async #register(url: string, stakeWei: bigint, signal: AbortSignal | undefined): Promise<void> {
    const { chain, signers: to, sender, key } = this.#parameters
    const { secret, pk1, pk2 } = key
    const digest = registrationDigest({ signer: sender.address, chainId: chain.id })
    const detail = { signer: sender.address, socket: url, pkG1: pk1, pkG2: pk2 }
    const args = [detail, sign({ secret, digest })] as const
    const data = encodeFunctionData({ abi: signersAbi, functionName: 'registerSigner', args })
    await sender.send({ to, data, valueWei: stakeWei, abi: signersAbi }, { signal })
  }

  async #call(
    functionName: 'updateSocket' | 'addStake' | 'requestUnbond' | 'withdrawUnbonded' | 'makeEpoch',
    args: readonly unknown[],
    valueWei: bigint,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { signers: to, sender } = this.#parameters
    const data = encodeFunctionData({ abi: signersAbi, functionName, args } as Parameters<typeof encodeFunctionData>[0])
    await sender.send({ to, data, valueWei, abi: signersAbi }, { signal })
  }
}

function tooLittle(stakeWei: bigint, minStakeWei: bigint): SignerError {
  return new SignerError({
    code: 'SIGNER_STAKE',
    message: `a stake of ${stakeWei} wei is too little: the contract takes ${minStakeWei} wei or more`,
    fix: 'raise stake.initialWei, or leave it unset',
    details: { stakeWei: String(stakeWei), minStakeWei: String(minStakeWei) },
  })
}
