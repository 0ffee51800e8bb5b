import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { confirm, isCancel } from '@clack/prompts'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { WeightlessError } from '#protocol/error.ts'
import type { Devnet } from '#scripts/devnet/devnet.ts'
import type { DevnetService } from '#scripts/devnet/shape.ts'
import type { ProcessEvent } from '#scripts/devnet/supervised-process.ts'
import type { CliIo } from '../io.ts'
import { type GlobalOptions, readOptions } from '../options.ts'

interface UpOptions extends GlobalOptions {
  dir: string
  nodes?: number
  replicas?: number
  portBase?: number
  mine?: boolean
  only?: string
  timeout: number
  fresh?: boolean
  yes?: boolean
}

const defaultDirectory = '.weightless'

/** `weightless up` and `weightless down`: a whole network on this machine. */
export function register(program: Command, io: CliIo): void {
  program
    .command('up')
    .description('run a local network: chain, contracts, storage, data availability, compute; until Ctrl-C')
    .option('--dir <path>', 'where its data lies; a later `up` goes on with it', defaultDirectory)
    .addOption(new Option('--nodes <count>', 'storage nodes, each with one shard (default 2)').argParser(integer))
    .addOption(new Option('--replicas <count>', 'how many times all data is held (default 1)').argParser(integer))
    // Another command's --node would otherwise be taken for an abbreviation.
    .addOption(
      new Option('--port-base <port>', 'first port; taken ones are passed over (default 26700)').argParser(integer),
    )
    .addOption(new Option('--timeout <seconds>', 'how long it may take to be ready').argParser(integer).default(120))
    .option('--only <services>', 'besides storage only these: kv, da, compute, or none (default all)')
    .option('--mine', 'also run a miner for every shard, and show what it earns')
    .option('--fresh', 'delete what an earlier run left and start anew')
    .option('-y, --yes', 'do not ask before deleting')
    .action((_options: unknown, command: Command) => up(readOptions<UpOptions>(command), io))
  program
    .command('down')
    .description('end the local network that runs in a directory')
    .option('--dir <path>', 'its directory', defaultDirectory)
    .action((_options: unknown, command: Command) => down(readOptions<UpOptions>(command), io))
}

async function up(options: UpOptions, io: CliIo): Promise<void> {
  const { startDevnet } = await import('#scripts/devnet/devnet.ts')
  const directory = path.resolve(io.cwd, options.dir)
  if (options.fresh === true) await wipe({ directory, options, io })
  const { signal } = io
  let devnet: Devnet
  try {
    devnet = await startDevnet({
      directory,
      nodesPerReplica: options.nodes,
      replicas: options.replicas,
      portBase: options.portBase,
      miners: options.mine === true ? 'shards' : 0,
      services: servicesOf(options.only),
      readyTimeoutMs: options.timeout * 1000,
      say: io.info,
      onProcess: (event) => sayProcess({ event, io }),
      signal,
    })
  } catch (error) {
    if (!signal.aborted) throw error
    io.info('stopped')
    return
  }
  io.result({
    json: { event: 'ready', directory, resumed: devnet.resumed, ...devnet.file },
    text: readyText({ devnet, directory, io }),
  })
  try {
    await watch({ devnet, io })
  } finally {
    io.info('stopping')
    await devnet.stop()
    if (io.json) io.result({ json: { event: 'stopped' }, text: [] })
    io.info('stopped; `weightless up` goes on from here')
  }
}

/** Says when something stops or begins to answer, until the signal. */
async function watch({ devnet, io }: { devnet: Devnet; io: CliIo }): Promise<void> {
  const { reasonOf } = await import('#scripts/devnet/health.ts')
  const unwell = new Set<string>()
  const earnings = new Map<string, string>()
  while (!io.signal.aborted) {
    await delay(3_000, undefined, { signal: io.signal }).catch(() => undefined)
    for (const miner of devnet.miners) await sayEarnings({ miner, said: earnings, io })
    for (const { name, check } of devnet.targets) {
      if (io.signal.aborted) return
      try {
        await check(io.signal)
        if (unwell.delete(name)) io.info(`${name} is well again`)
      } catch (error) {
        if (io.signal.aborted || unwell.has(name)) continue
        unwell.add(name)
        io.warn(`${name} is not well: ${reasonOf(error)}`)
      }
    }
  }
}

/** One line when what a miner has earned changed. A miner that does not answer is the business of its health check. */
async function sayEarnings({
  miner: { name, url },
  said,
  io,
}: {
  miner: Devnet['miners'][number]
  said: Map<string, string>
  io: CliIo
}): Promise<void> {
  const { minerEarnings } = await import('#scripts/devnet/earnings.ts')
  const line = await minerEarnings({ url, signal: io.signal }).catch(() => undefined)
  if (line === undefined || said.get(name) === line) return
  said.set(name, line)
  io.info(`${name}: ${line}`)
}

function sayProcess({ event, io }: { event: ProcessEvent; io: CliIo }): void {
  if (event.type === 'started') io.detail(`${event.name} started (process ${event.pid})`)
  if (event.type === 'killed') io.warn(`${event.name} did not end in time and was killed`)
  if (event.type === 'ended') {
    const seconds = event.restartInMs / 1000
    io.warn(`${event.name} ended with ${event.how}; starting it again in ${seconds} s (log: ${event.logFile})`)
  }
  if (io.json && event.type === 'ended') {
    io.result({
      json: { event: 'restart', name: event.name, how: event.how, restartInMs: event.restartInMs },
      text: [],
    })
  }
}

