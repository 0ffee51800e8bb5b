import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { identifyProcess, isSameProcess, type ProcessIdentity } from './process-identity.ts'

/** A process of this devnet, written down while it lives. */
interface RecordedProcess extends ProcessIdentity {
  name: string
}

/** Keeps `processes.json` in step with what runs. */
export class ProcessRecord {
  readonly #file: string
  readonly #processes = new Map<string, RecordedProcess>()

  constructor(file: string) {
    this.#file = file
  }

  started({ name, pid }: { name: string; pid: number }): void {
    this.#processes.set(name, { name, ...(identifyProcess(pid) ?? { pid }) })
    this.#write()
  }

  ended(name: string): void {
    this.#processes.delete(name)
    this.#write()
  }

  #write(): void {
    writeFileSync(this.#file, `${JSON.stringify([...this.#processes.values()], null, 1)}\n`)
  }
}

/**
 * Ends what an earlier supervisor of this directory left running. Processes end by themselves when their supervisor is
 * gone, so there is something only in the seconds after it was killed: wait for it, then end it.
 *
 * @returns names of the processes that had to be killed
 */
export async function endLeftovers({
  file,
  waitMs = 20_000,
  say,
}: {
  file: string
  waitMs?: number
  say: (line: string) => void
}): Promise<string[]> {
  const left = readProcesses(file).filter(isSameProcess)
  if (left.length > 0) say(`waiting for what an earlier run left behind: ${left.map(({ name }) => name).join(', ')}`)
  for (const { pid } of left) end({ pid, signal: 'SIGTERM' })
  const giveUpAt = performance.now() + waitMs
  while (left.some(isSameProcess) && performance.now() < giveUpAt) await delay(100)
  const killed = left.filter(isSameProcess)
  for (const { pid } of killed) end({ pid, signal: 'SIGKILL' })
  while (killed.some(isSameProcess)) await delay(50)
  rmSync(file, { force: true })
  return killed.map(({ name }) => name)
}

function end({ pid, signal }: { pid: number; signal: NodeJS.Signals }): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It has ended meanwhile.
  }
}

function readProcesses(file: string): RecordedProcess[] {
  try {
    const list: unknown = JSON.parse(readFileSync(file, 'utf8'))
    if (!Array.isArray(list)) return []
    return list.filter(
      (one): one is RecordedProcess =>
        typeof one === 'object' && one !== null && 'pid' in one && Number.isSafeInteger(one.pid) && 'name' in one,
    )
  } catch {
    return []
  }
}
