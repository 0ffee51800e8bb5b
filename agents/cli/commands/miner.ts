import type { Command } from 'commander'
import type { LocalAccount } from 'viem'
import { loadConfig } from '#kit/config/load.ts'
import { agentAccount } from '#kit/keys/agent-account.ts'
import { createLog } from '#kit/log.ts'
import { WeightlessError } from '#protocol/error.ts'
import {
  MINER_ALIAS_ENV_PREFIX,
  MINER_CONFIG_ALIASES,
  MINER_ENV_PREFIX,
  type MinerConfig,
  type MinerStatus,
  minerConfigSchema,
  startMiner,
} from '#storage/miner/main.ts'
import { statusText } from '#storage/miner/status.ts'
import { withdrawNow } from '#storage/miner/withdraw.ts'
import { addStartCommand } from '../agent-command.ts'
import { askSecret } from '../ask.ts'
import type { CliIo } from '../io.ts'
import { readOptions } from '../options.ts'

interface StatusOptions {
  config?: string
  url?: string
}

const STATUS_TIMEOUT_MS = 10_000

/** `weightless miner start|status|withdraw`. */
export function register(program: Command, io: CliIo): void {
  const group = program.command('miner').description('seal the data of a storage node, mine it, collect the rewards')
  addStartCommand({
    ...{ io, group, name: 'miner', schema: minerConfigSchema, envPrefix: MINER_ENV_PREFIX },
    ...{ aliases: MINER_CONFIG_ALIASES, aliasEnvPrefix: MINER_ALIAS_ENV_PREFIX },
    description: 'run a miner for the data of one or more storage nodes',
    start: async (config, { log, signal, defer }) => {
      const account = await accountOf(config, io)
      const running = await startMiner(config, { log, signal, account })
      defer('miner', running.close)
    },
  })
  group
    .command('status')
    .description('what a running miner does, has earned and has spent')
    .option('--config <file>', 'the miner’s configuration: its address is taken from there')
    .option('--url <url>', 'address of the miner (listen in its configuration; default http://127.0.0.1:5680)')
    .action((_, command: Command) => showStatus(readOptions<StatusOptions>(command), io))
  group
    .command('withdraw')
    .description('pay the beneficiary of a miner all it can claim; a running miner need not be stopped')
    .requiredOption('--config <file>', 'the miner’s configuration')
    .option('--payee <address>', 'account to be paid, instead of the configured beneficiary or the miner’s account')
    .action((_, command: Command) => withdrawAll(readOptions<{ config: string; payee?: string }>(command), io))
}

async function showStatus({ config, url }: StatusOptions, io: CliIo): Promise<void> {
  const address = url ?? (config === undefined ? 'http://127.0.0.1:5680' : listenUrl(load(config, io)))
  const status = await fetchStatus(address)
  io.result({ json: { ...status }, text: statusText(status) })
}

async function fetchStatus(url: string): Promise<MinerStatus> {
  try {
    const response = await fetch(new URL('/v1/status', url), { signal: AbortSignal.timeout(STATUS_TIMEOUT_MS) })
    if (!response.ok) throw new Error(`it answered ${response.status}`)
    return (await response.json()) as MinerStatus
  } catch (cause) {
    throw new WeightlessError({
      code: 'MINER_UNREACHABLE',
      message: `no miner answers at ${url}`,
      fix: 'start one with: weightless miner start --config FILE, or give its address with --url',
      details: { url },
      cause,
    })
  }
}

async function withdrawAll({ config: file, payee }: { config: string; payee?: string }, io: CliIo): Promise<void> {
  const config = load(file, io)
  const log = createLog({ name: 'miner', level: io.verbose ? 'info' : 'warn' })
  const account = await accountOf(config, io)
  const paid = await withdrawNow({ config, account, payee, log, signal: io.signal })
  io.result({
    json: { payee: paid.payee, amountWei: paid.amountWei },
    text: [paid.amountWei === 0n ? `nothing is due to ${paid.payee}` : `paid ${paid.amountWei} wei to ${paid.payee}`],
  })
}

function load(file: string, io: CliIo): MinerConfig {
  return loadConfig({
    ...{ schema: minerConfigSchema, envPrefix: MINER_ENV_PREFIX, env: io.env, cwd: io.cwd, file },
    ...{ aliases: MINER_CONFIG_ALIASES, aliasEnvPrefix: MINER_ALIAS_ENV_PREFIX },
    onWarning: (warning) => io.warn(warning),
  })
}

function accountOf(config: MinerConfig, io: CliIo): Promise<LocalAccount> {
  const { key, chain } = config
  return agentAccount({ key, chain, env: io.env, promptPassword: (question) => askSecret({ io, question }) })
}

function listenUrl({ listen: { host, port } }: MinerConfig): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '[::1]' : host.includes(':') ? `[${host}]` : host
  return `http://${reachable}:${port}`
}
