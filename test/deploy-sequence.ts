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
} from 'viem'
import { privateKeyToAccount } from 'viem/accounts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** The first of the keys every local chain funds. Worth nothing anywhere else. */
export const FIRST_DEV_KEY = '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80'

/** One contract: its source below `contracts/` without `.sol`, and what its constructor is given. */
export type PlannedDeployment = readonly [source: string, args: readonly unknown[]]

export interface DeploySequenceParameters<Name extends string> {
  /** The chain's JSON-RPC endpoint. */
  url: string
  privateKey?: Hex
  /** The contracts in their order. */
  names: readonly Name[]
  /** Contracts name each other for good, so their addresses are worked out from the nonces beforehand. */
  plan: (addresses: Record<Name, Address>, deployer: Address) => readonly PlannedDeployment[]
}

/**
 * Deploys contracts that name each other on a local chain for a test. The compiled artifacts are built if they are
 * missing.
 */
export async function deploySequence<Name extends string>({
  url,
  privateKey = FIRST_DEV_KEY,
  names,
  plan,
}: DeploySequenceParameters<Name>): Promise<{ addresses: Record<Name, Address>; block: number; deployer: Address }> {
  const account = privateKeyToAccount(privateKey)
  const transport = http(url)
  const reader = createPublicClient({ transport, pollingInterval: 50 })
  const wallet = createWalletClient({ account, transport })
  const first = await reader.getTransactionCount({ address: account.address })
  const addresses = Object.fromEntries(
    names.map((name, index) => [name, getContractAddress({ from: account.address, nonce: BigInt(first + index) })]),
  ) as Record<Name, Address>

  const hashes: Hex[] = []
  for (const [index, [source, args]] of plan(addresses, account.address).entries()) {
    const { abi, bytecode } = await readArtifact(source)
    hashes.push(await wallet.deployContract({ abi, bytecode, args, chain: null, nonce: first + index }))
  }
  let block = Number.POSITIVE_INFINITY
  for (const hash of hashes) {
    const receipt = await reader.waitForTransactionReceipt({ hash, timeout: 30_000 })
    if (receipt.status !== 'success') throw new Error(`deployment ${hash} failed`)
    block = Math.min(block, Number(receipt.blockNumber))
  }
  return { addresses, block, deployer: account.address }
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
