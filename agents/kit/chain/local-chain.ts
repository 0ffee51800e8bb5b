import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, type WriteStream } from 'node:fs'
import { createRequire } from 'node:module'
import { finished } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { WeightlessError } from '#protocol/error.ts'

/**
 * A development chain on this machine: anvil (Foundry), started as a child of this process. For the devnet and for
 * tests; never for money. Its accounts come from the publicly known test mnemonic.
 */
export interface LocalChain {
  /** `http://127.0.0.1:PORT`, JSON-RPC over HTTP and WebSocket. */
  readonly url: string
  readonly port: number
  readonly pid: number
  readonly chainId: number
  /** The ten funded development accounts. */
  readonly accounts: readonly DevAccount[]
  /** One raw JSON-RPC call; rejects with {@link LocalChainError} carrying the answer's error. */
  rpc(method: string, params?: readonly unknown[]): Promise<unknown>
  /** Ends the chain (it writes `statePath` first) and waits until the process is gone. May be called again. */
  stop(): Promise<void>
  /** Settles when the process is gone, whoever ended it. */
  readonly exited: Promise<void>
}

export interface LocalChainParameters {
  /** Further anvil arguments, after ours. */
  args?: readonly string[] | undefined
  /** Mine a block each so many seconds; left out, a block per transaction. May be a fraction. */
  blockTimeSeconds?: number | undefined
  /** With `blockTimeSeconds`: also mine at once when a transaction comes in. */
  mixedMining?: boolean | undefined
  /** Default 31337. */
  chainId?: number | undefined
  /** A JSON file: loaded at the start where it exists, written at the end. */
  statePath?: string | undefined
  /** Default 127.0.0.1. The chain has unlocked accounts: keep it on loopback. */
  host?: string | undefined
  /** Default 0: the system picks a free one. */
  port?: number | undefined
  /** What anvil prints goes to this file; left out, it is dropped (save the last lines, for errors). */
  logPath?: string | undefined
  /** How long the chain may take to answer. Default 30 000. */
  timeoutMs?: number | undefined
  /** Ends the chain when aborted. */
  signal?: AbortSignal | undefined
}

/** A development account: anyone knows its key. */
export interface DevAccount {
  readonly address: `0x${string}`
  readonly privateKey: `0x${string}`
}

/** The development chain could not be started or refused a call. */
export class LocalChainError extends WeightlessError {}

/** The chain id of a development chain; the only one on which {@link DEV_ACCOUNTS} may be used. */
export const LOCAL_CHAIN_ID = 31337

/** The accounts of the mnemonic `test test test test test test test test test test test junk`, funded by anvil. */
export const DEV_ACCOUNTS: readonly DevAccount[] = [
  {
    address: '0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266',
    privateKey: '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80',
  },
  {
    address: '0x70997970C51812dc3A010C7d01b50e0d17dc79C8',
    privateKey: '0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d',
  },
  {
    address: '0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC',
    privateKey: '0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a',
  },
  {
    address: '0x90F79bf6EB2c4f870365E785982E1f101E93b906',
    privateKey: '0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6',
  },
  {
    address: '0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65',
    privateKey: '0x47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a',
  },
  {
    address: '0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc',
    privateKey: '0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba',
  },
  {
    address: '0x976EA74026E726554dB657fA54763abd0C3a0aa9',
    privateKey: '0x92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e',
  },
  {
    address: '0x14dC79964da2C08b23698B3D3cc7Ca32193d9955',
    privateKey: '0x4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356',
  },
  {
    address: '0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f',
    privateKey: '0xdbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97',
  },
  {
    address: '0xa0Ee7A142d267C1f36714E4a8F75612F20a79720',
    privateKey: '0x2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6',
  },
]

const MAX_KEPT_OUTPUT_CHARS = 8192
const STOP_GRACE_MS = 15_000
const RPC_TIMEOUT_MS = 30_000

/**
 * Starts anvil and waits until it answers.
 *
 * @throws {@link LocalChainError} `LOCAL_CHAIN_MISSING` (no binary for this platform), `LOCAL_CHAIN_START` (it ended or
 * did not answer in time; the last lines it printed are in `details.output`).
 *
 * @example
 * const chain = await startLocalChain({ blockTimeSeconds: 1, mixedMining: true })
 * await chain.rpc('eth_blockNumber') // '0x0'
 * await chain.stop()
 */
export async function startLocalChain(parameters: LocalChainParameters = {}): Promise<LocalChain> {
  const { host = '127.0.0.1', chainId = LOCAL_CHAIN_ID, timeoutMs = 30_000, logPath, signal } = parameters
  signal?.throwIfAborted()
  const child = spawn(anvilBinary(), anvilArguments({ ...parameters, host, chainId }), {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = collectOutput(child, logPath)
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve())
    child.once('error', () => resolve())
  })

  const killNow = () => child.kill('SIGKILL')
  process.once('exit', killNow)
  const stop = async () => {
    signal?.removeEventListener('abort', stop)
    if (child.exitCode === null && child.signalCode === null && child.pid !== undefined) {
      child.kill('SIGTERM')
      const timer = setTimeout(killNow, STOP_GRACE_MS)
      await exited
      clearTimeout(timer)
    }
    process.removeListener('exit', killNow)
    await output.close()
  }
  signal?.addEventListener('abort', stop, { once: true })

  try {
    const port = await waitForPort({ child, output, exited, timeoutMs })
    const url = `http://${host.includes(':') ? `[${host}]` : host}:${port}`
    const rpc = rpcCaller(url)
    const answered = Number(await rpc('eth_chainId'))
    if (answered !== chainId) {
      throw new LocalChainError({
        code: 'LOCAL_CHAIN_START',
        message: `the chain at ${url} has id ${answered}, not ${chainId}`,
        fix: 'remove --chain-id from args, or the state file of another chain',
      })
    }
    return { url, port, pid: child.pid ?? 0, chainId, accounts: DEV_ACCOUNTS, rpc, stop, exited }
  } catch (error) {
    await stop()
    throw error
  }
}

