import path from 'node:path'

/** Where everything of one devnet lies: one directory, so that deleting it deletes the devnet. */
export interface DevnetLayout {
  readonly directory: string
  /** Says that the directory is a devnet's, so that nothing else is ever deleted. */
  readonly markerFile: string
  /** Addresses, URLs and ports, for the command line and for people. */
  readonly devnetFile: string
  /** Which process supervises this directory. */
  readonly supervisorFile: string
  /** Process ids of the agents, so that a later start finds what an earlier one could not end. */
  readonly processesFile: string
  readonly chainDirectory: string
  readonly chainStateFile: string
  readonly deploymentFile: string
  readonly logsDirectory: string
  agentDirectory(name: string): string
  agentConfigFile(name: string): string
  logFile(name: string): string
}

/** The layout below `directory`, which need not exist. */
export function devnetLayout(directory: string): DevnetLayout {
  const root = path.resolve(directory)
  const at = (...parts: string[]) => path.join(root, ...parts)
  return {
    directory: root,
    markerFile: at('DEVNET'),
    devnetFile: at('devnet.json'),
    supervisorFile: at('supervisor.json'),
    processesFile: at('processes.json'),
    chainDirectory: at('chain'),
    chainStateFile: at('chain', 'state.json'),
    deploymentFile: at('deployment.json'),
    logsDirectory: at('logs'),
    agentDirectory: (name) => at(name),
    agentConfigFile: (name) => at(name, 'config.toml'),
    logFile: (name) => at('logs', `${name}.log`),
  }
}
