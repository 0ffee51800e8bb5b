import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { stringify } from 'smol-toml'
import { checkHealthz, type HealthTarget } from './health.ts'
import type { DevnetLayout } from './layout.ts'
import { type DevnetProcesses, stateOf } from './processes.ts'

const cli = path.join(import.meta.dirname, '..', '..', 'agents', 'cli', 'main.ts')

/** The address that everything of a devnet listens on. */
export const devnetHost = '127.0.0.1'

/** Where something listens, as others reach it. */
export function localUrl(port: number): string {
  return `http://${devnetHost}:${port}`
}

/** One agent of a devnet, configured as an operator would. */
export interface DevnetAgent {
  name: string
  /** Its group on the command line: `node` for `weightless node start`. */
  command: string
  /** Where `/healthz` answers. */
  port: number
  /** The settings, as its configuration file holds them. */
  config: Record<string, unknown>
  /** What must hold besides being healthy. */
  alsoCheck?: (signal: AbortSignal) => Promise<void>
}

/** Writes the agent's configuration and starts it. */
export function startAgent({
  layout,
  processes,
  agent: { name, command, port, config, alsoCheck },
}: {
  layout: DevnetLayout
  processes: DevnetProcesses
  agent: DevnetAgent
}): HealthTarget {
  mkdirSync(layout.agentDirectory(name), { recursive: true })
  const head = '# Written by `weightless up` at every start: changes made here are lost.\n'
  writeFileSync(layout.agentConfigFile(name), head + stringify(config))
  const supervised = processes.start(name, [cli, command, 'start', '--config', layout.agentConfigFile(name)])
  return {
    name,
    check: async (signal) => {
      await checkHealthz({ url: localUrl(port), signal })
      await alsoCheck?.(signal)
    },
    processState: () => stateOf(supervised),
    logFile: layout.logFile(name),
  }
}
