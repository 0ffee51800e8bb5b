import { confirm, isCancel, password } from '@clack/prompts'
import type { Command } from 'commander'
import { type Address, formatEther, formatGwei, isAddress } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { DeployEvent } from '#scripts/deploy/deploy.ts'
import type { DeployEstimate } from '#scripts/deploy/estimate.ts'
import type { Deployment } from '#scripts/deploy/record.ts'
import type { CliIo } from '../io.ts'
import { type GlobalOptions, readOptions } from '../options.ts'

interface DeployOptions extends GlobalOptions {
  preset?: string
  parameters?: string
  governor?: string
  guardian?: string
  record?: string
  keystore?: string
  passwordFile?: string
  dryRun?: boolean
  from?: string
  yes?: boolean
}

/** `weightless deploy`: put the contracts on a chain. */
export function register(program: Command, io: CliIo): void {
  program
    .command('deploy')
    .description('deploy the contracts to a chain, or go on with a deployment that was interrupted')
    .option('--network <name>', 'a network of hardhat.config.ts')
    .option('--rpc <url>', 'JSON-RPC endpoint of the chain, instead of --network (several: separated by commas)')
    .option('--preset <name>', 'starting values: local, standard or turbo (default on a development chain: local)')
    .option('--parameters <file>', 'TOML or JSON file with parameters, over the preset')
    .option('--governor <address>', 'who may change parameters, after the delay')
    .option('--guardian <address>', 'who may halt new intake at once')
    .option('--record <file>', 'where the result is kept (default deployments/<chainId>.json)')
    .option('--keystore <file>', 'keystore of the account that deploys (also: WEIGHTLESS_KEYSTORE)')
    .option('--password-file <file>', 'file with the password of the keystore')
    .option('--dry-run', 'say what would be done and what it would cost, and do nothing')
    .option('--from <address>', 'with --dry-run: the account that would deploy, when its key is not at hand')
    .option('-y, --yes', 'do not ask before spending')
    .action((_options: unknown, command: Command) => runDeploy(readOptions<DeployOptions>(command), io))
}

async function runDeploy(options: DeployOptions, io: CliIo): Promise<void> {
  const { connectChain } = await import('#kit/chain/client.ts')
  const { networkRpcUrls } = await import('#scripts/deploy/networks.ts')
  const { readEnvironment } = await import('#kit/config/environment.ts')
  const env = readEnvironment({ cwd: io.cwd, env: io.env })
  const rpcUrls = await networkRpcUrls({ network: options.network, rpc: options.rpc, env })
  const chain = await connectChain({ rpcUrls, signal: io.signal })
  try {
    if (options.dryRun === true) await showDryRun({ chain, options, io })
    else await deploy({ chain, options, io })
  } finally {
    chain.close()
  }
}

async function gatherParameters({
  chain,
  options,
  io,
  deployer,
}: {
  chain: Chain
  options: DeployOptions
  io: CliIo
  deployer: Address
}) {
  const { defaultRecord, deployParameters } = await import('#scripts/deploy/inputs.ts')
  const parameters = deployParameters({
    chainId: chain.id,
    deployer,
    preset: options.preset,
    file: options.parameters,
    env: io.env,
    cwd: io.cwd,
    flags: { governor: options.governor, guardian: options.guardian },
    onWarning: io.warn,
  })
  return { parameters, record: options.record ?? defaultRecord(chain.id) }
}

async function signer({ chain, options, io }: { chain: Chain; options: DeployOptions; io: CliIo }) {
  const { deploySigner } = await import('#scripts/deploy/inputs.ts')
  const { readEnvironment } = await import('#kit/config/environment.ts')
  return deploySigner({
    chainId: chain.id,
    env: readEnvironment({ cwd: io.cwd, env: io.env }),
    keystorePath: options.keystore,
    passwordFile: options.passwordFile,
    promptPassword: canAsk(io) ? askPassword : undefined,
  })
}

async function showDryRun({ chain, options, io }: { chain: Chain; options: DeployOptions; io: CliIo }): Promise<void> {
  const { dryRun } = await import('#scripts/deploy/deploy.ts')
  const deployer = options.from === undefined ? (await signer({ chain, options, io })).address : asAddress(options.from)
  const { parameters, record } = await gatherParameters({ chain, options, io, deployer })
  const result = await dryRun({ chain, deployer, parameters, record })
  if ('unchanged' in result) return reportDeployment({ deployment: result.unchanged, changed: false, io })
  const { estimate, done } = result
  io.result({
    json: { dryRun: true, chainId: chain.id, done, estimate, parameters },
    text: [
      `dry run on chain ${chain.id}: nothing was sent`,
      ...(done.length > 0 ? [`already made: ${done.join(', ')}`] : []),
      ...estimateLines(estimate),
    ],
  })
}

