import { type Command, Option } from 'commander'
import { configHelp, describeConfig } from '#kit/config/describe.ts'
import { loadConfig } from '#kit/config/load.ts'
import { runAgent } from '#kit/lifecycle.ts'
import { createLog } from '#kit/log.ts'
import {
  NODE_ALIAS_ENV_PREFIX,
  NODE_CONFIG_ALIASES,
  NODE_ENV_PREFIX,
  nodeConfigSchema,
  startNode,
} from '#storage/node/main.ts'
import type { CliIo } from '../io.ts'
import { readOptions } from '../options.ts'

interface StartOptions extends Record<string, unknown> {
  config?: string
}

/** `weightless node start`: runs a storage node until it is told to stop. */
export function register(program: Command, io: CliIo): void {
  const node = program.command('node').description('store segments of files, serve them, and keep them complete')
  const keys = describeConfig(nodeConfigSchema, { envPrefix: NODE_ENV_PREFIX })
  const start = node
    .command('start')
    .description('run a storage node')
    .option('--config <file>', 'TOML or JSON file with the settings below; zgs_node files work too')
    .addHelpText(
      'after',
      () => `\nSettings (file, ${NODE_ENV_PREFIX}_… in the environment, or flag):\n${configHelp(keys)}`,
    )
    .action(async (_, command: Command) => {
      const options = readOptions<StartOptions>(command)
      const warnings: string[] = []
      const flags = Object.fromEntries(keys.map(({ key, flag }) => [key, options[optionName(flag)]]))
      const config = loadConfig({
        schema: nodeConfigSchema,
        file: options.config,
        env: io.env,
        envPrefix: NODE_ENV_PREFIX,
        aliases: NODE_CONFIG_ALIASES,
        aliasEnvPrefix: NODE_ALIAS_ENV_PREFIX,
        flags,
        cwd: io.cwd,
        onWarning: (warning) => warnings.push(warning),
      })
      const log = createLog({ name: 'storage-node', ...config.log })
      for (const warning of warnings) log.warn(warning)
      await runAgent({
        name: 'storage-node',
        log,
        closeLimitMs: 30_000,
        start: async ({ signal, stop, defer }) => {
          const running = await startNode(config, { log, signal, stop: (reason) => stop(reason) })
          defer('node', running.close)
        },
      })
    })
  for (const { flag } of keys) start.addOption(new Option(`${flag} <value>`).hideHelp())
}

/** The name commander stores a flag's value under: `--rpc-listen` becomes `rpcListen`. */
function optionName(flag: string): string {
  return flag.replace(/^--/, '').replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
}
