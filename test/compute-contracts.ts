import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import {
  type Abi,
  type Address,
  createPublicClient,
  createWalletClient,
  getContractAddress,
  type Hex,
  http,
  parseEther,
  zeroAddress,
} from 'viem'
import { privateKeyToAccount } from 'viem/accounts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** The first of the keys every local chain funds. Worth nothing anywhere else. */
const FIRST_DEV_KEY = '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80'

/** Nonces of the first dev key at which public clients expect the three contracts on chain 31337. */
const KNOWN_NONCES = { ledger: 2, inference: 6, fineTuning: 12 } as const

/** What {@link deployComputeContracts} put on the chain. */
export interface ComputeContracts {
  governance: Address
  ledger: Address
  inference: Address
  fineTuning: Address
  /** Where providers' stakes lie. */
  stakes: Address
  /** Where users and providers agree on terms of fine-tuning tasks. */
  taskBook: Address
  /** Block of the first deployment: nothing of these contracts happened before it. */
  block: number
  /** The account that deployed them and governs them without delay. */
  deployer: Address
}

export interface DeployComputeContractsParameters {
  /** The chain's JSON-RPC endpoint. */
  url: string
  /** Wei, default 3 tokens. */
  minAccountBalanceWei?: bigint
  /** Wei, default 1 token. */
  minTransferAmountWei?: bigint
  /** Wei, default 100 tokens. */
  minProviderStakeWei?: bigint
  /** How long refunds are locked, default a day. */
  lockTimeSeconds?: number
  /** Shortest lock time that governance can set, default an hour, or the lock time where that is less. */
  minLockTimeSeconds?: number
  /** How long stakes unbond, default a week. */
  unbondingSeconds?: number
  /** What an unacknowledged deliverable pays, default 30 per cent. */
  penaltyPercentage?: number
  /** Who deploys and governs, default the first dev key. */
  privateKey?: Hex
}

/**
 * Deploys the compute contracts on a local chain for a test. When the deployer is the first dev key and has sent fewer
 * than three transactions, the contracts stand where public clients look for them on chain 31337. The compiled
 * artifacts are built if they are missing.
 *
 * @example
 * const { ledger, inference } = await deployComputeContracts({ url: anvil.url })
 */
export async function deployComputeContracts({
  url,
  minAccountBalanceWei = parseEther('3'),
  minTransferAmountWei = parseEther('1'),
  minProviderStakeWei = parseEther('100'),
  lockTimeSeconds = 86_400,
  minLockTimeSeconds = Math.min(3_600, lockTimeSeconds),
  unbondingSeconds = 7 * 86_400,
  penaltyPercentage = 30,
  privateKey = FIRST_DEV_KEY,
}: DeployComputeContractsParameters): Promise<ComputeContracts> {
  const account = privateKeyToAccount(privateKey)
  const transport = http(url)
  const reader = createPublicClient({ transport, pollingInterval: 50 })
  const wallet = createWalletClient({ account, transport })
  const first = await reader.getTransactionCount({ address: account.address })

  // Everything else stands at the nonces between those that clients know; what is left of them is filled.
  const shift = first <= KNOWN_NONCES.ledger ? 0 : first - KNOWN_NONCES.ledger
  const nonces = {
    ledger: KNOWN_NONCES.ledger + shift,
    governance: 3 + shift,
    stakes: 4 + shift,
    taskBook: 5 + shift,
    inference: KNOWN_NONCES.inference + shift,
    fineTuning: KNOWN_NONCES.fineTuning + shift,
  }
  const at = (nonce: number) => getContractAddress({ from: account.address, nonce: BigInt(nonce) })
  const governance = at(nonces.governance)
  const ledger = at(nonces.ledger)
  const inference = at(nonces.inference)
  const fineTuning = at(nonces.fineTuning)
  const stakes = at(nonces.stakes)
  const taskBook = at(nonces.taskBook)

  const serving = {
    authority: governance,
    ledger,
    minProviderStake: minProviderStakeWei,
    stakes,
    lockTime: BigInt(lockTimeSeconds),
    minLockTime: BigInt(minLockTimeSeconds),
  }
  const services = [
    registration({ serviceType: 'inference', serviceAddress: inference }),
    registration({ serviceType: 'fine-tuning', serviceAddress: fineTuning }),
  ]
  const deployments = new Map<number, readonly [source: string, args: readonly unknown[]]>([
    [nonces.ledger, ['compute/LedgerManager', [governance, minAccountBalanceWei, minTransferAmountWei, services]]],
    [nonces.governance, ['governance/Governance', [account.address, account.address, 0, [ledger]]]],
    [nonces.stakes, ['compute/ProviderStakes', [governance, BigInt(unbondingSeconds)]]],
    [nonces.taskBook, ['compute/TaskBook', [fineTuning]]],
    [nonces.inference, ['compute/InferenceServing', [serving]]],
    [nonces.fineTuning, ['compute/FineTuningServing', [serving, taskBook, BigInt(penaltyPercentage)]]],
  ])

  const hashes: Hex[] = []
  const deployed: Hex[] = []
  for (let nonce = first; nonce <= nonces.fineTuning; nonce++) {
    const deployment = deployments.get(nonce)
    if (deployment === undefined) {
      hashes.push(await wallet.sendTransaction({ to: zeroAddress, chain: null, nonce }))
      continue
    }
    const [source, args] = deployment
    const { abi, bytecode } = await readArtifact(source)
    const hash = await wallet.deployContract({ abi, bytecode, args, chain: null, nonce })
    hashes.push(hash)
    deployed.push(hash)
  }
  let block = Number.POSITIVE_INFINITY
  for (const hash of hashes) {
    const receipt = await reader.waitForTransactionReceipt({ hash, timeout: 30_000 })
    if (receipt.status !== 'success') throw new Error(`deployment ${hash} failed`)
    if (deployed.includes(hash)) block = Math.min(block, Number(receipt.blockNumber))
  }
  return { governance, ledger, inference, fineTuning, stakes, taskBook, block, deployer: account.address }
}

function registration({ serviceType, serviceAddress }: { serviceType: string; serviceAddress: Address }) {
  return { serviceType, version: 'v1.0', serviceAddress, description: '', recommended: true }
}

async function readArtifact(source: string): Promise<{ abi: Abi; bytecode: Hex }> {
  const name = source.slice(source.lastIndexOf('/') + 1)
  const path = join(ROOT, 'artifacts', 'contracts', `${source}.sol`, `${name}.json`)
  const text = await readFile(path, 'utf8').catch(async () => {
    await build()
    return await readFile(path, 'utf8')
  })
  return JSON.parse(text) as { abi: Abi; bytecode: Hex }
}

async function build(): Promise<void> {
  const hardhat = join(ROOT, 'node_modules', 'hardhat', 'dist', 'src', 'cli.js')
  await promisify(execFile)(process.execPath, [hardhat, 'build', '--quiet'], { cwd: ROOT })
}
