import type { Command } from 'commander'
import { KV_CONFIG_ALIASES, KV_ENV_PREFIX, kvConfigSchema, startKv } from '#storage/kv/main.ts'
import { addStartCommand } from '../agent-command.ts'
import { askSecret } from '../ask.ts'
import type { CliIo } from '../io.ts'
import { keystorePassword } from '../keystore-password.ts'

/** `weightless kv start`: runs a key-value node. */
export function register(program: Command, io: CliIo): void {
  const group = program.command('kv').description('key-value streams on top of the log')
  addStartCommand({
    ...{ io, group, name: 'kv', schema: kvConfigSchema, envPrefix: KV_ENV_PREFIX },
    aliases: KV_CONFIG_ALIASES,
    description: 'run a key-value node that replays streams and answers kv_*',
    start: async (config, { log, signal, defer, background }) => {
      const { keystore, passwordFile } = config.encryption
      const ask = () => askSecret({ io, question: `Password of ${keystore}` })
      const running = await startKv(config, {
        ...{ log, signal },
        keystorePassword: () => keystorePassword({ passwordFile, io, ask }),
      })
      defer('key-value node', running.close)
      background('replay', running.done)
      log.info({ url: running.url, streams: running.store.streams().length }, 'the key-value node serves')
    },
  })
}
