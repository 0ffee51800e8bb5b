import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { ethers } from 'ethers'
import { DEV_ACCOUNTS } from '../chain.ts'

const SERVE = fileURLToPath(new URL('./serve-network.ts', import.meta.url))
const CLOSE_LIMIT_MS = 20_000

/** Storage nodes that together keep the flow, and the indexer that knows them. */
export interface GroupAddresses {
  /** As `0/2`. */
  shards: string[]
  nodes: string[]
  indexerUrl: string
  frontUrl: string
}

/** A chain, the contracts, and groups of nodes that all follow the same flow. */
export interface NetworkAddresses {
  rpcUrl: string
  flow: string
  market: string
  /** Wei, as text. */
  pricePerSector: string
  groups: GroupAddresses[]
}

export interface Network extends NetworkAddresses {
  /** A folder for the test's files. */
  folder: string
  /** The group of this number. */
  group(number: number): GroupAddresses
  close(): Promise<void>
}

/**
 * Starts a network in its own process. `groups` gives the shards of each: `[['0/1'], ['0/2', '1/2']]` makes a group of
 * one node and a group of two.
 */
export async function startNetwork({ groups }: { groups: string[][] }): Promise<Network> {
  const folder = await mkdtemp(join(tmpdir(), 'weightless-compat-'))
  const child = spawn(process.execPath, [SERVE, folder, JSON.stringify(groups)], { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const close = async (): Promise<void> => {
    child.stdin.end()
    const timer = setTimeout(() => child.kill('SIGKILL'), CLOSE_LIMIT_MS)
    await ended
    clearTimeout(timer)
    await rm(folder, { recursive: true, force: true })
  }
  const lines = createInterface({ input: child.stdout })
  const first = once(lines, 'line').then(([line]) => String(line))
  const failed = ended.then(([code]) => Promise.reject(new Error(`the network ended with code ${code}`)))
  failed.catch(() => {})
  try {
    const addresses = JSON.parse(await Promise.race([first, failed])) as NetworkAddresses
    const group = (number: number): GroupAddresses => {
      const found = addresses.groups[number]
      if (found === undefined) throw new Error(`there is no group ${number}`)
      return found
    }
    return { ...addresses, folder, group, close }
  } catch (error) {
    await close()
    throw error
  }
}

/** Funded accounts as ethers signers, lent one at a time, so that parallel transactions do not share nonces. */
export class Signers {
  readonly #free: ethers.Wallet[]
  readonly #waiting: ((wallet: ethers.Wallet) => void)[] = []
  readonly #provider: ethers.JsonRpcProvider

  constructor(url: string) {
    this.#provider = new ethers.JsonRpcProvider(url, undefined, { cacheTimeout: -1 })
    this.#provider.pollingInterval = 50
    // The first account deployed the contracts.
    this.#free = DEV_ACCOUNTS.slice(1).map(({ privateKey }) => new ethers.Wallet(privateKey, this.#provider))
  }

  /** Runs `work` with an account that nobody else uses meanwhile. */
  async use<T>(work: (signer: ethers.Wallet) => Promise<T>): Promise<T> {
    const wallet = this.#free.pop() ?? (await new Promise<ethers.Wallet>((resolve) => this.#waiting.push(resolve)))
    try {
      return await work(wallet)
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#free.push(wallet)
      else next(wallet)
    }
  }

  close(): void {
    this.#provider.destroy()
  }
}

/** Bytes that repeat nowhere, the same for the same seed. */
export function seededBytes(sizeBytes: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(sizeBytes / 4) * 4)
  const words = new Uint32Array(bytes.buffer)
  let state = (seed * 0x9e3779b1) >>> 0 || 1
  for (let i = 0; i < words.length; i += 1) {
    state ^= state << 13
    state ^= state >>> 17
    state = (state ^ (state << 5)) >>> 0
    words[i] = state
  }
  return bytes.subarray(0, sizeBytes)
}
