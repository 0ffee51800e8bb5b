import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A fresh folder, removed when the scope ends. */
export async function scratchFolder(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'weightless-kit-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

/** Runs TypeScript source in its own process, where `#kit/…` imports work. */
export function runSource(source: string, { env = {} }: { env?: Record<string, string> } = {}): ChildProcess {
  const flags = ['--input-type=module-typescript', '--eval', source]
  const stdio: 'pipe'[] = ['pipe', 'pipe', 'pipe']
  return spawn(process.execPath, flags, {
    cwd: join(import.meta.dirname, '../../..'),
    env: { ...process.env, ...env },
    stdio,
  })
}

/** Waits for the process to end, gathering what it wrote; kills it after the limit. */
export async function ended(
  child: ChildProcess,
  { limitMs = 20_000 }: { limitMs?: number } = {},
): Promise<{ code: number | null; signal: NodeJS.Signals | null; output: string }> {
  let output = ''
  child.stdout?.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  child.stderr?.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  const timer = setTimeout(() => child.kill('SIGKILL'), limitMs)
  try {
    const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
    return { code, signal, output }
  } finally {
    clearTimeout(timer)
  }
}

/** Resolves once the process has written `text` to its standard output. */
export async function wrote(child: ChildProcess, text: string): Promise<void> {
  let seen = ''
  for await (const chunk of child.stdout?.iterator({ destroyOnReturn: false }) ?? []) {
    seen += String(chunk)
    if (seen.includes(text)) return
  }
  throw new Error(`the process ended without writing ${text}: ${seen}`)
}

/** A seed for the faults of a test: `SEED` from the environment or a new one, printed so that a failure can be repeated. */
export function printedSeed(print: (line: string) => void): { seed: number; next: (below: number) => number } {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
  print(`SEED=${seed}`)
  let state = seed
  return {
    seed,
    next(below) {
      // Lehmer's generator with Park and Miller's constants: enough to choose moments.
      state = (state * 48_271 + 11) % 0x7fffffff
      return state % below
    },
  }
}
