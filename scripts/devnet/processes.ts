import { mkdirSync } from 'node:fs'
import { agentEnvironment } from '../process/agent-environment.ts'
import type { DevnetLayout } from './layout.ts'
import { ProcessRecord } from './leftovers.ts'
import { type ProcessEvent, type SupervisedProcess, superviseProcess } from './supervised-process.ts'

const stopLimitMs = 25_000

/** The processes of one devnet, written down while they live. */
export class DevnetProcesses {
  readonly #layout: DevnetLayout
  readonly #record: ProcessRecord
  readonly #onProcess: (event: ProcessEvent) => void
  readonly #started: SupervisedProcess[] = []

  constructor({ layout, onProcess }: { layout: DevnetLayout; onProcess: (event: ProcessEvent) => void }) {
    this.#layout = layout
    this.#record = new ProcessRecord(layout.processesFile)
    this.#onProcess = onProcess
  }

  /** Starts Node with these arguments, in the folder of that name, and keeps it running. */
  start(name: string, args: readonly string[]): SupervisedProcess {
    const cwd = this.#layout.agentDirectory(name)
    mkdirSync(cwd, { recursive: true })
    const logFile = this.#layout.logFile(name)
    const supervised = superviseProcess({
      plan: { name, args, cwd, env: agentEnvironment(), logFile, stopLimitMs },
      onEvent: (event) => {
        if (event.type === 'started') this.#record.started(event)
        if (event.type === 'ended') this.#record.ended(event.name)
        this.#onProcess(event)
      },
    })
    this.#started.push(supervised)
    return supervised
  }

  /** Agents first, so that none of them sees the chain go away. */
  async stop(): Promise<void> {
    const [chain, ...agents] = this.#started
    await Promise.all(agents.map((agent) => agent.stop()))
    await chain?.stop()
  }
}

/** How a process does, in words; undefined while there is nothing to say. */
export function stateOf({ pid, restarts, lastEnd }: SupervisedProcess): string | undefined {
  if (lastEnd === undefined) return undefined
  return `${pid === undefined ? 'not running' : 'running'}, last ended with ${lastEnd}, started again ${restarts} times`
}
