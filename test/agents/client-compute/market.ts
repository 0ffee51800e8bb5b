import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createPublicClient, createWalletClient, type Hex, http, parseAbi, parseEther } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { type ComputeClient, connectCompute } from '#client/compute/compute-client.ts'
import type { ComputeConnectionParameters } from '#client/compute/connection.ts'
import type { TokenPrices } from '#protocol/compute/fees.ts'
import { type Anvil, DEV_ACCOUNTS, startAnvil } from '../../chain.ts'
import { type ComputeContracts, deployComputeContracts } from '../../compute-contracts.ts'
import { type StandInParameters, type StandInProvider, startStandIn } from './stand-in-provider.ts'

/** Prices of the stand-ins unless told otherwise: 10^12 wei are one coin per million tokens. */
export const PRICES = { inputPriceWei: 10n ** 12n, outputPriceWei: 2n * 10n ** 12n }
export const MODEL = 'weightless/stand-in'

const abi = parseAbi([
  'struct ServiceParams { string serviceType; string url; string model; string verifiability; uint256 inputPrice; uint256 outputPrice; string additionalInfo; address teeSignerAddress; }',
  'function addOrUpdateService(ServiceParams params) payable',
  'function acknowledgeTEESignerByOwner(address provider)',
  'function setServiceModel(bytes32 weightsRoot)',
  'function MIN_PROVIDER_STAKE() view returns (uint256)',
])

/** A chain with the contracts of the compute market, stand-in providers and users. */
export interface Market {
  readonly anvil: Anvil
  readonly contracts: ComputeContracts
  /** Starts a stand-in, registers its service and approves it. Dev accounts 10 to 19 are providers, in turn. */
  addProvider(
    change?: Partial<StandInParameters> & { info?: object; approve?: boolean; weights?: Hex },
  ): Promise<StandInProvider>
  /** Registers a service at a URL for a development account, and approves its signer. */
  register(service: RegisterParameters): Promise<void>
  /** The next development account that is no provider yet. */
  providerKey(): Hex
  /** Changes a provider's price on the chain. */
  reprice(provider: StandInProvider, outputPriceWei: bigint): Promise<void>
  /** A client with a key of its own (with 100 coins) and books of its own; `account` is given when it needs the same. */
  client(change?: Partial<ComputeConnectionParameters>): Promise<ComputeClient>
  /** A fresh key with 100 coins. */
  account(): Promise<ReturnType<typeof privateKeyToAccount>>
  /** A folder that is removed at the end. */
  folder(): Promise<string>
  stop(): Promise<void>
}

export interface RegisterParameters {
  privateKey: Hex
  url: string
  signer: Hex
  model?: string | undefined
  prices?: TokenPrices | undefined
  info?: object | undefined
  approve?: boolean | undefined
  /** Storage root of the weights that the service says it runs. */
  weights?: Hex | undefined
}

export async function startMarket(): Promise<Market> {
  const anvil = await startAnvil()
  const closers: (() => Promise<unknown>)[] = [() => anvil.stop()]
  try {
    return await openMarket(anvil, closers)
  } catch (error) {
    await anvil.stop()
    throw error
  }
}

async function openMarket(anvil: Anvil, closers: (() => Promise<unknown>)[]): Promise<Market> {
  const contracts = await deployComputeContracts({ url: anvil.url })
  const transport = http(anvil.url)
  const reader = createPublicClient({ transport, pollingInterval: 20 })
  const stakeWei = await reader.readContract({ address: contracts.inference, abi, functionName: 'MIN_PROVIDER_STAKE' })
  let used = 0
  let keys = 0
  const owned = new Map<string, { key: Hex; params: object }>()

  async function write(
    key: Hex,
    functionName: 'addOrUpdateService',
    args: readonly unknown[],
    value?: bigint,
  ): Promise<void>
  async function write(
    key: Hex,
    functionName: 'acknowledgeTEESignerByOwner' | 'setServiceModel',
    args: readonly unknown[],
  ): Promise<void>
  async function write(key: Hex, functionName: string, args: readonly unknown[], value = 0n): Promise<void> {
    const wallet = createWalletClient({ account: privateKeyToAccount(key), transport })
    const call = { address: contracts.inference, abi, functionName, args, value, chain: null } as never
    const receipt = await reader.waitForTransactionReceipt({ hash: await wallet.writeContract(call) })
    if (receipt.status !== 'success') throw new Error(`${functionName} failed`)
  }

  const market: Market = {
    anvil,
    contracts,
    providerKey: () => {
      const known = DEV_ACCOUNTS[10 + used++]
      if (known === undefined) throw new Error('no development account is left for a provider')
      return known.privateKey
    },
    register: async ({
      privateKey,
      url,
      signer,
      model = MODEL,
      prices = PRICES,
      info = {},
      approve = true,
      weights,
    }) => {
      const { address } = privateKeyToAccount(privateKey)
      const params = {
        ...{ serviceType: 'chatbot', url, model, verifiability: 'none', additionalInfo: JSON.stringify(info) },
        ...{ inputPrice: prices.inputPriceWei, outputPrice: prices.outputPriceWei, teeSignerAddress: signer },
      }
      owned.set(address.toLowerCase(), { key: privateKey, params })
      await write(privateKey, 'addOrUpdateService', [params], stakeWei)
      if (weights !== undefined) await write(privateKey, 'setServiceModel', [weights])
      const [deployer] = DEV_ACCOUNTS
      if (approve && deployer) await write(deployer.privateKey, 'acknowledgeTEESignerByOwner', [address])
    },
    addProvider: async ({ info, approve, weights, ...change } = {}) => {
      const privateKey = market.providerKey()
      const stand = await startStandIn({
        ...{ privateKey, chainId: 31_337, contract: contracts.inference, prices: PRICES, model: MODEL },
        ...change,
      })
      closers.unshift(() => stand.stop())
      const { model, prices } = change
      await market.register({
        privateKey,
        url: stand.url,
        signer: stand.address,
        model,
        prices,
        info,
        approve,
        weights,
      })
      return stand
    },
    reprice: async (stand, outputPriceWei) => {
      const { key, params } = owned.get(stand.address) ?? {}
      if (key === undefined) throw new Error('not a provider of this market')
      await write(key, 'addOrUpdateService', [{ ...params, outputPrice: outputPriceWei }])
    },
    client: async (change = {}) => {
      const client = connectCompute({
        ...{ rpcUrl: anvil.url, ledger: contracts.ledger, dataDir: ':memory:' },
        ...change,
        account: change.account ?? (await market.account()),
        limits: {
          firstTokenTimeoutMs: 500,
          idleTimeoutMs: 500,
          receiptTimeoutMs: 1_000,
          cacheMs: 50,
          ...change.limits,
        },
      })
      closers.unshift(() => client.close())
      return client
    },
    account: async () => {
      const account = privateKeyToAccount(`0x${(0xabc000 + keys++).toString(16).padStart(64, '0')}`)
      await anvil.rpc('anvil_setBalance', [account.address, `0x${parseEther('100').toString(16)}`])
      return account
    },
    folder: async () => {
      const dir = await mkdtemp(join(tmpdir(), 'compute-'))
      closers.unshift(() => rm(dir, { recursive: true, force: true }))
      return dir
    },
    stop: async () => {
      for (const close of closers) await close()
    },
  }
  return market
}
