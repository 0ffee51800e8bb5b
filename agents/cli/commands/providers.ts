import { type Command, InvalidArgumentError } from 'commander'
import { formatEther } from 'viem'
import { type ProviderSort, preferencesSchema, SORTS } from '#client/compute/preferences.ts'
import type { Candidate } from '#client/compute/rank.ts'
import type { CliIo } from '../io.ts'
import { type ComputeOptions, computeOptions, openCompute } from '../open-compute.ts'
import { readOptions } from '../options.ts'

interface ProvidersOptions extends ComputeOptions {
  model?: string
  sort?: ProviderSort
}

/** `weightless providers` */
export function register(program: Command, io: CliIo): void {
  const group = program
    .command('providers')
    .description('who serves models, at which price, and how they are; in the order in which chat would ask them')
    .option('--model <name>', 'those that serve this model')
    .option('--sort <figure>', `in order of ${SORTS.join(', ')}`, sort)
    .action((_options: unknown, at: Command) => runProviders({ options: readOptions<ProvidersOptions>(at), io }))
  const retrieve = group
    .command('retrieve')
    .description('take coins back from providers: once to ask for them, again after the lock time to get them')
    .argument('<address...>', 'providers')
    .action((addresses: string[], _options: unknown, at: Command) =>
      runRetrieve({ addresses, options: readOptions<ComputeOptions>(at), io }),
    )
  for (const command of [group, retrieve]) {
    for (const option of computeOptions({ signs: true })) command.addOption(option)
  }
}

async function runProviders({ options, io }: { options: ProvidersOptions; io: CliIo }): Promise<void> {
  const { compute } = await openCompute({ io, options })
  try {
    const { model, sort: by } = options
    const preferences = preferencesSchema.parse(by === undefined ? {} : { sort: by })
    const { ranked, left } = await compute.findProviders({ model, preferences, signal: io.signal })
    io.result({
      json: { providers: ranked.map(describe), left },
      text: [
        ...(ranked.length === 0 ? ['no provider is ready'] : ranked.flatMap(lines)),
        ...left.map(({ provider, reason }) => `${provider}  left out: ${reason}`),
      ],
    })
  } finally {
    await compute.close()
  }
}

async function runRetrieve({
  addresses,
  options,
  io,
}: {
  addresses: string[]
  options: ComputeOptions
  io: CliIo
}): Promise<void> {
  const providers = addresses.map(address)
  const { compute } = await openCompute({ io, options })
  try {
    const txHash = await compute.retrieve({ providers, signal: io.signal })
    const [ledger, accounts] = await Promise.all([compute.ledger(), compute.accounts()])
    const concerned = accounts.filter(({ provider }) => providers.includes(provider))
    io.result({
      json: { txHash, ledger: ledger ?? null, accounts: concerned },
      text: [
        `free ${formatEther(ledger?.availableWei ?? 0n)}`,
        ...concerned.map(
          ({ provider, balanceWei, pendingRefundWei }) =>
            `at ${provider} ${formatEther(balanceWei)}, ${formatEther(pendingRefundWei)} of it on the way back`,
        ),
      ],
    })
  } finally {
    await compute.close()
  }
}

function describe({ service, health, performance }: Candidate): Record<string, unknown> {
  const { info: _, ...offer } = service
  const latencyMs = health.latencyMs === undefined ? null : Math.round(health.latencyMs)
  return { ...offer, models: health.models.map(({ id }) => id), latencyMs, performance: performance ?? null }
}

function lines({ service, health, performance }: Candidate): string[] {
  const perMillion = (wei: bigint) => formatEther(wei * 1_000_000n)
  const speed = performance?.tokensPerSecond
  return [
    `${service.provider}  ${service.model}  ${service.url}`,
    `  ${perMillion(service.inputPriceWei)} in, ${perMillion(service.outputPriceWei)} out per million tokens` +
      `; answers in ${Math.round(health.latencyMs ?? 0)} ms` +
      (speed === undefined ? '' : `; ${speed.toFixed(1)} tokens/s`) +
      (performance === undefined ? '' : `; ${performance.successes} served, ${performance.failures} failed`),
  ]
}

function address(text: string): `0x${string}` {
  if (/^0x[0-9a-fA-F]{40}$/.test(text)) return text.toLowerCase() as `0x${string}`
  throw new InvalidArgumentError(`${text.slice(0, 60)} is no address`)
}

function sort(text: string): ProviderSort {
  const found = SORTS.find((name) => name === text)
  if (found !== undefined) return found
  throw new InvalidArgumentError(`give one of ${SORTS.join(', ')}`)
}
