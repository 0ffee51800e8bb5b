import { setTimeout as delay } from 'node:timers/promises'
import { confirm, isCancel, text } from '@clack/prompts'
import type { Command } from 'commander'
import { formatEther, parseEther } from 'viem'
import type { ProviderConfig } from '#compute/provider/config.ts'
import { providerConfigSchema, signingKey, startProvider } from '#compute/provider/main.ts'
import { openProviderWallet, type ProviderWallet, type Registration } from '#compute/provider/registration.ts'
import { loadConfig } from '#kit/config/load.ts'
import { agentAccount } from '#kit/keys/agent-account.ts'
import { createLog } from '#kit/log.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash } from '#protocol/hex.ts'
import { addStartCommand } from '../agent-command.ts'
import { askSecret } from '../ask.ts'
import type { CliIo } from '../io.ts'
import { readOptions } from '../options.ts'
import { fetchGpuBuilds } from './provider-gpu.ts'

const ENV_PREFIX = 'WEIGHTLESS_PROVIDER'
const STATUS_TIMEOUT_MS = 10_000
const WATCH_MS = 2_000
const DEFAULT_URL = 'http://127.0.0.1:8080'

interface RegisterOptions {
  config?: string
  gpu?: boolean
  url?: string
  model?: string
  inputPrice?: string
  outputPrice?: string
  stake?: string
  yes?: boolean
}

/** `weightless provider start|setup|register|status|withdraw`. */
export function register(program: Command, io: CliIo): void {
  const group = program.command('provider').description('serve a model for money: from a GGUF file or an upstream')
  addStartCommand({
    ...{ io, group, name: 'provider', schema: providerConfigSchema, envPrefix: ENV_PREFIX, closeLimitMs: 40_000 },
    description: 'serve a model: --model FILE.gguf, or --upstream URL (vLLM, llama-server, Ollama)',
    start: async (config, { log, signal, defer }) => {
      const account = await accountOf(config, io)
      const running = await startProvider(config, { log, signal, account, env: io.env })
      defer('provider', running.close)
    },
  })
  for (const name of ['register', 'setup'] as const) {
    const command = group
      .command(name)
      .description(
        name === 'register'
          ? 'put the service on the market, or change its terms'
          : 'the same step by step: asks for what is not given',
      )
      .option('--config <file>', "the provider's configuration")
      .option('--url <url>', 'where clients reach the provider')
      .option('--model <name>', 'name of the model on the market; default modelName of the configuration')
      .option('--input-price <wei>', 'wei per prompt token')
      .option('--output-price <wei>', 'wei per answer token')
      .option('--stake <coins>', 'stake of a new service in whole coins; default the least')
      .option('--yes', 'do not ask before anything is sent')
      .action(async (_, called: Command) => {
        const options = readOptions<RegisterOptions>(called)
        if (options.gpu === true) await fetchGpuBuilds({ io, agreed: options.yes === true })
        else await putOnMarket(options, io, name === 'setup')
      })
    if (name === 'setup') command.option('--gpu', 'instead, fetch the GPU builds of llama.cpp from the npm registry')
  }
  group
    .command('status')
    .description('what a running provider does, has billed and has earned')
    .option('--url <url>', 'address of the provider', DEFAULT_URL)
    .option('--watch', 'show it again every two seconds')
    .action((_, command: Command) => showStatus(readOptions<{ url: string; watch?: boolean }>(command), io))
  group
    .command('withdraw')
    .description('draw stake that has unbonded; with --amount or --all begin to unbond first')
    .requiredOption('--config <file>', "the provider's configuration")
    .option('--amount <coins>', 'begin to unbond so much of the stake')
    .option('--all', 'take the service off the market and unbond everything')
    .action((_, command: Command) =>
      withdraw(readOptions<{ config: string; amount?: string; all?: boolean }>(command), io),
    )
}