function readyText({ devnet, directory, io }: { devnet: Devnet; directory: string; io: CliIo }): string[] {
  const { file, resumed } = devnet
  const command = commandPrefix({ directory, io })
  const has = (service: DevnetService) => file.services.includes(service)
  const portUrl = (name: string) => `http://127.0.0.1:${file.ports[name]}`
  const row = (name: string, url: string, note = '') => `  ${name.padEnd(10)} ${url}${note}`
  return [
    '',
    `Weightless is up${resumed ? ', with the data of the last run' : ''}.`,
    '',
    row('chain', file.rpcUrl, `   id ${file.chainId}`),
    row('indexer', file.indexerUrl, '   also serves files: GET /file?root=ROOT'),
    ...file.nodes.map(({ name, url, shard }) => row(name, url, `   shard ${shard}`)),
    ...(has('kv') ? [row('kv', portUrl('kv'), '   key-value node, any stream')] : []),
    ...(has('da')
      ? [
          row('disperser', portUrl('disperser'), `   gRPC ${portUrl('disperser grpc').slice('http://'.length)}`),
          row('alt-da', portUrl('alt-da'), '   for op-stack chains'),
        ]
      : []),
    ...(has('compute') ? [row('provider', portUrl('provider'), '   OpenAI API, paid by voucher')] : []),
    row('Flow', file.contracts.Flow ?? ''),
    '',
    'Try, in another terminal:',
    '',
    `  ${command} upload README.md`,
    `  ${command} download ROOT -o copy.md`,
    `  ${command} status`,
    ...(has('kv') ? [`  ${command} kv put demo greeting=hello`, `  ${command} kv get demo greeting`] : []),
    ...(has('da') ? [`  ${command} da put README.md`] : []),
    ...(has('compute') ? [`  ${command} finetune models/examples/notes.jsonl --base weightless-demo --yes`] : []),
    ...(has('compute') ? [`  ${command} deposit 3`, `  ${command} chat "What is Weightless?"`] : []),
    '',
    `Data, configuration and logs: ${shortPath({ directory, io })}`,
    'Ctrl-C stops it; the data stays.',
  ]
}

/** Undefined: as it was, or everything. */
function servicesOf(only: string | undefined): DevnetService[] | undefined {
  if (only === undefined) return undefined
  const names = only === 'none' ? [] : only.split(',').map((name) => name.trim())
  return names.map((name) => {
    if (name === 'kv' || name === 'da' || name === 'compute') return name
    throw new WeightlessError({
      code: 'CLI_USAGE',
      message: `--only does not know ${name}`,
      fix: 'give kv, da, compute, several with commas, or none',
    })
  })
}

function shortPath({ directory, io }: { directory: string; io: CliIo }): string {
  const relative = path.relative(io.cwd, directory)
  return relative === '' || relative.startsWith('..') ? directory : relative
}

/** The command as it can be typed in the directory this one was typed in. */
function commandPrefix({ directory, io }: { directory: string; io: CliIo }): string {
  const isNpm = io.env.npm_lifecycle_event !== undefined || io.env.npm_execpath !== undefined
  const base = isNpm ? 'npm run --silent weightless --' : 'weightless'
  const network =
    directory === path.resolve(io.cwd, defaultDirectory) ? '' : ` --network ${path.join(directory, 'devnet.json')}`
  return `${base}${network}`
}

async function wipe({ directory, options, io }: { directory: string; options: UpOptions; io: CliIo }): Promise<void> {
  const { holdsDevnet, wipeDevnet } = await import('#scripts/devnet/fresh.ts')
  const { devnetLayout } = await import('#scripts/devnet/layout.ts')
  const layout = devnetLayout(directory)
  if (!holdsDevnet(layout)) return
  if (options.yes !== true) {
    if (io.stdin.isTTY !== true || !io.isTty || io.json) {
      throw new WeightlessError({
        code: 'CLI_USAGE',
        message: `--fresh deletes the devnet in ${directory} and nobody can be asked`,
        fix: 'add --yes',
      })
    }
    const answer = await confirm({ message: `Delete the devnet in ${directory}?`, initialValue: false })
    if (isCancel(answer) || !answer) throw new DOMException('not confirmed', 'AbortError')
  }
  wipeDevnet(layout)
  io.info(`deleted the devnet in ${directory}`)
}

async function down(options: UpOptions, io: CliIo): Promise<void> {
  const { devnetLayout } = await import('#scripts/devnet/layout.ts')
  const { stopSupervisor } = await import('#scripts/devnet/lock.ts')
  const directory = path.resolve(io.cwd, options.dir)
  const pid = await stopSupervisor({ layout: devnetLayout(directory), signal: io.signal })
  io.result({
    json: { stopped: pid !== undefined, directory },
    text: [pid === undefined ? `no devnet runs in ${directory}` : `stopped the devnet in ${directory}`],
  })
}

function integer(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('expected a whole number')
  return Number(text)
}
