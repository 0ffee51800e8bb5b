import { cpus, totalmem } from 'node:os'
import { encodeFunctionData, type LocalAccount } from 'viem'
import { connectChain } from '#kit/chain/client.ts'
import { createSender } from '#kit/chain/sender.ts'
import type { Logger } from '#kit/log.ts'
import { fineTuningServingAbi } from '#protocol/abi/fine-tuning-serving.ts'
import type { Hex } from '#protocol/hex.ts'
import { FineTuningReader, type ServiceState } from './chain/fine-tuning-chain.ts'
import type { FineTuningConfig } from './config.ts'
import { FineTuningError } from './error.ts'

/** What a fine-tuning provider tells the market. */
export interface FineTuningTerms {
  /** Where clients reach it, without a slash at the end. */
  url: string
  pricePerTokenWei: bigint
  signer: Hex
}

/**
 * Puts the service on the market, or changes its terms. A new one bonds the least stake.
 *
 * @throws FineTuningError `FINE_TUNING_SETUP` for an address that clients cannot use; chain errors
 */
export async function registerFineTuning(parameters: {
  config: FineTuningConfig
  account: LocalAccount
  terms: FineTuningTerms
  log: Logger
}): Promise<ServiceState | undefined> {
  const { config, account, terms, log } = parameters
  if (!/^https?:\/\/[^\s]+[^/\s]$/.test(terms.url)) {
    throw new FineTuningError({
      ...{ code: 'FINE_TUNING_SETUP', message: `${terms.url} is no address that clients can use` },
      fix: 'give http(s)://host, without a slash at the end',
      details: { field: 'url' },
    })
  }
  const chain = await connectChain({ rpcUrls: config.chain.rpcUrls, chainId: config.chain.id })
  const sender = createSender({ chain, account, abi: fineTuningServingAbi, log })
  try {
    const contract = config.chain.fineTuning as Hex
    const reader = new FineTuningReader({ chain, contract, provider: account.address })
    const call = { address: contract, abi: fineTuningServingAbi } as const
    const [before, stakeWei] = await Promise.all([
      reader.service(),
      chain.client.readContract({ ...call, functionName: 'MIN_PROVIDER_STAKE' }),
    ])
    const quota = {
      ...{ cpuCount: BigInt(cpus().length), nodeMemory: BigInt(Math.floor(totalmem() / 2 ** 30)) },
      ...{ gpuCount: config.trainer.device === 'webgpu' ? 1n : 0n, nodeStorage: 0n, gpuType: '' },
    }
    const models = config.models.map(({ name }) => name)
    const data = encodeFunctionData({
      ...{ abi: fineTuningServingAbi, functionName: 'addOrUpdateService' },
      args: [terms.url, quota, terms.pricePerTokenWei, false, models, terms.signer],
    })
    await sender.send({ to: contract, data, valueWei: before === undefined ? stakeWei : 0n })
    return await reader.service()
  } finally {
    await sender.close()
    chain.close()
  }
}
