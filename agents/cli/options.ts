import { type Command, Option } from 'commander'

/** Flags every command understands, before or after the command's name. */
export interface GlobalOptions {
  json?: boolean
  quiet?: boolean
  verbose?: boolean
  network?: string
  rpc?: string
  indexer?: string
  node?: string[]
  flow?: string
}

/** The global flags, made anew for each command because commander keeps state in them. */
export function globalOptions(): Option[] {
  return [
    new Option('--json', 'print one JSON object on stdout, no progress'),
    new Option('-q, --quiet', 'print only results, warnings and errors'),
    new Option('-v, --verbose', 'say more, with stack traces of errors'),
    new Option('--no-color', 'no colours (also: NO_COLOR=1)'),
    new Option('--network <name>', 'a network of the config file, or a file like .weightless/devnet.json'),
    new Option('--rpc <url>', 'JSON-RPC endpoint of the chain'),
    new Option('--indexer <url>', 'indexer that knows the storage nodes'),
    new Option('--node <url...>', 'storage nodes to use instead of an indexer'),
    new Option('--flow <address>', 'Flow contract'),
  ]
}

/**
 * Give `command` and everything below it the global flags, hidden from their help, except where the command defines a
 * flag of that name itself (an agent's `--rpc` is its own).
 */
export function addGlobalOptions(command: Command): void {
  const taken = new Set(command.options.flatMap((option) => [option.long, option.short]))
  for (const option of globalOptions()) {
    if (taken.has(option.long) || (option.short !== undefined && taken.has(option.short))) continue
    command.addOption(option.hideHelp())
  }
  for (const child of command.commands) addGlobalOptions(child)
}

/** The command's own options over those given before its name. */
export function readOptions<T extends object>(command: Command): T & GlobalOptions {
  const merged: Record<string, unknown> = {}
  for (let at: Command | null = command; at !== null; at = at.parent) {
    for (const [name, value] of Object.entries(at.opts())) merged[name] ??= value
  }
  return merged as T & GlobalOptions
}
