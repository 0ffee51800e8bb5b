import { existsSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import { encodeFunctionData } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { signingKey } from '#compute/provider/main.ts'
import { openProviderWallet } from '#compute/provider/registration.ts'
import { DEV_ACCOUNTS } from '#kit/chain/dev-accounts.ts'
import { createSender } from '#kit/chain/sender.ts'
import { silentLog } from '#kit/log.ts'
import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import { writeGgufFile } from '../model/random.ts'
import { randomModel } from '../model/random-model.ts'
import { type DevnetAgent, devnetHost, localUrl } from './agent.ts'
import { DevnetError } from './error.ts'
import type { AgentSetting } from './storage-agents.ts'

const PROVIDER_ACCOUNT = 16
const PROVIDER = 'provider'

/** Everything of the compute market that listens. */
export const computePortNames = [PROVIDER]

/** The model that this project trained; where it is not there, one with random weights takes its place. */
const trainedModel = path.join(import.meta.dirname, '..', '..', 'models', 'weightless-demo.gguf')

/** Wei per token: a thousand tokens cost a thousandth of a coin. */
const PRICE = { inputPriceWei: 500_000_000_000n, outputPriceWei: 1_000_000_000_000n }

/** A provider of the demo model. */
export async function providerAgent({
  setting,
  port,
}: {
  setting: AgentSetting
  port: number
}): Promise<DevnetAgent & { model: string }> {
  const { layout, rpcUrl, deployment } = setting
  const directory = layout.agentDirectory(PROVIDER)
  const isTrained = existsSync(trainedModel)
  const model = isTrained ? 'weightless-demo' : 'weightless-random'
  const file = isTrained ? trainedModel : path.join(directory, 'random.gguf')
  mkdirSync(directory, { recursive: true })
  if (!existsSync(file)) await writeGgufFile({ path: file, content: randomModel({ seed: 1n, type: 'Q8_0' }) })
  return {
    ...{ name: PROVIDER, command: 'provider', port, model },
    config: {
      ...{ host: devnetHost, port, dataDir: path.join(directory, 'data'), model: file, modelName: model },
      key: { devAccount: PROVIDER_ACCOUNT },
      chain: { rpcUrls: [rpcUrl], id: deployment.chainId, inference: deployment.contracts.InferenceServing },
      // One process on one machine: nothing is gained by a queue that others could share.
      settlement: { embeddedQueue: false, intervalMs: 30_000 },
      attestation: { kind: 'simulated' },
    },
  }
}

/** Puts the provider on the market and, as the chain's governor, approves its signer. Repeatable. */
export async function registerProvider({
  setting: { rpcUrl, deployment, layout },
  port,
  model,
  say,
}: {
  setting: AgentSetting
  port: number
  model: string
  say: (line: string) => void
}): Promise<void> {
  const [developer] = DEV_ACCOUNTS
  const known = DEV_ACCOUNTS[PROVIDER_ACCOUNT]
  if (developer === undefined || known === undefined) {
    throw new DevnetError({ code: 'DEVNET_SHAPE', message: 'no development account' })
  }
  const dataDir = path.join(layout.agentDirectory(PROVIDER), 'data')
  const { address: signer } = await signingKey(dataDir)
  const { chainId, contracts } = deployment
  const chainConfig = { rpcUrls: [rpcUrl], id: chainId, inference: contracts.InferenceServing }
  await using wallet = await openProviderWallet({
    config: { chain: chainConfig } as Parameters<typeof openProviderWallet>[0]['config'],
    account: privateKeyToAccount(known.privateKey),
    log: silentLog(),
  })
  const url = localUrl(port)
  const before = await wallet.registration()
  const same = before.registered && before.url === url && before.model === model && before.signer === signer
  const now = same ? before : await wallet.register({ url, model, signer, ...PRICE })
  if (now.signerAcknowledged) return
  const sender = createSender({
    chain: wallet.chain,
    account: privateKeyToAccount(developer.privateKey),
    log: silentLog(),
  })
  try {
    const args = [wallet.address] as const
    const data = encodeFunctionData({ abi: inferenceServingAbi, functionName: 'acknowledgeTEESignerByOwner', args })
    await sender.send({ to: contracts.InferenceServing, data, abi: inferenceServingAbi })
  } finally {
    await sender.close()
  }
  say(`provider ${wallet.address} serves ${model}`)
}
