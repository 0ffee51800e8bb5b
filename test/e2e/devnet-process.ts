import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import type { DevnetFile } from '#scripts/devnet/devnet-file.ts'
import { isSameProcess, type ProcessIdentity } from '#scripts/devnet/process-identity.ts'

export const repository = path.join(import.meta.dirname, '..', '..')
const cli = path.join(repository, 'agents', 'cli', 'main.ts')

/** What `weightless up --json` said when it was ready. */
export type ReadyDevnet = DevnetFile & { directory: string; resumed: boolean }

/** A `weightless up` as a user starts it: a process of its own, in a process group of its own as under a shell. */
export interface UpProcess {
  readonly child: ChildProcess
  readonly ready: ReadyDevnet
  /** Everything it has said on stderr. */
  stderr(): string
  /** What it has told on stdout since it was ready. */
  readonly events: readonly { event: string; name?: string; how?: string }[]
  /** Ctrl-C: the signal goes to the whole foreground group, as a terminal does it. Resolves with the exit code. */
  interrupt(): Promise<number | null>
  /** Resolves with the exit code. */
  readonly exited: Promise<number | null>
}

const readyMs = 150_000

/** Starts `weightless up` and waits until it is ready. */
export async function startUp({
  directory,
  portBase,
  only = 'none',
  args = [],
}: {
  directory: string
  portBase: number
  /** Services besides storage. */
  only?: string
  args?: readonly string[]
}): Promise<UpProcess> {
  const child = spawn(
    process.execPath,
    [
      cli,
      'up',
      '--json',
      '--dir',
      directory,
      '--port-base',
      String(portBase),
      '--timeout',
      '140',
      '--only',
      only,
      ...args,
    ],
    { cwd: repository, env: commandEnvironment(), stdio: ['ignore', 'pipe', 'pipe'], detached: true },
  )
  let stderr = ''
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
  })
  const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)))
  const events: { event: string; name?: string; how?: string }[] = []
  const { promise: isReady, resolve, reject } = Promise.withResolvers<ReadyDevnet>()
  createInterface({ input: child.stdout })
    .on('line', (line) => {
      const message = JSON.parse(line)
      if (message.event === 'ready') resolve(message)
      else if (message.error !== undefined) reject(new Error(`up failed: ${line}`))
      else events.push(message)
    })
    .on('close', () => reject(new Error(`up ended before it was ready: ${stderr}`)))
  const late = delay(readyMs, undefined, { ref: false }).then(() => {
    throw new Error(`up was not ready after ${readyMs} ms: ${stderr}`)
  })
  const ready = await Promise.race([isReady, late]).catch((error: unknown) => {
    if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, 'SIGKILL')
    throw error
  })
  late.catch(() => undefined)
  return {
    child,
    ready,
    stderr: () => stderr,
    events,
    exited,
    interrupt: () => {
      assert.ok(child.pid !== undefined)
      process.kill(-child.pid, 'SIGINT')
      return exited
    },
  }
}

/** A finished command. */
export interface CommandOutcome {
  code: number | null
  stdout: string
  stderr: string
}

/** Runs `weightless` with these arguments to its end. */
export async function weightless(
  args: readonly string[],
  { cwd = repository, env = {} }: { cwd?: string; env?: Record<string, string> } = {},
): Promise<CommandOutcome> {
  const child = spawn(process.execPath, [cli, ...args], {
    cwd,
    env: { ...commandEnvironment(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const outcome = { stdout: '', stderr: '' }
  child.stdout.on('data', (chunk: Buffer) => {
    outcome.stdout += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    outcome.stderr += chunk.toString()
  })
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, ...outcome }
}

/** Runs `weightless … --json`, expects success, and returns its answer. */
export async function weightlessJson(args: readonly string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await weightless([...args, '--json'])
  assert.equal(code, 0, `weightless ${args.join(' ')} failed:\n${stdout}${stderr}`)
  return JSON.parse(stdout)
}

/** Processes of a devnet that live, as it wrote them down. */
export function devnetProcesses(directory: string): (ProcessIdentity & { name: string })[] {
  const list: (ProcessIdentity & { name: string })[] = JSON.parse(
    readFileSync(path.join(directory, 'processes.json'), 'utf8'),
  )
  return list.filter(isSameProcess)
}

/** Waits until `condition` holds; fails after `limitMs`. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  limitMs = 60_000,
): Promise<void> {
  const giveUpAt = performance.now() + limitMs
  while (!(await condition())) {
    assert.ok(performance.now() < giveUpAt, `waited ${limitMs} ms for: ${what}`)
    await delay(20)
  }
}

/** A port range of its own for each test process; `up` moves on from ports that are taken. */
export function testPortBase(offset = 0): number {
  return 30_000 + (process.pid % 200) * 100 + offset
}

/** Settings of the shell that runs the tests must not reach the commands under test. */
function commandEnvironment(): Record<string, string | undefined> {
  const foreign = /^(WEIGHTLESS_|NODE_TEST_|npm_)/
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name)))
}
