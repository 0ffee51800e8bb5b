import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { ProxyBenchError } from './proxy-load.ts'

const CHILD = fileURLToPath(new URL('./proxy-child.ts', import.meta.url))
/** A process that takes longer to end is killed. */
const STOP_MS = 10_000

/** Starts a role of `proxy-child.ts` in a process of its own, adds it to `children`, and gives its address. */
export async function startChild(children: ChildProcess[], parameters: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, [CHILD, ...parameters], { stdio: ['ignore', 'pipe', 'inherit'] })
  children.push(child)
  const lines = createInterface({ input: child.stdout })
  for await (const line of lines) {
    lines.close()
    child.stdout.resume()
    return line
  }
  throw new ProxyBenchError({ code: 'BENCH_PROXY', message: `the ${parameters[0]} process ended at its start` })
}

/** Ends a process, whether or not something else has ended it already. */
export async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
  await exited
  clearTimeout(timer)
}