async function putOnMarket(options: RegisterOptions, io: CliIo, guided: boolean): Promise<void> {
  if (options.config === undefined) throw usage('the configuration is missing', 'give --config FILE')
  const config = load(options.config, io)
  const signer = await signingKey(config.dataDir)
  await using wallet = await walletOf(config, io)
  const before = await wallet.registration()
  const ask = (question: string, given: string | undefined, fallback: string | undefined) =>
    answer({ io, question, given, fallback, guided })
  const url = await ask('Where do clients reach this provider?', options.url, before.url || localUrl(config))
  const model = await ask('What is the model called?', options.model, before.model || config.modelName)
  const input = await ask('Wei per prompt token?', options.inputPrice, priceText(before, before.inputPriceWei))
  const output = await ask('Wei per answer token?', options.outputPrice, priceText(before, before.outputPriceWei))
  const stakeWei = options.stake === undefined ? before.minimumStakeWei : coins('--stake', options.stake)
  const fresh = before.bondedWei === 0n
  const terms = {
    ...{ url: url.replace(/\/+$/, ''), model, signer: signer.address, modelRoot: config.modelRoot as Hash | undefined },
    ...{ inputPriceWei: wei('--input-price', input), outputPriceWei: wei('--output-price', output) },
  }
  io.info(`provider ${wallet.address} serves ${model} at ${url} for ${input} / ${output} wei per token`)
  if (fresh) io.info(`a stake of ${formatEther(stakeWei)} is bonded; it can be drawn again later, with a delay`)
  if (guided && options.yes !== true && io.isTty && !io.json) {
    const agreed = await confirm({ message: 'Send it?', input: tty(io), output: io.stderr as NodeJS.WriteStream })
    if (isCancel(agreed) || !agreed) throw new DOMException('declined', 'AbortError')
  }
  const after = await wallet.register(terms, { stakeWei })
  const hint = after.signerAcknowledged
    ? 'the signer is approved: clients see the service'
    : `the signer ${signer.address} waits for approval; until then the service is paid by voucher alone`
  io.result({ json: { ...after, provider: wallet.address }, text: [...registrationText(wallet, after), hint] })
}

async function withdraw(
  { config: file, amount, all }: { config: string; amount?: string; all?: boolean },
  io: CliIo,
): Promise<void> {
  await using wallet = await walletOf(load(file, io), io)
  if (all === true && amount !== undefined) throw usage('--all and --amount exclude each other', 'give one of them')
  if (all === true) await wallet.remove()
  else if (amount !== undefined) await wallet.requestUnstake(coins('--amount', amount))
  const now = await wallet.registration()
  const { timestamp } = await wallet.chain.client.getBlock()
  const released = now.unbondingWei > 0n && timestamp >= now.releaseAtS
  const paidWei = released ? await wallet.claimStake() : 0n
  const after = await wallet.registration()
  const text = registrationText(wallet, after)
  if (paidWei > 0n) text.unshift(`drew ${formatEther(paidWei)}`)
  io.result({ json: { ...after, provider: wallet.address, paidWei }, text })
}

async function showStatus({ url, watch }: { url: string; watch?: boolean }, io: CliIo): Promise<void> {
  for (;;) {
    const [status, health] = await Promise.all([
      getJson(url, '/v1/provider/status'),
      getJson(url, '/healthz', { down: true }),
    ])
    io.result({ json: { ...status, health }, text: statusText(status, health) })
    if (watch !== true || io.signal.aborted) return
    await delay(WATCH_MS, undefined, { signal: io.signal }).catch(() => undefined)
    if (io.signal.aborted) return
  }
}

function statusText(status: Record<string, unknown>, health: Record<string, unknown>): string[] {
  const amount = (key: string) => formatEther(BigInt(String(status[key] ?? '0')))
  return [
    `provider     ${status.provider} (signer ${status.signer}, attestation ${status.attestation})`,
    `health       ${health.status}`,
    `requests     ${status.requests}, ${status.running} under way`,
    `earned       ${amount('earnedWei')} (gas ${amount('gasWei')})`,
    `unsettled    ${amount('unsettledWei')}`,
    ...(status.lastSettlementError === undefined ? [] : [`settlement   ${status.lastSettlementError}`]),
  ]
}

