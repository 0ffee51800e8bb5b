import type { Command } from 'commander'
import { KV_CONFIG_ALIASES, KV_ENV_PREFIX, kvConfigSchema, startKv } from '#storage/kv/main.ts'
import { addStartCommand } from '../agent-command.ts'
import { askSecret } from '../ask.ts'
import type { CliIo } from '../io.ts'
import { keystorePassword } from '../keystore-password.ts'
import { addReadCommands } from './kv-read.ts'
import { addRightsCommands } from './kv-rights.ts'
import { addWriteCommands } from './kv-write.ts'

/** `weightless kv put|delete|get|list|history|grant|revoke|renounce|protect|rights|result|status|start`. */
export function register(program: Command, io: CliIo): void {
  const group = program.command('kv').description('key-value streams on top of the log: write, read, share, serve')
  addWriteCommands(group, io)
  addReadCommands(group, io)
  addRightsCommands(group, io)
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