async function deploy({ chain, options, io }: { chain: Chain; options: DeployOptions; io: CliIo }): Promise<void> {
  const { deployWeightless } = await import('#scripts/deploy/deploy.ts')
  const account = await signer({ chain, options, io })
  const { parameters, record } = await gatherParameters({ chain, options, io, deployer: account.address })
  let changed = true
  const deployment = await deployWeightless({
    chain,
    account,
    parameters,
    record,
    network: options.network,
    signal: io.signal,
    onEvent: async (event) => {
      if (event.type === 'unchanged') changed = false
      if (event.type === 'estimated') await confirmSpending({ estimate: event.estimate, chain, options, io })
      sayEvent({ event, io })
    },
  })
  reportDeployment({ deployment, changed, io })
}

async function confirmSpending({
  estimate,
  chain,
  options,
  io,
}: {
  estimate: DeployEstimate
  chain: Chain
  options: DeployOptions
  io: CliIo
}): Promise<void> {
  for (const line of estimateLines(estimate)) io.info(line)
  if (options.yes === true) return
  if (!canAsk(io)) {
    throw new WeightlessError({
      code: 'CLI_USAGE',
      message: `deploying to chain ${chain.id} spends up to ${formatEther(estimate.feeWei)} coins and nobody can be asked`,
      fix: 'add --yes, or look first with --dry-run',
    })
  }
  const answer = await confirm({
    message: `Deploy to chain ${chain.id} from ${estimate.deployer}?`,
    initialValue: false,
  })
  if (isCancel(answer) || !answer) throw new DOMException('not confirmed', 'AbortError')
}

function sayEvent({ event, io }: { event: DeployEvent; io: CliIo }): void {
  if (event.type === 'unchanged' && event.outdated.length > 0) {
    io.warn(`deployed from other sources than these: ${event.outdated.join(', ')}`)
  } else if (event.type === 'resumed') {
    io.info(`going on with an interrupted deployment; already made: ${event.done.join(', ') || 'nothing'}`)
  } else if (event.type === 'restarted') {
    const unused = event.abandoned.length > 0 ? `; no longer used: ${event.abandoned.join(', ')}` : ''
    io.warn(`starting over: ${event.reason}${unused}`)
  } else if (event.type === 'sending') {
    io.info(`creating ${event.name} at ${event.address}`)
  } else if (event.type === 'sent') {
    io.detail(`${event.name}: transaction ${event.hash}`)
  } else if (event.type === 'created') {
    io.info(`created ${event.name}${event.gasUsed === undefined ? '' : ` for ${event.gasUsed} gas`}`)
  } else if (event.type === 'verifying') {
    io.info('checking that the contracts point at each other')
  }
}

function reportDeployment({ deployment, changed, io }: { deployment: Deployment; changed: boolean; io: CliIo }): void {
  const { chainId, block, contracts } = deployment
  io.result({
    json: { changed, deployment },
    text: [
      changed
        ? `deployed to chain ${chainId}, from block ${block} on`
        : `chain ${chainId} has this deployment already; checked, nothing to do`,
      ...Object.entries(contracts).map(([name, address]) => `  ${name.padEnd(18)} ${address}`),
    ],
  })
}

function estimateLines(estimate: DeployEstimate): string[] {
  const row = (name: string, gas: bigint, feeWei: bigint, note = '') =>
    `  ${name.padEnd(18)} ${String(gas).padStart(10)} gas  ${formatEther(feeWei)}${note}`
  return [
    `from ${estimate.deployer}, which holds ${formatEther(estimate.balanceWei)}`,
    `at no more than ${formatGwei(estimate.gasPriceWei)} gwei for one gas:`,
    ...estimate.contracts.map(({ name, gas, feeWei, source }) =>
      row(name, gas, feeWei, source === 'bound' ? ' (upper bound)' : ''),
    ),
    row('together at most', estimate.gas, estimate.feeWei),
  ]
}

function canAsk(io: CliIo): boolean {
  return io.stdin.isTTY === true && io.isTty && !io.json
}

async function askPassword(question: string): Promise<string | undefined> {
  const answer = await password({ message: question })
  return isCancel(answer) ? undefined : answer
}

function asAddress(text: string): Address {
  if (isAddress(text)) return text
  throw new WeightlessError({
    code: 'CLI_USAGE',
    message: '--from is not an address',
    fix: 'give 0x and 40 hex digits',
  })
}