function registrationText({ address }: ProviderWallet, now: Registration): string[] {
  return [
    now.registered ? `${address} serves ${now.model} at ${now.url}` : `${address} is not on the market`,
    `stake ${formatEther(now.bondedWei)} bonded, ${formatEther(now.unbondingWei)} unbonding` +
      (now.unbondingWei > 0n ? ` until ${new Date(Number(now.releaseAtS) * 1000).toISOString()}` : ''),
  ]
}

async function getJson(url: string, path: string, { down = false } = {}): Promise<Record<string, unknown>> {
  try {
    const response = await fetch(new URL(path, url), { signal: AbortSignal.timeout(STATUS_TIMEOUT_MS) })
    if (!response.ok && !down) throw new Error(`it answered ${response.status}`)
    return (await response.json()) as Record<string, unknown>
  } catch (cause) {
    throw new WeightlessError({
      code: 'PROVIDER_UNREACHABLE',
      message: `no provider answers at ${url}`,
      fix: 'start one with: weightless provider start --config FILE, or give its address with --url',
      details: { url },
      cause,
    })
  }
}

/** A given answer, one asked for at the terminal, or what stands already. */
async function answer(parameters: {
  io: CliIo
  question: string
  given: string | undefined
  fallback: string | undefined
  guided: boolean
}): Promise<string> {
  const { io, question, given, fallback, guided } = parameters
  if (given !== undefined) return given
  if (guided && io.isTty && !io.json && io.stdin.isTTY === true) {
    const initialValue = fallback ?? ''
    const entered = await text({
      ...{ message: question, initialValue, input: tty(io), output: io.stderr as NodeJS.WriteStream },
    })
    if (isCancel(entered)) throw new DOMException('declined', 'AbortError')
    if (entered !== '') return entered
  }
  if (fallback !== undefined && fallback !== '') return fallback
  throw usage(`not given: ${question}`, 'see: weightless provider register --help')
}

async function walletOf(config: ProviderConfig, io: CliIo): Promise<ProviderWallet> {
  const log = createLog({ name: 'provider', level: io.verbose ? 'info' : 'warn' })
  return await openProviderWallet({ config, account: await accountOf(config, io), log })
}

function load(file: string, io: CliIo): ProviderConfig {
  return loadConfig({
    ...{ schema: providerConfigSchema, envPrefix: ENV_PREFIX, env: io.env, cwd: io.cwd, file },
    onWarning: (warning) => io.warn(warning),
  })
}

function accountOf(config: ProviderConfig, io: CliIo) {
  const { key, chain } = config
  return agentAccount({ key, chain, env: io.env, promptPassword: (question) => askSecret({ io, question }) })
}

function localUrl({ host, port }: ProviderConfig): string | undefined {
  return host === '127.0.0.1' && port !== 0 ? `http://127.0.0.1:${port}` : undefined
}

function priceText({ registered }: Registration, priceWei: bigint): string | undefined {
  return registered ? String(priceWei) : undefined
}

function wei(flag: string, given: string): bigint {
  if (/^\d{1,30}$/.test(given)) return BigInt(given)
  throw usage(`${flag} is ${given}, not a whole number of wei`, 'give wei per token, 1000000000 for example')
}

function coins(flag: string, given: string): bigint {
  if (/^\d{1,12}(\.\d{1,18})?$/.test(given)) return parseEther(given)
  throw usage(`${flag} is ${given}, not an amount`, 'give whole coins, 100 or 0.5 for example')
}

function usage(message: string, fix: string): WeightlessError {
  return new WeightlessError({ code: 'CLI_USAGE', message, fix })
}

function tty(io: CliIo): NodeJS.ReadStream {
  return io.stdin as NodeJS.ReadStream
}