function anvilArguments(parameters: LocalChainParameters & { host: string; chainId: number }): string[] {
  const { host, port = 0, chainId, blockTimeSeconds, mixedMining, statePath, args = [] } = parameters
  const result = ['--host', host, '--port', String(port), '--chain-id', String(chainId)]
  if (blockTimeSeconds !== undefined) result.push('--block-time', String(blockTimeSeconds))
  if (mixedMining) result.push('--mixed-mining')
  if (statePath !== undefined) result.push('--state', statePath)
  return [...result, ...args]
}

/**
 * The platform's own binary rather than the package's launcher: a launcher killed with SIGKILL would leave the chain
 * running.
 */
function anvilBinary(): string {
  const arch = process.arch === 'x64' ? 'amd64' : process.arch
  const file = process.platform === 'win32' ? 'anvil.exe' : 'anvil'
  const name = `@foundry-rs/anvil-${process.platform}-${arch}`
  try {
    const launcher = createRequire(import.meta.url).resolve('@foundry-rs/anvil/package.json')
    return createRequire(launcher).resolve(`${name}/bin/${file}`)
  } catch (cause) {
    throw new LocalChainError({
      code: 'LOCAL_CHAIN_MISSING',
      message: `the local chain's binary ${name} is not installed`,
      fix: 'run `npm ci` (with optional dependencies), or point the agents at a chain with --rpc-url',
      cause,
    })
  }
}

interface Output {
  readonly text: string
  onLine(listener: (line: string) => void): void
  close(): Promise<void>
}

function collectOutput(child: ChildProcess, logPath: string | undefined): Output {
  const listeners: ((line: string) => void)[] = []
  let file: WriteStream | undefined = logPath === undefined ? undefined : createWriteStream(logPath, { flags: 'a' })
  // A full disk must not take the chain down with it: the log is dropped instead.
  file?.on('error', () => {
    file = undefined
  })
  let kept = ''
  let partial = ''
  const take = (chunk: Buffer) => {
    file?.write(chunk)
    const text = chunk.toString('utf8')
    kept = (kept + text).slice(-MAX_KEPT_OUTPUT_CHARS)
    if (listeners.length === 0) return
    const lines = (partial + text).split('\n')
    partial = (lines.pop() ?? '').slice(-MAX_KEPT_OUTPUT_CHARS)
    for (const line of lines) for (const listener of listeners) listener(line)
  }
  child.stdout?.on('data', take)
  child.stderr?.on('data', take)
  return {
    get text() {
      return kept
    },
    onLine: (listener) => listeners.push(listener),
    close: async () => {
      listeners.length = 0
      const open = file
      file = undefined
      if (open === undefined) return
      open.end()
      await finished(open).catch(() => undefined)
    },
  }
}

async function waitForPort(parameters: {
  child: ChildProcess
  output: Output
  exited: Promise<void>
  timeoutMs: number
}): Promise<number> {
  const { child, output, exited, timeoutMs } = parameters
  const failed = (why: string, cause?: unknown) =>
    new LocalChainError({
      code: 'LOCAL_CHAIN_START',
      message: `the local chain ${why}`,
      fix: 'read details.output; a port in use or a state file of another version are the usual causes',
      details: { output: output.text.trim().slice(-2048), exitCode: child.exitCode },
      cause,
    })
  const abort = new AbortController()
  const spawnError = once(child, 'error', { signal: abort.signal }).then(
    ([cause]) => {
      throw failed('could not be started', cause)
    },
    () => new Promise<never>(() => {}),
  )
  try {
    return await Promise.race([
      new Promise<number>((resolve) => {
        output.onLine((line) => {
          const match = /Listening on .*:(\d+)\s*$/.exec(line)
          if (match) resolve(Number(match[1]))
        })
      }),
      spawnError,
      exited.then(() => {
        throw failed('ended while starting')
      }),
      delay(timeoutMs, undefined, { signal: abort.signal }).then(() => {
        throw failed(`did not answer within ${timeoutMs} ms`)
      }),
    ])
  } finally {
    abort.abort()
  }
}

function rpcCaller(url: string): LocalChain['rpc'] {
  let id = 0
  return async (method, params = []) => {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id: ++id, method, params }),
      signal: AbortSignal.timeout(RPC_TIMEOUT_MS),
    })
    const answer = (await response.json()) as { result?: unknown; error?: { code: number; message: string } }
    if (answer.error !== undefined) {
      throw new LocalChainError({
        code: 'LOCAL_CHAIN_RPC',
        message: `${method}: ${answer.error.message}`,
        details: { method, error: answer.error },
      })
    }
    return answer.result
  }
}
