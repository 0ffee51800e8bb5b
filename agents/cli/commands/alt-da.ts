import type { Command } from 'commander'
import { ALT_DA_ENV_PREFIX, altDaConfigSchema, startAltDa } from '#da/alt-da/main.ts'
import { agentAccount } from '#kit/keys/agent-account.ts'
import { addStartCommand } from '../agent-command.ts'
import { askSecret } from '../ask.ts'
import type { CliIo } from '../io.ts'

/** `weightless alt-da start`: an Alt-DA server for op-stack chains, until it is told to stop. */
export function register(program: Command, io: CliIo): void {
  const group = program.command('alt-da').description('serve an op-stack chain as its Alt-DA layer')
  addStartCommand({
    ...{ io, group, name: 'alt-da', schema: altDaConfigSchema, envPrefix: ALT_DA_ENV_PREFIX },
    description: 'run an Alt-DA server',
    closeLimitMs: 20_000,
    start: async (config, { log, defer }) => {
      const { key, chain } = config
      const hasKey = key.keystore !== undefined || key.devAccount !== undefined
      const isNamed = Boolean(io.env.WEIGHTLESS_KEYSTORE || io.env.WEIGHTLESS_PRIVATE_KEY)
      const promptPassword = (question: string) => askSecret({ io, question })
      const account = hasKey || isNamed ? await agentAccount({ key, chain, env: io.env, promptPassword }) : undefined
      const running = await startAltDa(config, { log, account })
      defer('alt-da', running.close)
    },
  })
}
