import { type Command, InvalidArgumentError } from 'commander'
import type { LocalAccount } from 'viem'
import { formatEther, parseEther } from 'viem'
import { blsSecret } from '#da/signer/account.ts'
import {
  SIGNER_ENV_PREFIX,
  type SignerConfig,
  type SignerStatus,
  signerConfigSchema,
  startSigner,
} from '#da/signer/main.ts'
import { registerNow, withdrawNow } from '#da/signer/operate.ts'
import { statusText } from '#da/signer/status.ts'
import { loadConfig } from '#kit/config/load.ts'
import { agentAccount } from '#kit/keys/agent-account.ts'
import { createLog } from '#kit/log.ts'
import { WeightlessError } from '#protocol/error.ts'
import { addStartCommand } from '../agent-command.ts'
import { askSecret } from '../ask.ts'
import type { CliIo } from '../io.ts'
import { readOptions } from '../options.ts'

interface StatusOptions {
  config?: string
  url?: string
}

interface RegisterOptions {
  config: string
  url?: string
  stake?: bigint
}

interface WithdrawOptions {
  config: string
  unbond?: bigint | 'all'
}

const STATUS_TIMEOUT_MS = 10_000
const DEFAULT_URL = 'http://127.0.0.1:34000'

/** `weightless da-signer start|status|register|withdraw`. */
export function register(program: Command, io: CliIo): void {
  const group = program
    .command('da-signer')
    .description('keep rows of blobs, sign for them, and earn by showing that they are there')
  addStartCommand({
    ...{ io, group, name: 'da-signer', schema: signerConfigSchema, envPrefix: SIGNER_ENV_PREFIX },
    description:
      'run a signer: it registers, takes and checks rows, signs, serves, answers samples and custody requests',
    start: async (config, { log, signal, defer }) => {
      const running = await startSigner(config, { log, signal, ...(await keysOf(config, io)) })
      defer('signer', running.close)
    },
  })
  group
    .command('status')
    .description('epoch, stake, rows, earnings and misses of a running signer')
    .option('--config <file>', 'the signer’s configuration: its address is taken from there')
    .option('--url <url>', `address of the signer (listen in its configuration; default ${DEFAULT_URL})`)
    .action((_, command: Command) => showStatus(readOptions<StatusOptions>(command), io))
  group
    .command('register')
    .description('join the table of signers, add to the stake, or correct the address on the chain, without running')
    .requiredOption('--config <file>', 'the signer’s configuration')
    .option('--url <url>', 'address under which others reach the signer (default: publicUrl of the configuration)')
    .option('--stake <ether>', 'stake to begin with, or to add', etherAmount)
    .action((_, command: Command) => registerSigner(readOptions<RegisterOptions>(command), io))
  group
    .command('withdraw')
    .description('draw earnings and unbonded stake; with --unbond also begin to take stake out')
    .requiredOption('--config <file>', 'the signer’s configuration')
    .option('--unbond <ether>', 'stake to take out, or all of it: all', (text) =>
      text === 'all' ? 'all' : etherAmount(text),
    )
    .action((_, command: Command) => withdraw(readOptions<WithdrawOptions>(command), io))
}

async function showStatus({ config, url }: StatusOptions, io: CliIo): Promise<void> {
  const address = url ?? (config === undefined ? DEFAULT_URL : listenUrl(load(config, io)))
  const status = await fetchStatus(address)
  io.result({ json: { ...status }, text: statusText(status) })
}

async function fetchStatus(url: string): Promise<SignerStatus> {
  try {
    const response = await fetch(new URL('/v1/status', url), { signal: AbortSignal.timeout(STATUS_TIMEOUT_MS) })
    if (!response.ok) throw new Error(`it answered ${response.status}`)
    return (await response.json()) as SignerStatus
  } catch (cause) {
    throw new WeightlessError({
      code: 'SIGNER_UNREACHABLE',
      message: `no signer answers at ${url}`,
      fix: 'start one with: weightless da-signer start --config FILE, or give its address with --url',
      details: { url },
      cause,
    })
  }
}

async function registerSigner({ config: file, url, stake: stakeWei }: RegisterOptions, io: CliIo): Promise<void> {
  const config = load(file, io)
  const done = await registerNow({ ...(await operation(config, io)), url, stakeWei })
  const { outcome, stake } = done
  const text = {
    registered: 'registered: signing begins with the next epoch',
    moved: 'the address on the chain was changed',
    unchanged: 'nothing to do: it is registered with this address',
    added: 'the stake was raised, from the next epoch on',
    absent: 'not registered',
  }[outcome]
  io.result({
    json: { outcome, bondedWei: stake.bondedWei, socket: stake.socket },
    text: [text, `bonded ${formatEther(stake.bondedWei)}`],
  })
}

async function withdraw({ config: file, unbond: unbondWei }: WithdrawOptions, io: CliIo): Promise<void> {
  const config = load(file, io)
  const paid = await withdrawNow({ ...(await operation(config, io)), unbondWei })
  io.result({
    json: { ...paid },
    text: [
      `earnings   ${formatEther(paid.samplesWei + paid.custodyWei)} paid out`,
      `stake      ${formatEther(paid.unbondedWei)} paid out`,
      ...(paid.unbondingWei === 0n
        ? []
        : [`unbonding  ${formatEther(paid.unbondingWei)}, to be drawn from epoch ${paid.releaseEpoch} on`]),
    ],
  })
}

async function operation(config: SignerConfig, io: CliIo) {
  const log = createLog({ name: 'da-signer', level: io.verbose ? 'info' : 'warn' })
  return { config, log, signal: io.signal, ...(await keysOf(config, io)) }
}

async function keysOf(config: SignerConfig, io: CliIo): Promise<{ account: LocalAccount; blsSecret: Uint8Array }> {
  const given = {
    config,
    env: io.env,
    promptPassword: (question: string) => askSecret({ io, question }),
  }
  return { account: await agentAccount({ ...config, ...given }), blsSecret: await blsSecret(given) }
}

function load(file: string, io: CliIo): SignerConfig {
  return loadConfig({
    ...{ schema: signerConfigSchema, envPrefix: SIGNER_ENV_PREFIX, env: io.env, cwd: io.cwd, file },
    onWarning: (warning) => io.warn(warning),
  })
}

function listenUrl({ listen: { host, port } }: SignerConfig): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '[::1]' : host.includes(':') ? `[${host}]` : host
  return `http://${reachable}:${port}`
}

function etherAmount(text: string): bigint {
  if (/^\d{1,12}(\.\d{1,18})?$/.test(text)) return parseEther(text)
  throw new InvalidArgumentError('give an amount in ether, such as 32 or 0.5')
}
