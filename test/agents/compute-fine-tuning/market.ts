import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Abi, createWalletClient, encodeFunctionData, http, parseAbi, parseEther, publicActions } from 'viem'
import { type PrivateKeyAccount, privateKeyToAccount } from 'viem/accounts'
import type { ProviderApi } from '#compute/fine-tuning/client/provider-api.ts'
import {
  type FineTuningConfig,
  fineTuningConfigSchema,
  type RunningFineTuning,
  startFineTuning,
} from '#compute/fine-tuning/main.ts'
import { signingKey } from '#compute/provider/main.ts'
import { silentLog } from '#kit/log.ts'
import { fineTuningServingAbi } from '#protocol/abi/fine-tuning-serving.ts'
import { ledgerManagerAbi } from '#protocol/abi/ledger-manager.ts'
import { createTaskDigest, signTaskDigest } from '#protocol/compute/fine-tuning/task-signature.ts'
import type { Hex } from '#protocol/hex.ts'
import { nodeConfigSchema, startNode } from '#storage/node/main.ts'
import { type Anvil, DEV_ACCOUNTS, startAnvil } from '../../chain.ts'
import { type ComputeContracts, deployComputeContracts } from '../../compute-contracts.ts'
import { deployStorageContracts } from '../../storage-contracts.ts'
import { type TinyModel, tinyModel } from '../trainer/tiny-model.ts'

export const PRICE_WEI = 10n ** 12n
export const MODEL = 'tiny'
const LOCK_TIME_S = 7_200

/** A chain with the contracts, a base model, and one provider wallet. */
export interface FineTuningMarket {
  readonly anvil: Anvil
  readonly contracts: ComputeContracts
  readonly model: TinyModel
  readonly folder: string
  readonly provider: PrivateKeyAccount
  readonly client: ReturnType<typeof openClient>
  account(index: number): PrivateKeyAccount
  config(overrides?: Record<string, unknown>): FineTuningConfig
  start(config: FineTuningConfig): Promise<RunningFineTuning>
  /** Puts the provider on the market at this address, with an approved signer. */
  register(config: FineTuningConfig, url: string): Promise<void>
  /** Deposits, opens the sub-account at the provider, acknowledges its signer. */
  fund(user: PrivateKeyAccount, coins: string): Promise<void>
  call(from: PrivateKeyAccount, to: Hex, functionName: string, args?: readonly unknown[], value?: bigint): Promise<void>
  /** Money of the user at the provider. */
  balance(user: PrivateKeyAccount): Promise<bigint>
  /** All that the user has in its ledger, at providers or not. */
  ledgerTotal(user: PrivateKeyAccount): Promise<bigint>
  close(): Promise<void>
}

const callAbi = parseAbi([
  'function depositFund() payable',
  'function transferFund(address provider, string serviceName, uint256 amount)',
  'function acknowledgeTEESigner(address provider, bool acknowledged)',
  'function acknowledgeTEESignerByOwner(address provider)',
  'function acknowledgeDeliverable(address provider, string id)',
  'function setSignedChargesOnly(address provider, bool enabled)',
])

function openClient(url: string) {
  return createWalletClient({ transport: http(url), pollingInterval: 50 }).extend(publicActions)
}

