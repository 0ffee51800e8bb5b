import { existsSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import { encodeFunctionData, type Hex, type LocalAccount } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { connect } from '#client/connect.ts'
import { fineTuningConfigSchema } from '#compute/fine-tuning/config.ts'
import { registerFineTuning } from '#compute/fine-tuning/registration.ts'
import { signingKey } from '#compute/provider/main.ts'
import { openProviderWallet } from '#compute/provider/registration.ts'
import { type Chain, connectChain } from '#kit/chain/client.ts'
import { DEV_ACCOUNTS } from '#kit/chain/dev-accounts.ts'
import { createSender } from '#kit/chain/sender.ts'
import { fileSource } from '#kit/files.ts'
import { silentLog } from '#kit/log.ts'
import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import { writeGgufFile } from '../model/random.ts'
import { randomModel } from '../model/random-model.ts'
import { type DevnetAgent, devnetHost, localUrl } from './agent.ts'
import { DevnetError } from './error.ts'
import type { AgentSetting } from './storage-agents.ts'

const PROVIDER_ACCOUNT = 16
const PROVIDER = 'provider'
const FINE_TUNING_ACCOUNT = 17
const FINE_TUNING = 'fine-tuning'

/** Everything of the compute market that listens. */
export const computePortNames = [PROVIDER, FINE_TUNING]

/** The model that this project trained; where it is not there, one with random weights takes its place. */
const trainedModel = path.join(import.meta.dirname, '..', '..', 'models', 'weightless-demo.gguf')

/** Wei per token: a thousand tokens cost a thousandth of a coin. */
const PRICE = { inputPriceWei: 500_000_000_000n, outputPriceWei: 1_000_000_000_000n }

/** Wei per token of a dataset and pass. */
const FINE_TUNING_PRICE_WEI = 1_000_000_000_000n

/** A provider of the demo model. */
export async function providerAgent({
  setting,
  port,
  indexerUrl,
}: {
  setting: AgentSetting
  port: number
  indexerUrl: string
}): Promise<DevnetAgent & { model: string; modelRoot: Hex }> {
  const { layout, rpcUrl, deployment } = setting
  const directory = layout.agentDirectory(PROVIDER)
  const isTrained = existsSync(trainedModel)
  const model = isTrained ? 'weightless-demo' : 'weightless-random'
  const file = isTrained ? trainedModel : path.join(directory, 'random.gguf')
  mkdirSync(directory, { recursive: true })
  if (!existsSync(file)) await writeGgufFile({ path: file, content: randomModel({ seed: 1n, type: 'Q8_0' }) })
  const modelRoot = await rootOf(file)
  return {
    ...{ name: PROVIDER, command: 'provider', port, model, modelRoot },
    config: {
      ...{ host: devnetHost, port, dataDir: path.join(directory, 'data'), model: file, modelName: model, modelRoot },
      key: { devAccount: PROVIDER_ACCOUNT },
      // Adapters are fetched from the network's own storage when somebody asks for one.
      storage: { indexerUrl },
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
  agent: { port, model, modelRoot },
  say,
}: {
  setting: AgentSetting
  agent: Awaited<ReturnType<typeof providerAgent>>
  say: (line: string) => void
}): Promise<void> {
  const dataDir = path.join(layout.agentDirectory(PROVIDER), 'data')
  const { address: signer } = await signingKey(dataDir)
  const { chainId, contracts } = deployment
  const chainConfig = { rpcUrls: [rpcUrl], id: chainId, inference: contracts.InferenceServing }
  await using wallet = await openProviderWallet({
    config: { chain: chainConfig } as Parameters<typeof openProviderWallet>[0]['config'],
    account: devAccount(PROVIDER_ACCOUNT),
    log: silentLog(),
  })
  const url = localUrl(port)
  const before = await wallet.registration()
  const same = before.registered && before.url === url && before.model === model && before.signer === signer
  const now = same ? before : await wallet.register({ url, model, signer, modelRoot, ...PRICE })
  if (now.signerAcknowledged) return
  await approveSigner({ chain: wallet.chain, serving: contracts.InferenceServing, provider: wallet.address })
  say(`provider ${wallet.address} serves ${model}`)
}

/** Stores the demo model, so that whoever gets an adapter for it finds the weights by their root. Repeatable. */
export async function storeDemoModel({ rpcUrl, indexerUrl, signal }: StoreModelParameters): Promise<void> {
  if (!existsSync(trainedModel)) return
  await using client = await connect({ rpcUrl, indexerUrl, account: devAccount(0) })
  await using source = await fileSource(trainedModel)
  await client.storage.upload({ source, signal })
}

interface StoreModelParameters {
  rpcUrl: string
  indexerUrl: string
  signal: AbortSignal
}

async function rootOf(file: string): Promise<Hex> {
  await using source = await fileSource(file)
  return (await buildFileTree({ source })).root
}

/** A provider that fine-tunes the demo model; undefined where there is none that was trained. */
export function fineTuningAgent({ setting, port, indexerUrl }: FineTuningSetting): DevnetAgent | undefined {
  if (!existsSync(trainedModel)) return undefined
  const { layout, rpcUrl, deployment } = setting
  return {
    ...{ name: FINE_TUNING, command: 'finetune-provider', port },
    config: {
      ...{ host: devnetHost, port, dataDir: path.join(layout.agentDirectory(FINE_TUNING), 'data') },
      key: { devAccount: FINE_TUNING_ACCOUNT },
      // The rate of a task is at most 0.001: so small a model takes a stronger adapter.
      models: [{ name: 'weightless-demo', path: trainedModel, recipe: { rank: 8, alpha: 64, heldOutShare: 0.05 } }],
      trainer: { threads: 2 },
      chain: { rpcUrls: [rpcUrl], id: deployment.chainId, fineTuning: deployment.contracts.FineTuningServing },
      storage: { indexerUrl, flow: deployment.contracts.Flow },
      attestation: { kind: 'simulated' },
    },
  }
}

interface FineTuningSetting {
  setting: AgentSetting
  port: number
  indexerUrl: string
}

/** Puts the fine-tuning provider on the market and approves its signer. Repeatable. */
export async function registerFineTuningProvider({
  agent,
  setting: { deployment },
  say,
}: {
  agent: DevnetAgent
  setting: AgentSetting
  say: (line: string) => void
}): Promise<void> {
  const config = fineTuningConfigSchema.parse(agent.config)
  const account = devAccount(FINE_TUNING_ACCOUNT)
  const { address: signer } = await signingKey(config.dataDir)
  const terms = { url: localUrl(agent.port), pricePerTokenWei: FINE_TUNING_PRICE_WEI, signer }
  const service = await registerFineTuning({ config, account, terms, log: silentLog() })
  const chain = await connectChain({ rpcUrls: config.chain.rpcUrls, chainId: config.chain.id })
  try {
    const serving = deployment.contracts.FineTuningServing
    if (service?.acknowledged !== true) await approveSigner({ chain, serving, provider: account.address })
  } finally {
    chain.close()
  }
  say(`provider ${account.address} fine-tunes weightless-demo`)
}

/** As the chain's governor: both service contracts have the same call. */
async function approveSigner({
  chain,
  serving,
  provider,
}: {
  chain: Chain
  serving: Hex
  provider: Hex
}): Promise<void> {
  const sender = createSender({ chain, account: devAccount(0), log: silentLog() })
  try {
    const call = { abi: inferenceServingAbi, functionName: 'acknowledgeTEESignerByOwner' } as const
    const data = encodeFunctionData({ ...call, args: [provider] })
    await sender.send({ to: serving, data, abi: inferenceServingAbi })
  } finally {
    await sender.close()
  }
}

function devAccount(index: number): LocalAccount {
  const known = DEV_ACCOUNTS[index]
  if (known === undefined) throw new DevnetError({ code: 'DEVNET_SHAPE', message: `no development account ${index}` })
  return privateKeyToAccount(known.privateKey)
}
