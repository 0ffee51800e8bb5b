import type { HDNodeWallet, Signer, Wallet } from 'ethers'
import { network } from 'hardhat'
import type { fineTuningServingAbi } from '#protocol/abi/fine-tuning-serving.ts'
import type { governanceAbi } from '#protocol/abi/governance.ts'
import type { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import type { ledgerManagerAbi } from '#protocol/abi/ledger-manager.ts'
import type { providerStakesAbi } from '#protocol/abi/provider-stakes.ts'
import type { taskBookAbi } from '#protocol/abi/task-book.ts'
import type { Bound, Connection } from '../storage/storage-fixture.ts'

export const ETHER = 10n ** 18n
export const DAY = 86_400
export const INFERENCE = 'inference-v1.0'
export const FINE_TUNING = 'fine-tuning-v1.0'
export const ZERO_ADDRESS = '0x0000000000000000000000000000000000000000'

export interface ComputeFixture {
  connection: Connection
  governance: Bound<typeof governanceAbi>
  ledger: Bound<typeof ledgerManagerAbi>
  inference: Bound<typeof inferenceServingAbi>
  fineTuning: Bound<typeof fineTuningServingAbi>
  stakes: Bound<typeof providerStakesAbi>
  book: Bound<typeof taskBookAbi>
  chainId: bigint
}

/** Deploys the compute contracts on a fresh simulated chain. The first signer governs them without delay. */
export async function deployCompute({
  connection,
  unbondingSeconds = 7 * DAY,
}: {
  connection?: Connection
  unbondingSeconds?: number
} = {}): Promise<ComputeFixture> {
  const chain = connection ?? (await network.create())
  const { ethers } = chain
  const [deployer] = await ethers.getSigners()
  if (deployer === undefined) throw new Error('the simulated chain has no accounts')
  const nonce = await deployer.getNonce()
  const at = (offset: number) => ethers.getCreateAddress({ from: deployer.address, nonce: nonce + offset })
  const [governanceAt, ledgerAt, stakesAt, bookAt, inferenceAt, fineTuningAt] = [0, 1, 2, 3, 4, 5].map(at)
  const serving = {
    authority: governanceAt,
    ledger: ledgerAt,
    minProviderStake: 100n * ETHER,
    stakes: stakesAt,
    lockTime: DAY,
    minLockTime: 3_600,
  }
  const registration = (serviceType: string, serviceAddress: string | undefined) => ({
    serviceType,
    version: 'v1.0',
    serviceAddress,
    description: '',
    recommended: true,
  })
  const services = [registration('inference', inferenceAt), registration('fine-tuning', fineTuningAt)]
  const governance = await ethers.deployContract('Governance', [deployer.address, deployer.address, 0, [ledgerAt]])
  const ledger = await ethers.deployContract('LedgerManager', [governanceAt, 3n * ETHER, ETHER, services])
  const stakes = await ethers.deployContract('ProviderStakes', [governanceAt, unbondingSeconds])
  const book = await ethers.deployContract('TaskBook', [fineTuningAt])
  const inference = await ethers.deployContract('InferenceServing', [serving])
  const fineTuning = await ethers.deployContract('FineTuningServing', [serving, bookAt, 30])
  const { chainId } = await ethers.provider.getNetwork()
  const fixture = { connection: chain, governance, ledger, inference, fineTuning, stakes, book, chainId }
  return fixture as unknown as ComputeFixture
}

/** An account that signs by itself, with so much money. */
export async function fundedWallet(connection: Connection, seed: string, balance = 1000n * ETHER): Promise<Wallet> {
  const { ethers } = connection
  const wallet = new ethers.Wallet(ethers.id(seed), ethers.provider)
  await connection.networkHelpers.setBalance(wallet.address, balance)
  return wallet
}

export type AnyWallet = Wallet | HDNodeWallet

export const SERVICE = {
  serviceType: 'chatbot',
  url: 'http://127.0.0.1:1',
  model: 'demo',
  verifiability: 'TeeML',
  inputPrice: 1n,
  outputPrice: 2n,
  additionalInfo: '',
}

/** Registers an inference service with the least stake, its signer approved by governance. */
export async function registerInference(f: ComputeFixture, provider: Signer, teeSignerAddress: string): Promise<void> {
  await f.inference.connect(provider).getFunction('addOrUpdateService')(
    { ...SERVICE, teeSignerAddress },
    { value: 100n * ETHER },
  )
  await f.inference.acknowledgeTEESignerByOwner(await provider.getAddress())
}

/** Registers a fine-tuning service with the least stake, its signer approved by governance. */
export async function registerFineTuning(f: ComputeFixture, provider: Signer, teeSigner: string): Promise<void> {
  const quota = { cpuCount: 1, nodeMemory: 1, gpuCount: 0, nodeStorage: 1, gpuType: '' }
  await f.fineTuning.connect(provider).getFunction('addOrUpdateService')(
    ...['http://127.0.0.1:1', quota, 1n, false, ['demo'], teeSigner],
    { value: 100n * ETHER },
  )
  await f.fineTuning.acknowledgeTEESignerByOwner(await provider.getAddress())
}

/** Opens the user's ledger if need be, and a sub-account with the amount. */
export async function fund(
  f: ComputeFixture,
  user: Signer,
  provider: string,
  amount: bigint,
  service = INFERENCE,
): Promise<void> {
  const ledger = f.ledger.connect(user) as typeof f.ledger
  await ledger.depositFund({ value: amount > 3n * ETHER ? amount : 3n * ETHER })
  await ledger.transferFund(provider, service, amount)
}

export interface VoucherFields {
  user: AnyWallet
  provider: string
  cumulativeFee: bigint
  claim?: bigint
  expiry?: bigint
  generation?: bigint
  /** Who signs, if not the user. */
  signer?: AnyWallet
}

/** A voucher with its signature, as settleVouchers takes it. */
export async function signVoucher(f: ComputeFixture, fields: VoucherFields) {
  const { user, provider, cumulativeFee, claim = cumulativeFee, generation = 0n, signer = user } = fields
  const expiry = fields.expiry ?? 4_000_000_000n
  const domain = {
    name: 'Weightless Inference',
    version: '1',
    chainId: f.chainId,
    verifyingContract: await f.inference.getAddress(),
  }
  const types = {
    Voucher: [
      { name: 'user', type: 'address' },
      { name: 'provider', type: 'address' },
      { name: 'cumulativeFee', type: 'uint128' },
      { name: 'expiry', type: 'uint64' },
      { name: 'generation', type: 'uint64' },
    ],
  }
  const value = { user: user.address, provider, cumulativeFee, expiry, generation }
  const signature = await signer.signTypedData(domain, types, value)
  return { user: user.address, cumulativeFee, claim, expiry, generation, signature }
}

export interface SettlementFields {
  user: string
  provider: string
  totalFee: bigint
  nonce: bigint
  signer: AnyWallet
}

/** A fee signed by a provider's signer, as settleFeesWithTEE takes it. */
export async function signSettlement(f: ComputeFixture, { user, provider, totalFee, nonce, signer }: SettlementFields) {
  const requestsHash = f.connection.ethers.id(`requests of ${user} ${nonce}`)
  const domain = {
    name: '0G Inference Serving',
    version: '1',
    chainId: f.chainId,
    verifyingContract: await f.inference.getAddress(),
  }
  const types = {
    TEESettlement: [
      { name: 'requestsHash', type: 'bytes32' },
      { name: 'nonce', type: 'uint256' },
      { name: 'provider', type: 'address' },
      { name: 'user', type: 'address' },
      { name: 'totalFee', type: 'uint256' },
    ],
  }
  const signature = await signer.signTypedData(domain, types, { requestsHash, nonce, provider, user, totalFee })
  return { user, provider, totalFee, requestsHash, nonce, signature }
}

/** Vouchers as settlePackedVouchers takes them. */
export function packVouchers(f: ComputeFixture, items: Awaited<ReturnType<typeof signVoucher>>[]): string {
  const { ethers } = f.connection
  return ethers.concat(
    items.map(({ user, cumulativeFee, claim, expiry, generation, signature }) =>
      ethers.solidityPacked(
        ['address', 'uint96', 'uint96', 'uint40', 'uint32', 'bytes'],
        [user, cumulativeFee, claim, expiry, generation, ethers.Signature.from(signature).compactSerialized],
      ),
    ),
  )
}