export async function openFineTuningMarket(): Promise<FineTuningMarket> {
  const anvil = await startAnvil({ args: ['--disable-code-size-limit'] })
  const contracts = await deployComputeContracts({ url: anvil.url, lockTimeSeconds: LOCK_TIME_S })
  const model = await tinyModel()
  const folder = mkdtempSync(join(tmpdir(), 'fine-tuning-'))
  const account = (index: number) => privateKeyToAccount(DEV_ACCOUNTS[index]?.privateKey as Hex)
  const provider = account(1)
  const client = openClient(anvil.url)
  const running = new Set<RunningFineTuning>()
  const market: FineTuningMarket = {
    ...{ anvil, contracts, model, folder, provider, client, account },
    config: (overrides = {}) =>
      fineTuningConfigSchema.parse({
        ...{ port: 0, dataDir: join(folder, 'provider'), attestation: { kind: 'simulated' } },
        models: [
          {
            ...{ name: MODEL, path: model.path, description: 'a tiny model' },
            recipe: { rank: 2, alpha: 4, evaluateEvery: 2, checkpointEvery: 2 },
          },
        ],
        ...overrides,
        chain: { rpcUrls: [anvil.url], fineTuning: contracts.fineTuning, pollIntervalMs: 50 },
        settlement: { intervalMs: 200, retryMs: 500, ...(overrides.settlement as object | undefined) },
      }),
    async start(config) {
      const started = await startFineTuning(config, { log: silentLog(), account: provider, env: {} })
      running.add(started)
      return started
    },
    async register(config, url) {
      const signer = await signingKey(config.dataDir)
      const quota = { cpuCount: 2n, nodeMemory: 4n, gpuCount: 0n, nodeStorage: 10n, gpuType: '' }
      const data = encodeFunctionData({
        ...{ abi: fineTuningServingAbi, functionName: 'addOrUpdateService' },
        args: [url, quota, PRICE_WEI, false, [MODEL], signer.address],
      })
      const service = await client
        .readContract({
          ...{ address: contracts.fineTuning, abi: fineTuningServingAbi, functionName: 'getService' },
          args: [provider.address],
        })
        .catch(() => undefined)
      const value = service === undefined ? parseEther('100') : 0n
      const hash = await client.sendTransaction({
        ...{ account: provider, chain: null, to: contracts.fineTuning, data, value },
      })
      await client.waitForTransactionReceipt({ hash, pollingInterval: 20 })
      await market.call(account(0), contracts.fineTuning, 'acknowledgeTEESignerByOwner', [provider.address])
    },
    async fund(user, coins) {
      const { ledger, fineTuning } = contracts
      await market.call(user, ledger, 'depositFund', [], parseEther(coins) + parseEther('5'))
      const service = await client.readContract({
        ...{ address: ledger, abi: ledgerManagerAbi, functionName: 'getServiceInfo', args: [fineTuning] },
      })
      await market.call(user, ledger, 'transferFund', [provider.address, service.fullName, parseEther(coins)])
      await market.call(user, fineTuning, 'acknowledgeTEESigner', [provider.address, true])
    },
    async call(from, to, functionName, args = [], value = 0n) {
      const data = encodeFunctionData({ abi: callAbi as Abi, functionName, args })
      const hash = await client.sendTransaction({ account: from, chain: null, to, data, value })
      const receipt = await client.waitForTransactionReceipt({ hash, pollingInterval: 20 })
      if (receipt.status !== 'success') throw new Error(`${functionName} reverted`)
    },
    async balance(user) {
      const found = await client.readContract({
        ...{ address: contracts.fineTuning, abi: fineTuningServingAbi, functionName: 'getAccount' },
        args: [user.address, provider.address],
      })
      return found.balance
    },
    async ledgerTotal(user) {
      const found = await client.readContract({
        ...{ address: contracts.ledger, abi: ledgerManagerAbi, functionName: 'getLedger', args: [user.address] },
      })
      return found.totalBalance
    },
    async close() {
      for (const started of running) await started.close()
      await anvil.stop()
      await model[Symbol.asyncDispose]()
      rmSync(folder, { recursive: true, force: true })
    },
  }
  return market
}

/** A storage node of the market's chain, and what a provider that uses it is configured with. */
export async function startMarketStorage(market: FineTuningMarket) {
  const { flow, block } = await deployStorageContracts({ url: market.anvil.url })
  const node = await startNode(
    nodeConfigSchema.parse({
      data: { dir: join(market.folder, 'node'), shard: '0/1' },
      chain: {
        ...{ rpcUrls: [market.anvil.url], flow, startBlock: block, confirmations: 0 },
        pollIntervalMs: 100,
      },
      rpc: { listen: '127.0.0.1:0', listenAdmin: '127.0.0.1:0', hashThreads: 0 },
    }),
    { log: silentLog() },
  )
  return { node, flow, storage: { nodes: [node.url], flow, attempts: 2, retryMs: 100, timeoutMs: 4_000 } }
}

/** Sends a dataset and creates a task with it, as 0G's clients do; on signed terms where they are given. */
export async function createTask(parameters: {
  api: ProviderApi
  user: PrivateKeyAccount
  dataset: string
  trainingParams: string
  terms?: { id: string; maxFee: string; deliverBy: number; signature: Hex } | undefined
}): Promise<string> {
  const { api, user, dataset, trainingParams, terms } = parameters
  const datasetHash = await api.sendDataset(Buffer.from(dataset))
  const [model] = await api.models()
  const nonce = BigInt(Date.now()) * 10_000n
  const digest = createTaskDigest({ user: user.address, nonce, datasetHash })
  return await api.create({
    ...{ userAddress: user.address, datasetHash, trainingParams, wait: true },
    ...{ preTrainedModelHash: model?.hash ?? '', nonce: String(nonce) },
    signature: await signTaskDigest({ signer: user, digest }),
    ...(terms === undefined ? {} : { terms }),
  })
}

/** Waits until a task is so far; a failure on the way is the test's. */
export async function reaches({ api, id, progress }: { api: ProviderApi; id: string; progress: string }) {
  return await until(async () => {
    const task = await api.task(id)
    if (task.progress === 'Failed' && progress !== 'Failed') {
      throw new Error(`the task failed: ${task.failure?.code} ${task.failure?.message}`)
    }
    return task.progress === progress ? task : undefined
  }, `the task is ${progress}`)
}

/** Waits until `check` gives something true, looking again and again. */
export async function until<T>(check: () => T | Promise<T>, what: string, limitMs = 60_000): Promise<NonNullable<T>> {
  const giveUpAt = Date.now() + limitMs
  for (;;) {
    const found = await check()
    if (found) return found as NonNullable<T>
    if (Date.now() > giveUpAt) throw new Error(`not within ${limitMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
