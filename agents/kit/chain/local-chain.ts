import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, mkdtempSync, rmSync, type WriteStream } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { WeightlessError } from '#protocol/error.ts'
import { DEV_ACCOUNTS, type DevAccount } from './dev-accounts.ts'

export { DEV_ACCOUNTS, type DevAccount } from './dev-accounts.ts'

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
  /** The funded development accounts. */
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

/** The development chain could not be started or refused a call. */
export class LocalChainError extends WeightlessError {}

/** The chain id of a development chain; the only one on which {@link DEV_ACCOUNTS} may be used. */
export const LOCAL_CHAIN_ID = 31337

const MAX_KEPT_OUTPUT_CHARS = 8192
/** States of blocks that can be asked for behind those in memory; each takes up to half a megabyte of disk. */
const MAX_OLD_STATES = 4_000
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
  // Left to itself it keeps the states of old blocks in the user's home, some 300 MB an hour, and never removes them.
  const oldStates = mkdtempSync(join(tmpdir(), 'weightless-chain-'))
  const options = [...anvilArguments({ ...parameters, host, chainId }), '--cache-path', oldStates]
  const child = spawn(anvilBinary(), options, { stdio: ['ignore', 'pipe', 'pipe'] })
  const output = collectOutput(child, logPath)
  const exited = new Promise<void>((resolve) => {
    const over = () => {
      rmSync(oldStates, { recursive: true, force: true, maxRetries: 3 })
      resolve()
    }
    child.once('exit', over)
    child.once('error', over)
  })

  const killNow = () => {
    child.kill('SIGKILL')
    rmSync(oldStates, { recursive: true, force: true, maxRetries: 3 })
  }
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
  result.push('--accounts', String(DEV_ACCOUNTS.length), '--max-persisted-states', String(MAX_OLD_STATES))
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
