import { type Command, Option } from 'commander'
import { configHelp, describeConfig } from '#kit/config/describe.ts'
import { loadConfig } from '#kit/config/load.ts'
import { runAgent } from '#kit/lifecycle.ts'
import { createLog } from '#kit/log.ts'
import { indexerConfigSchema, startIndexer } from '#storage/indexer/main.ts'
import type { CliIo } from '../io.ts'
import { readOptions } from '../options.ts'

const ENV_PREFIX = 'WEIGHTLESS_INDEXER'

interface StartOptions extends Record<string, unknown> {
  config?: string
}

/** `weightless indexer start`: runs an indexer until it is told to stop. */
export function register(program: Command, io: CliIo): void {
  const indexer = program
    .command('indexer')
    .description('tell clients which storage nodes to use, and serve files over HTTP')
  const keys = describeConfig(indexerConfigSchema, { envPrefix: ENV_PREFIX })
  const start = indexer
    .command('start')
    .description('run an indexer')
    .option('--config <file>', 'TOML or JSON file with the settings below')
    .addHelpText('after', () => `\nSettings (file, ${ENV_PREFIX}_… in the environment, or flag):\n${configHelp(keys)}`)
    .action(async (_, command: Command) => {
      const options = readOptions<StartOptions>(command)
      const warnings: string[] = []
      const flags = Object.fromEntries(keys.map(({ key, flag }) => [key, options[optionName(flag)]]))
      const config = loadConfig({
        schema: indexerConfigSchema,
        file: options.config,
        env: io.env,
        envPrefix: ENV_PREFIX,
        flags,
        cwd: io.cwd,
        onWarning: (warning) => warnings.push(warning),
      })
      const log = createLog({ name: 'indexer', ...config.log })
      for (const warning of warnings) log.warn(warning)
      await runAgent({
        name: 'indexer',
        log,
        start: async ({ defer }) => {
          const running = await startIndexer(config, { log })
          defer('indexer', running.close)
          const { url, frontUrl } = running
          log.info({ url, frontUrl, trusted: config.nodes.length }, 'the indexer serves')
        },
      })
    })
  for (const { flag } of keys) start.addOption(new Option(`${flag} <value>`).hideHelp())
}

/** The name commander stores a flag's value under: `--front-list` becomes `frontList`. */
function optionName(flag: string): string {
  return flag.replace(/^--/, '').replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
}
