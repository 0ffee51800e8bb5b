import type { Command } from 'commander'
import { formatEther } from 'viem'
import { DISPERSER_ENV_PREFIX, disperserConfigSchema, startDisperser } from '#da/disperser/main.ts'
import type { DisperserStatus } from '#da/disperser/status.ts'
import { loadConfig } from '#kit/config/load.ts'
import { agentAccount } from '#kit/keys/agent-account.ts'
import { WeightlessError } from '#protocol/error.ts'
import { addStartCommand } from '../agent-command.ts'
import { askSecret } from '../ask.ts'
import type { CliIo } from '../io.ts'
import { type GlobalOptions, readOptions } from '../options.ts'

interface StatusOptions extends GlobalOptions {
  config?: string
  url?: string
}

const DEFAULT_URL = 'http://127.0.0.1:51002'
const STATUS_TIMEOUT_MS = 5_000

/** `weightless disperser start|status`: takes blobs for others until it is told to stop. */
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
  group
    .command('status')
    .description('what a running disperser took, was paid, and has to claim')
    .option('--config <file>', 'the disperser’s configuration, for its address')
    .option('--url <url>', `address of the disperser (listen in its configuration; default ${DEFAULT_URL})`)
    .action((_: unknown, command: Command) => showStatus(readOptions<StatusOptions>(command), io))
}

async function showStatus({ config: file, url }: StatusOptions, io: CliIo): Promise<void> {
  const status = await fetchStatus(url ?? (file === undefined ? DEFAULT_URL : listenUrl(file, io)))
  const { disperser, requests, fees } = status
  const [charged, claimed, reserved] = [fees.chargedWei, fees.claimedWei, fees.reservedWei].map(BigInt)
  io.result({
    json: { ...status },
    text: [
      `account   ${disperser}`,
      `blobs     ${requests.final + requests.confirmed} confirmed, ${requests.processing} under way, ${requests.failed} failed`,
      `vouchers  ${fees.mode}`,
      `charged   ${formatEther(charged ?? 0n)} to ${fees.payers} users, and ${formatEther(reserved ?? 0n)} set aside`,
      `claimed   ${formatEther(claimed ?? 0n)}`,
      ...(fees.lastError === null ? [] : [`trouble   ${fees.lastError}`]),
    ],
  })
}

async function fetchStatus(url: string): Promise<DisperserStatus> {
  try {
    const response = await fetch(new URL('/v1/status', url), { signal: AbortSignal.timeout(STATUS_TIMEOUT_MS) })
    if (!response.ok) throw new Error(`it answered ${response.status}`)
    return (await response.json()) as DisperserStatus
  } catch (cause) {
    throw new WeightlessError({
      code: 'DISPERSER_UNREACHABLE',
      message: `no disperser answers at ${url}`,
      fix: 'start one with: weightless disperser start --config FILE, or give its address with --url',
      details: { url },
      cause,
    })
  }
}

function listenUrl(file: string, io: CliIo): string {
  const { listen } = loadConfig({
    ...{ schema: disperserConfigSchema, envPrefix: DISPERSER_ENV_PREFIX, env: io.env, cwd: io.cwd, file },
    onWarning: (warning) => io.warn(warning),
  })
  const { host, port } = listen
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '[::1]' : host.includes(':') ? `[${host}]` : host
  return `http://${reachable}:${port}`
}
