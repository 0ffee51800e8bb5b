import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Abi, createWalletClient, encodeFunctionData, http, parseAbi, parseEther, publicActions } from 'viem'
import { type PrivateKeyAccount, privateKeyToAccount } from 'viem/accounts'
import type { Engine } from '#compute/engines/engine.ts'
import {
  type ProviderConfig,
  providerConfigSchema,
  type RunningProvider,
  signingKey,
  startProvider,
} from '#compute/provider/main.ts'
import { silentLog } from '#kit/log.ts'
import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import { encodeSessionToken } from '#protocol/compute/session-token.ts'
import { encodeVoucherHeader, signVoucher, type Voucher } from '#protocol/compute/voucher.ts'
import type { Hex } from '#protocol/hex.ts'
import { type Anvil, DEV_ACCOUNTS, startAnvil } from '../../chain.ts'
import { deployComputeContracts } from '../../compute-contracts.ts'

export const INPUT_PRICE_WEI = 10n ** 12n
export const OUTPUT_PRICE_WEI = 3n * 10n ** 12n
const PROVIDER_ACCOUNT = 1
const userAbi = parseAbi([
  'function depositFund() payable',
  'function transferFund(address provider, string serviceName, uint256 amount)',
  'function retrieveFund(address[] providers, string serviceName)',
  'function revokeToken(address provider, uint8 tokenId)',
  'function revokeAllTokens(address provider)',
  'function setSignedChargesOnly(address provider, bool enabled)',
  'function acknowledgeTEESignerByOwner(address provider)',
  'function revokeTEESignerAcknowledgement(address provider)',
])

/** One of the chain's known accounts, as a user of the market. */
export class User {
  readonly account
  readonly address: Hex
  readonly #market: Market

  constructor(market: Market, index: number) {
    const known = DEV_ACCOUNTS[index]
    if (known === undefined) throw new Error(`no account ${index}`)
    this.account = privateKeyToAccount(known.privateKey)
    this.address = this.account.address.toLowerCase() as Hex
    this.#market = market
  }

  /** Puts money into the ledger and into the sub-account at the provider. */
  async fund(coins: string): Promise<void> {
    const { contracts, provider } = this.#market
    await this.call(contracts.ledger, 'depositFund', [], parseEther(coins) + parseEther('5'))
    await this.call(contracts.ledger, 'transferFund', [provider.address, 'inference-v1.0', parseEther(coins)])
  }

  async call(to: Hex, functionName: string, args: readonly unknown[] = [], value = 0n): Promise<void> {
    const data = encodeFunctionData({ abi: userAbi as Abi, functionName, args })
    const hash = await this.#market.client.sendTransaction({ account: this.account, chain: null, to, data, value })
    const receipt = await this.#market.client.waitForTransactionReceipt({ hash, pollingInterval: 20 })
    if (receipt.status !== 'success') throw new Error(`${functionName} reverted`)
  }

  async token(parameters: { tokenId?: number; generation?: number; lifetimeMs?: number; nowMs?: number } = {}) {
    const { generation = 0, nowMs = Date.now(), ...rest } = parameters
    const { provider } = this.#market
    return await encodeSessionToken({ signer: this.account, provider: provider.address, nowMs, generation, ...rest })
  }

  async voucher(cumulativeFeeWei: bigint, overrides: Partial<Voucher> = {}): Promise<string> {
    const { contracts, provider } = this.#market
    const expiresAtS = Math.floor(Date.now() / 1000) + 86_400
    const user = this.address
    const voucher = { user, provider: provider.address, cumulativeFeeWei, expiresAtS, generation: 0, ...overrides }
    const signature = await signVoucher({
      ...{ signer: this.account, chainId: 31_337, contract: contracts.inference, voucher },
    })
    return encodeVoucherHeader({ voucher, signature })
  }

  /** Balance of the sub-account at the provider, in wei. */
  async balance(): Promise<bigint> {
    const { contracts, provider, client } = this.#market
    const account = await client.readContract({
      ...{ address: contracts.inference, abi: inferenceServingAbi, functionName: 'getAccount' },
      args: [this.address, provider.address],
    })
    return account.balance
  }
}

