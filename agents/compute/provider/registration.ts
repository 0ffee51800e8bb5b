import { encodeFunctionData, type LocalAccount } from 'viem'
import { type Chain, connectChain } from '#kit/chain/client.ts'
import { createSender, type TransactionSender } from '#kit/chain/sender.ts'
import type { Logger } from '#kit/log.ts'
import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import { providerStakesAbi } from '#protocol/abi/provider-stakes.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import { ProviderSetupError } from './account.ts'
import type { ProviderConfig } from './config.ts'

/** What a provider tells the market. */
export interface ServiceTerms {
  /** Where clients reach the provider, without a slash at the end. */
  url: string
  /** Name of the model. */
  model: string
  inputPriceWei: bigint
  outputPriceWei: bigint
  /** The address that signs answers: `signingKey(dataDir).address`. */
  signer: Hex
  /** Storage root of the weights, where they are stored. */
  modelRoot?: Hash | undefined
  /** `TeeML` lets 0G's clients verify answers; `none` is what a provider without a TEE is. Default `TeeML`. */
  verifiability?: string | undefined
  /** JSON, at most 4,096 bytes. Default says what kind of attestation there is. */
  additionalInfo?: string | undefined
}

/** A provider's place in the market. Amounts in wei, times in seconds since 1970. */
export interface Registration {
  readonly registered: boolean
  readonly url: string
  readonly model: string
  readonly inputPriceWei: bigint
  readonly outputPriceWei: bigint
  readonly signer: Hex | undefined
  readonly signerAcknowledged: boolean
  readonly bondedWei: bigint
  readonly unbondingWei: bigint
  readonly releaseAtS: bigint
  readonly minimumStakeWei: bigint
}

/** A wallet at the market's contract. */
export interface ProviderWallet extends AsyncDisposable {
  readonly address: Hex
  readonly chain: Chain
  registration(): Promise<Registration>
  /** Registers the service, or changes it. A new one bonds `stakeWei` (default the minimum). */
  register(terms: ServiceTerms, options?: { stakeWei?: bigint | undefined }): Promise<Registration>
  /** Takes the service off the market; its whole stake begins to unbond. */
  remove(): Promise<Registration>
  /** Begins to unbond a part of the stake. */
  requestUnstake(amountWei: bigint): Promise<Registration>
  /** Draws what has finished unbonding; returns how much. */
  claimStake(): Promise<bigint>
}

/**
 * Opens the wallet of a provider at the contract its configuration names.
 *
 * @throws chain errors; from its methods ContractRevertError, InsufficientFundsError and the like
 */
export async function openProviderWallet({
  config,
  account,
  log,
}: {
  config: Pick<ProviderConfig, 'chain'>
  account: LocalAccount
  log: Logger
}): Promise<ProviderWallet> {
  const chain = await connectChain({ rpcUrls: config.chain.rpcUrls, chainId: config.chain.id })
  const sender = createSender({ chain, account, abi: inferenceServingAbi, log })
  return new Wallet({ chain, sender, contract: config.chain.inference as Hex, address: account.address })
}

class Wallet implements ProviderWallet {
  readonly address: Hex
  readonly chain: Chain
  readonly #sender: TransactionSender
  readonly #contract: Hex

  constructor(parts: { chain: Chain; sender: TransactionSender; contract: Hex; address: Hex }) {
    this.address = parts.address
    this.chain = parts.chain
    this.#sender = parts.sender
    this.#contract = parts.contract
  }

