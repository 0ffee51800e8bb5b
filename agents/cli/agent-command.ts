import { type Command, Option } from 'commander'
import type { z } from 'zod'
import { configHelp, describeConfig } from '#kit/config/describe.ts'
import { type ConfigAlias, loadConfig } from '#kit/config/load.ts'
import { type AgentContext, runAgent } from '#kit/lifecycle.ts'
import { createLog, type Logger, type LogLevel } from '#kit/log.ts'
import type { CliIo } from './io.ts'
import { readOptions } from './options.ts'

/** What every agent's configuration has. */
interface AgentConfig {
  log: { level: LogLevel; file?: string | undefined; pretty?: boolean | undefined }
}

export interface AgentCommandParameters<S extends z.ZodObject> {
  io: CliIo
  /** The agent's group, to which `start` is added: `weightless <agent> start`. */
  group: Command
  /** Shown in logs and in the help: `indexer`. */
  name: string
  /** What `start` does, for the help. */
  description: string
  schema: S
  /** `WEIGHTLESS_INDEXER` lets `WEIGHTLESS_INDEXER_PORT` set `port`. */
  envPrefix: string
  aliases?: Readonly<Record<string, ConfigAlias>> | undefined
  aliasEnvPrefix?: string | undefined
  /** Limit of each closer, in milliseconds. Default 10,000. */
  closeLimitMs?: number | undefined
  /** Starts the agent; closers are registered on `context`. */
  start: (config: z.output<S>, context: AgentContext & { log: Logger }) => Promise<unknown>
}

/**
 * Adds `start` to an agent's group: settings from file, `.env`, environment and flags; a log; a stop on SIGTERM that
 * closes in order. Every setting of the schema is a flag and stands in the help.
 */
export function addStartCommand<S extends z.ZodObject>(parameters: AgentCommandParameters<S>): Command {
  const { group, name, description, schema, envPrefix } = parameters
  const keys = describeConfig(schema, { envPrefix })
  const start = group
    .command('start')
    .description(description)
    .option('--config <file>', 'TOML or JSON file with the settings below')
    .addHelpText('after', () => `\nSettings (file, ${envPrefix}_… in the environment, or flag):\n${configHelp(keys)}`)
    .action(async (_, command: Command) => {
      const options = readOptions<Record<string, unknown> & { config?: string }>(command)
      const warnings: string[] = []
      const config = loadConfig({
        ...{ schema, envPrefix, env: parameters.io.env, cwd: parameters.io.cwd },
        ...{ aliases: parameters.aliases, aliasEnvPrefix: parameters.aliasEnvPrefix },
        file: options.config,
        flags: Object.fromEntries(keys.map(({ key, flag }) => [key, options[optionName(flag)]])),
        onWarning: (warning) => warnings.push(warning),
      })
      const log = createLog({ name, ...(config as unknown as AgentConfig).log })
      for (const warning of warnings) log.warn(warning)
      await runAgent({
        ...{ name, log, closeLimitMs: parameters.closeLimitMs },
        start: (context) => parameters.start(config, { ...context, log }),
      })
    })
  for (const { flag } of keys) start.addOption(new Option(`${flag} <value>`).hideHelp())
  return start
}

/** The name commander stores a flag's value under: `--front-list` becomes `frontList`. */
function optionName(flag: string): string {
  return flag.replace(/^--/, '').replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
}
