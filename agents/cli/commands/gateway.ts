import { type Command, InvalidArgumentError } from 'commander'
import { gatewayConfigSchema, startGateway } from '#compute/gateway/main.ts'
import { resolveSigner } from '#kit/keys/keystore.ts'
import { runAgent } from '#kit/lifecycle.ts'
import { createLog } from '#kit/log.ts'
import { addStartCommand } from '../agent-command.ts'
import { askSecret } from '../ask.ts'
import type { CliIo } from '../io.ts'
import { type ComputeOptions, computeOptions, computeSettings, payer } from '../open-compute.ts'
import { readOptions } from '../options.ts'

const ENV_PREFIX = 'WEIGHTLESS_GATEWAY'

interface GatewayOptions extends ComputeOptions {
  port?: number
}

/** `weightless gateway`, and `weightless gateway start` with a configuration file. */
export function register(program: Command, io: CliIo): void {
  const group = program
    .command('gateway')
    .description('OpenAI’s API on this machine, served by the network and paid from your deposit')
    .option('--port <n>', 'port to listen on (default 11435; 0 lets the system choose)', port)
    .addHelpText('after', '\nPoint any OpenAI client at it: OPENAI_BASE_URL=http://127.0.0.1:11435/v1')
    .action((_options: unknown, at: Command) => runHere({ options: readOptions<GatewayOptions>(at), io }))
  for (const option of computeOptions({ signs: true })) group.addOption(option)
  addStartCommand({
    ...{ io, group, name: 'gateway', schema: gatewayConfigSchema, envPrefix: ENV_PREFIX },
    description: 'run the gateway as an agent, with settings from a file or the environment',
    start: async (config, { log, defer }) => {
      const account = await resolveSigner({
        env: io.env,
        keystorePath: config.key.keystore,
        passwordFile: config.key.passwordFile,
        promptPassword: (question) => askSecret({ io, question }),
      })
      const running = await startGateway(config, { log, account })
      defer('gateway', running.close)
      log.info({ baseUrl: running.baseUrl, payer: account.address }, 'the gateway serves')
    },
  })
}

async function runHere({ options, io }: { options: GatewayOptions; io: CliIo }): Promise<void> {
  const settings = computeSettings({ io, options })
  const account = await payer({ io, options, settings })
  const { rpcUrl, ledger, inference, dataDir } = settings
  const config = gatewayConfigSchema.parse({
    ...(options.port === undefined ? {} : { port: options.port }),
    chain: { rpcUrls: [...rpcUrl], ledger, inference },
    dataDir,
  })
  const log = createLog({ name: 'gateway', level: io.verbose ? 'debug' : io.quiet ? 'warn' : 'info' })
  await runAgent({
    name: 'gateway',
    log,
    start: async ({ defer }) => {
      const running = await startGateway(config, { log, account })
      defer('gateway', running.close)
      const json = { baseUrl: running.baseUrl, payer: account.address, ledger }
      io.result({ json, text: [`serving at ${running.baseUrl}, paid by ${account.address}`] })
    },
  })
}

function port(text: string): number {
  const value = Number(text)
  if (text.trim() !== '' && Number.isInteger(value) && value >= 0 && value <= 65_535) return value
  throw new InvalidArgumentError('give a port from 0 to 65535')
}