  async registration(): Promise<Registration> {
    const { client } = this.chain
    const call = { address: this.#contract, abi: inferenceServingAbi } as const
    const args = [this.address] as const
    const stakes = await this.#stakes()
    const [registered, [bondedWei, unbondingWei, releaseAtS], minimumStakeWei] = await Promise.all([
      client.readContract({ ...call, functionName: 'serviceExists', args }),
      client.readContract({
        ...{ address: stakes, abi: providerStakesAbi, functionName: 'stakeOf' },
        args: [this.#contract, this.address],
      }),
      client.readContract({ ...call, functionName: 'MIN_PROVIDER_STAKE' }),
    ])
    const stake = { bondedWei, unbondingWei, releaseAtS, minimumStakeWei }
    if (!registered) {
      const none = { url: '', model: '', inputPriceWei: 0n, outputPriceWei: 0n, signer: undefined }
      return { registered, signerAcknowledged: false, ...none, ...stake }
    }
    const service = await client.readContract({ ...call, functionName: 'getService', args })
    return {
      ...{ registered, url: service.url, model: service.model, signer: service.teeSignerAddress },
      ...{ inputPriceWei: service.inputPrice, outputPriceWei: service.outputPrice },
      ...{ signerAcknowledged: service.teeSignerAcknowledged, ...stake },
    }
  }

  async register(terms: ServiceTerms, { stakeWei }: { stakeWei?: bigint | undefined } = {}): Promise<Registration> {
    checkTerms(terms)
    const now = await this.registration()
    const bonded = now.bondedWei > 0n
    const { url, model, inputPriceWei, outputPriceWei, signer, modelRoot } = terms
    await this.#send(
      this.#contract,
      encodeFunctionData({
        abi: inferenceServingAbi,
        functionName: 'addOrUpdateService',
        args: [
          {
            ...{ serviceType: 'chatbot', url, model, verifiability: terms.verifiability ?? 'TeeML' },
            ...{ inputPrice: inputPriceWei, outputPrice: outputPriceWei, teeSignerAddress: signer },
            additionalInfo: terms.additionalInfo ?? JSON.stringify({ ProviderType: 'decentralized' }),
          },
        ],
      }),
      bonded ? 0n : (stakeWei ?? now.minimumStakeWei),
    )
    if (modelRoot !== undefined) {
      const call = { address: this.#contract, abi: inferenceServingAbi, functionName: 'serviceModel' } as const
      const named = await this.chain.client.readContract({ ...call, args: [this.address] })
      if (named !== modelRoot) {
        const args = [modelRoot] as const
        const data = encodeFunctionData({ abi: inferenceServingAbi, functionName: 'setServiceModel', args })
        await this.#send(this.#contract, data)
      }
    }
    return await this.registration()
  }

  async remove(): Promise<Registration> {
    await this.#send(this.#contract, encodeFunctionData({ abi: inferenceServingAbi, functionName: 'removeService' }))
    return await this.registration()
  }

  async requestUnstake(amountWei: bigint): Promise<Registration> {
    const args = [this.#contract, amountWei] as const
    const data = encodeFunctionData({ abi: providerStakesAbi, functionName: 'requestUnstake', args })
    await this.#send(await this.#stakes(), data)
    return await this.registration()
  }

  async claimStake(): Promise<bigint> {
    const { unbondingWei } = await this.registration()
    const args = [this.#contract] as const
    const data = encodeFunctionData({ abi: providerStakesAbi, functionName: 'claimStake', args })
    await this.#send(await this.#stakes(), data)
    return unbondingWei
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sender.close()
    this.chain.close()
  }

  async #stakes(): Promise<Hex> {
    const call = { address: this.#contract, abi: inferenceServingAbi, functionName: 'stakes' } as const
    return await this.chain.client.readContract(call)
  }

  async #send(to: Hex, data: Hex, valueWei = 0n): Promise<void> {
    await this.#sender.send({ to, data, valueWei, abi: providerStakesAbi })
  }
}

const MAX_INFO_BYTES = 4_096

function checkTerms({ url, model, additionalInfo = '{}' }: ServiceTerms): void {
  const bad = (field: string, message: string, fix: string) =>
    new ProviderSetupError({ code: 'PROVIDER_TERMS', message, fix, details: { field } })
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol) || url.endsWith('/')) {
    throw bad('url', `${url} is no address that clients can use`, 'give http(s)://host, without a slash at the end')
  }
  if (model === '' || model.length > 256) throw bad('model', 'a model has a name of 1 to 256 characters', 'name it')
  if (Buffer.byteLength(additionalInfo) > MAX_INFO_BYTES) {
    throw bad('additionalInfo', `additional info is limited to ${MAX_INFO_BYTES} bytes`, 'shorten it')
  }
}
