import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { privateKeyToAccount } from 'viem/accounts'
import { type Client, connect } from '#client/connect.ts'
import { connectChain } from '#kit/chain/client.ts'
import { DEV_ACCOUNTS, type LocalChain, startLocalChain } from '#kit/chain/local-chain.ts'
import { WeightlessError } from '#protocol/error.ts'
import { deployWeightless } from '#scripts/deploy/deploy.ts'
import { presets } from '#scripts/deploy/parameters.ts'
import { agentEnvironment } from '#scripts/process/agent-environment.ts'

const CLI = fileURLToPath(new URL('../../agents/cli/main.ts', import.meta.url))

/** A bench could not be set up. Codes `BENCH_NODE`. */
export class StorageBenchError extends WeightlessError {}

/** A chain with the contracts and one storage node, each in a process of its own, and a client in this one. */
export interface StorageSetup {
  readonly chain: LocalChain
  readonly flow: `0x${string}`
  readonly nodeUrl: string
  readonly nodePid: number
  readonly client: Client
  /** A folder on the disk that the node writes to as well. */
  readonly dir: string
  /** Starts a further node of the same network, in a process of its own. */
  addNode(parameters: { name: string; sync: Record<string, unknown> }): Promise<BenchNode>
  stop(): Promise<void>
}

/** A storage node in a process of its own. */
export interface BenchNode {
  readonly url: string
  readonly pid: number
  stop(): Promise<void>
}

/** The key that pays in benches: known to everybody, worth nothing. */
export const BENCH_KEY = DEV_ACCOUNTS[1]?.privateKey ?? '0x'

export async function startStorageSetup({ signal }: { signal: AbortSignal }): Promise<StorageSetup> {
  const dir = await mkdtemp(join(tmpdir(), 'weightless-bench-'))
  const closers: (() => unknown)[] = [() => rm(dir, { recursive: true, force: true })]
  const stop = async () => {
    for (const close of closers.splice(0).toReversed()) await close()
  }
  try {
    const chain = await startLocalChain({ signal })
    closers.push(() => chain.stop())
    const { flow, block } = await deploy(chain)
    const network = { dir, chain, flow, block, signal }
    const addNode: StorageSetup['addNode'] = async (parameters) => {
      const node = await startNode({ ...network, ...parameters })
      closers.push(() => node.stop())
      return node
    }
    const node = await addNode({ name: 'node', sync: { auto: false } })
    const client = await connect({
      rpcUrl: chain.url,
      nodes: [node.url],
      account: privateKeyToAccount(BENCH_KEY),
      journalDir: join(dir, 'journal'),
      limits: { pollIntervalMs: 20 },
    })
    closers.push(() => client.close())
    return { chain, flow, nodeUrl: node.url, nodePid: node.pid, client, dir, addNode, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function startNode({
  dir,
  chain,
  flow,
  block,
  signal,
  name,
  sync,
}: {
  dir: string
  chain: LocalChain
  flow: `0x${string}`
  block: number
  signal: AbortSignal
  name: string
  sync: Record<string, unknown>
}): Promise<BenchNode> {
  const port = await freePort()
  const config = join(dir, `${name}.json`)
  const settings = {
    data: { dir: join(dir, name) },
    chain: { rpcUrls: [chain.url], flow, startBlock: block, confirmations: 0, pollIntervalMs: 50 },
    rpc: { listen: `127.0.0.1:${port}`, listenAdmin: '127.0.0.1:0' },
    sync,
    log: { level: 'warn' },
  }
  await writeFile(config, JSON.stringify(settings))
  const node = spawn(process.execPath, [CLI, 'node', 'start', '--config', config], {
    env: agentEnvironment(),
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  const url = `http://127.0.0.1:${port}`
  try {
    await waitForNode({ url, node, signal })
  } catch (error) {
    await end(node)
    throw error
  }
  return { url, pid: node.pid ?? 0, stop: () => end(node) }
}

async function deploy(local: LocalChain): Promise<{ flow: `0x${string}`; block: number }> {
  const [deployer] = DEV_ACCOUNTS
  if (deployer === undefined) throw new RangeError('no account')
  const chain = await connectChain({ rpcUrls: [local.url], pollingIntervalMs: 20 })
  try {
    const account = privateKeyToAccount(deployer.privateKey)
    const parameters = { ...presets.local, governor: account.address }
    const { contracts, block } = await deployWeightless({ chain, account, parameters })
    return { flow: contracts.Flow, block }
  } finally {
    chain.close()
  }
}

async function waitForNode({
  url,
  node,
  signal,
}: {
  url: string
  node: ChildProcess
  signal: AbortSignal
}): Promise<void> {
  const giveUpAt = Date.now() + 60_000
  while (Date.now() < giveUpAt) {
    signal.throwIfAborted()
    if (node.exitCode !== null) break
    const answers = await fetch(`${url}/healthz`, { signal }).then(
      (response) => response.ok,
      () => false,
    )
    if (answers) return
    await sleep(50)
  }
  throw new StorageBenchError({
    code: 'BENCH_NODE',
    message: 'the storage node did not come up',
    details: { exitCode: node.exitCode },
  })
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  const killer = setTimeout(() => child.kill('SIGKILL'), 20_000)
  await once(child, 'exit')
  clearTimeout(killer)
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address !== null ? address.port : 0
}

/** A file of bytes that do not repeat; the same for the same label. */
export async function writeNoise({
  path,
  sizeBytes,
  label,
}: {
  path: string
  sizeBytes: number
  label: string
}): Promise<void> {
  const file = await open(path, 'w')
  try {
    // A keystream is noise at disk speed.
    const { createCipheriv } = await import('node:crypto')
    const cipher = createCipheriv('aes-256-ctr', createHash('sha256').update(label).digest(), Buffer.alloc(16))
    const zeros = Buffer.alloc(4 << 20)
    for (let left = sizeBytes; left > 0; left -= zeros.length) {
      await file.write(cipher.update(zeros.subarray(0, Math.min(left, zeros.length))))
    }
  } finally {
    await file.close()
  }
}

/** Resident memory of a process in bytes, now; undefined where the system does not tell. */
export async function residentBytes(pid: number): Promise<number | undefined> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(status) ?? []
  return kib === undefined ? undefined : Number(kib) * 1024
}

export const MIB = 2 ** 20

/** MiB/s. */
export function rate(sizeBytes: number, ms: number): number {
  return sizeBytes / MIB / (ms / 1000)
}
