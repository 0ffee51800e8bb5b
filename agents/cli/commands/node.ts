import type { Command } from 'commander'
import {
  NODE_ALIAS_ENV_PREFIX,
  NODE_CONFIG_ALIASES,
  NODE_ENV_PREFIX,
  nodeConfigSchema,
  startNode,
} from '#storage/node/main.ts'
import { addStartCommand } from '../agent-command.ts'
import type { CliIo } from '../io.ts'

/** `weightless node start`: runs a storage node until it is told to stop. */
export function register(program: Command, io: CliIo): void {
  const group = program.command('node').description('store segments of files, serve them, and keep them complete')
  addStartCommand({
    ...{ io, group, name: 'storage-node', schema: nodeConfigSchema, envPrefix: NODE_ENV_PREFIX },
    ...{ aliases: NODE_CONFIG_ALIASES, aliasEnvPrefix: NODE_ALIAS_ENV_PREFIX },
    description: 'run a storage node; configuration files of zgs_node work too',
    closeLimitMs: 30_000,
    start: async (config, { log, signal, stop, defer }) => {
      const running = await startNode(config, { log, signal, stop: (reason) => stop(reason) })
      defer('node', running.close)
    },
  })
}
