import type { Command } from 'commander'
import { indexerConfigSchema, startIndexer } from '#storage/indexer/main.ts'
import { addStartCommand } from '../agent-command.ts'
import type { CliIo } from '../io.ts'

const ENV_PREFIX = 'WEIGHTLESS_INDEXER'

/** `weightless indexer start`: runs an indexer until it is told to stop. */
export function register(program: Command, io: CliIo): void {
  const group = program
    .command('indexer')
    .description('tell clients which storage nodes to use, and serve files over HTTP')
  addStartCommand({
    ...{ io, group, name: 'indexer', schema: indexerConfigSchema, envPrefix: ENV_PREFIX },
    description: 'run an indexer',
    start: async (config, { log, defer }) => {
      const running = await startIndexer(config, { log })
      defer('indexer', running.close)
      const { url, frontUrl } = running
      log.info({ url, frontUrl, trusted: config.nodes.length }, 'the indexer serves')
    },
  })
}
