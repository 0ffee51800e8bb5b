import type { Command } from 'commander'
import { fineTuningConfigSchema, startFineTuning } from '#compute/fine-tuning/main.ts'
import { registerFineTuning } from '#compute/fine-tuning/registration.ts'
import { signingKey } from '#compute/provider/main.ts'
import { loadConfig } from '#kit/config/load.ts'
import { type AgentAccountParameters, agentAccount } from '#kit/keys/agent-account.ts'
import { createLog } from '#kit/log.ts'
import { WeightlessError } from '#protocol/error.ts'
import { addStartCommand } from '../agent-command.ts'
import { askSecret } from '../ask.ts'
import type { CliIo } from '../io.ts'
import { readOptions } from '../options.ts'

const ENV_PREFIX = 'WEIGHTLESS_FINE_TUNING'

/** `weightless finetune-provider start|register`. */
export function register(program: Command, io: CliIo): void {
  const group = program.command('finetune-provider').description('fine-tune models for money')
  const accountOf = ({ key, chain }: Pick<AgentAccountParameters, 'key' | 'chain'>) =>
    agentAccount({ key, chain, env: io.env, promptPassword: (question) => askSecret({ io, question }) })
  addStartCommand({
    ...{ io, group, name: 'finetune-provider', schema: fineTuningConfigSchema, envPrefix: ENV_PREFIX },
    closeLimitMs: 120_000,
    description: 'take tasks, train adapters, deliver them encrypted, settle',
    start: async (config, { log, signal, defer }) => {
      const account = await accountOf(config)
      const running = await startFineTuning(config, { log, signal, account, env: io.env })
      defer('fine-tuning provider', running.close)
    },
  })
  group
    .command('register')
    .description('put the service on the market, or change its terms')
    .requiredOption('--config <file>', "the provider's configuration")
    .requiredOption('--url <url>', 'where clients reach the provider')
    .requiredOption('--price <wei>', 'wei per token of a dataset, for each pass')
    .action(async (_, command: Command) => {
      const { config: file, url, price } = readOptions<{ config: string; url: string; price: string }>(command)
      if (!/^\d{1,30}$/.test(price)) {
        const fix = 'give wei per token, 1000000000 for example'
        throw new WeightlessError({ code: 'CLI_USAGE', message: `--price is ${price}, not a whole number of wei`, fix })
      }
      const config = loadConfig({
        ...{ schema: fineTuningConfigSchema, envPrefix: ENV_PREFIX, env: io.env, cwd: io.cwd, file },
        onWarning: (warning) => io.warn(warning),
      })
      const [account, signer] = [await accountOf(config), await signingKey(config.dataDir)]
      const log = createLog({ name: 'finetune-provider', level: io.verbose ? 'info' : 'warn' })
      const terms = { url: url.replace(/\/+$/, ''), pricePerTokenWei: BigInt(price), signer: signer.address }
      const service = await registerFineTuning({ config, account, log, terms })
      const approved = service?.acknowledged === true
      io.result({
        json: { provider: account.address, ...service },
        text: [
          `${account.address} fine-tunes ${config.models.map(({ name }) => name).join(', ')} at ${url}`,
          approved ? 'the signer is approved' : `the signer ${signer.address} waits for approval by governance`,
        ],
      })
    })
}