export interface Market {
  readonly anvil: Anvil
  readonly contracts: { ledger: Hex; inference: Hex }
  readonly provider: { account: PrivateKeyAccount; address: Hex }
  readonly client: ReturnType<typeof openClient>
  readonly folder: string
  user(index: number): User
  owner(): User
  /** Configuration of a provider on this market. */
  config(overrides?: Record<string, unknown>): ProviderConfig
  start(config: ProviderConfig, options?: { engine?: Engine; now?: () => number }): Promise<RunningProvider>
  /** Puts the provider on the market, with an approved signer. */
  register(config: ProviderConfig, options?: { approve?: boolean; url?: string }): Promise<void>
  close(): Promise<void>
}

function openClient(url: string) {
  return createWalletClient({ transport: http(url), pollingInterval: 50 }).extend(publicActions)
}

/** A chain with the contracts and one provider wallet; providers are started on it. */
export async function openMarket({ minimumsInCoins = false } = {}): Promise<Market> {
  const anvil: Anvil = await startAnvil()
  const contracts = await deployComputeContracts({ url: anvil.url })
  const known = DEV_ACCOUNTS[PROVIDER_ACCOUNT]
  if (known === undefined) throw new Error('no provider account')
  const wallet = privateKeyToAccount(known.privateKey)
  const provider = { account: wallet, address: wallet.address.toLowerCase() as Hex }
  const client = openClient(anvil.url)
  const folder = mkdtempSync(join(tmpdir(), 'market-'))
  const running = new Set<RunningProvider>()
  const market: Market = {
    ...{ anvil, contracts, provider, client, folder },
    user: (index) => new User(market, index),
    owner: () => new User(market, 0),
    config: (overrides: Record<string, unknown> = {}): ProviderConfig =>
      providerConfigSchema.parse({
        ...{ port: 0, dataDir: join(folder, 'provider'), ...(minimumsInCoins ? {} : { minimumReserveWei: '0' }) },
        ...overrides,
        chain: {
          ...{ rpcUrls: [anvil.url], inference: contracts.inference, pollIntervalMs: 50 },
          ...(overrides.chain as object | undefined),
        },
        settlement: { enabled: false, embeddedQueue: false, ...(overrides.settlement as object | undefined) },
      }),
    async start(config, options = {}) {
      const started = await startProvider(config, { log: silentLog(), account: wallet, env: {}, ...options })
      running.add(started)
      return started
    },
    async register(config, { approve = true, url = 'http://127.0.0.1:1' } = {}): Promise<void> {
      const signer = await signingKey(config.dataDir)
      const data = encodeFunctionData({
        ...{ abi: inferenceServingAbi, functionName: 'addOrUpdateService' },
        args: [
          {
            ...{ serviceType: 'chatbot', url, model: 'test-model', verifiability: 'TeeML', additionalInfo: '{}' },
            ...{ inputPrice: INPUT_PRICE_WEI, outputPrice: OUTPUT_PRICE_WEI, teeSignerAddress: signer.address },
          },
        ],
      })
      const to = contracts.inference
      const hash = await client.sendTransaction({ account: wallet, chain: null, to, data, value: parseEther('100') })
      await client.waitForTransactionReceipt({ hash, pollingInterval: 20 })
      if (approve) await market.owner().call(contracts.inference, 'acknowledgeTEESignerByOwner', [provider.address])
    },
    async close(): Promise<void> {
      for (const started of running) await started.close()
      await anvil.stop()
      rmSync(folder, { recursive: true, force: true })
    },
  }
  return market
}

/** Waits until `check` gives something true, looking again and again. */
export async function until<T>(check: () => T | Promise<T>, what: string, limitMs = 10_000): Promise<NonNullable<T>> {
  const giveUpAt = Date.now() + limitMs
  for (;;) {
    const found = await check()
    if (found) return found as NonNullable<T>
    if (Date.now() > giveUpAt) throw new Error(`not within ${limitMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
