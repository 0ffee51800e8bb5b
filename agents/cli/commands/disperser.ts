import type { Command } from 'commander'
import { DISPERSER_ENV_PREFIX, disperserConfigSchema, startDisperser } from '#da/disperser/main.ts'
import { agentAccount } from '#kit/keys/agent-account.ts'
import { addStartCommand } from '../agent-command.ts'
import { askSecret } from '../ask.ts'
import type { CliIo } from '../io.ts'

/** `weightless disperser start`: takes blobs for others until it is told to stop. */
export function register(program: Command, io: CliIo): void {
  const group = program.command('disperser').description('take blobs over gRPC and HTTP and see them confirmed')
  addStartCommand({
    ...{ io, group, name: 'disperser', schema: disperserConfigSchema, envPrefix: DISPERSER_ENV_PREFIX },
    description: 'run a disperser',
    closeLimitMs: 25_000,
    start: async (config, { log, defer }) => {
      const { key, chain } = config
      const account = await agentAccount({
        key,
        chain,
        env: io.env,
        promptPassword: (question) => askSecret({ io, question }),
      })
      const running = await startDisperser(config, { log, account, queueUrl: io.env.QUEUE_URL })
      defer('disperser', running.close)
    },
  })
}
