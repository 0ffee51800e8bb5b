import { existsSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { confirm, isCancel } from '@clack/prompts'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { formatEther } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { z } from 'zod'
import { connect } from '#client/connect.ts'
import { curveText } from '#compute/fine-tuning/client/curve-text.ts'
import { type FineTuneEvent, type FineTuneResult, fineTune } from '#compute/fine-tuning/client/fine-tune.ts'
import { FineTuningWallet } from '#compute/fine-tuning/client/wallet.ts'
import { rootOf } from '#compute/fine-tuning/models.ts'
import { type ArtefactStorage, openArtefactStorage } from '#compute/fine-tuning/storage.ts'
import type { CurvePoint } from '#compute/fine-tuning/store/task-store.ts'
import { DEV_ACCOUNTS } from '#kit/chain/dev-accounts.ts'
import { checkPrivateKey, openKeystore } from '#kit/keys/keystore.ts'
import { WeightlessError } from '#protocol/error.ts'
import { fromHex, type Hash, type Hex } from '#protocol/hex.ts'
import { wholeNumber } from '../arguments.ts'
import { askSecret } from '../ask.ts'
import type { CliIo } from '../io.ts'
import { keystorePassword } from '../keystore-password.ts'
import { type NetworkSettings, resolveNetwork, SettingError } from '../network.ts'
import { type GlobalOptions, readOptions } from '../options.ts'
import { chatLine, publishAdapter } from '../publish-adapter.ts'

interface FinetuneOptions extends GlobalOptions {
  base: string
  fineTuning?: string
  provider?: string
  out?: string
  epochs: number
  batch: number
  rate: string
  steps?: number
  ask?: string
  baseFile?: string
  keystore?: string
  passwordFile?: string
  publish?: boolean
  yes?: boolean
}

/** Largest base model that is fetched for a chat. */
const MAX_BASE_BYTES = 64 * 2 ** 30
const STORAGE_TIMEOUT_MS = 180_000
const address = z.string().regex(/^0x[0-9a-fA-F]{40}$/)

/** `weightless finetune DATASET --base MODEL` */
export function register(program: Command, io: CliIo): void {
  program
    .command('finetune')
    .description('fine-tune a model on a dataset: price first, then training, and the adapter on this disk')
    .argument('<dataset>', 'JSON lines: messages, instruction/input/output, prompt/completion or text')
    .requiredOption('--base <model>', 'base model by its name or root, or as a GGUF file that a provider offers too')
    .option('--provider <address>', 'provider (default: the cheapest that offers the model)')
    .option('--out <folder>', 'folder of the result; the same command with the same folder goes on where it stopped')
    .option('--epochs <n>', 'passes over the dataset, 1 to 10', wholeNumber, 3)
    .option('--batch <n>', 'rows of a batch, 1 to 4', wholeNumber, 4)
    .option('--rate <rate>', 'learning rate, 0.00001 to 0.001, without exponent', '0.001')
    .option('--steps <n>', 'updates, instead of passes', wholeNumber)
    .option('--ask <question>', 'ask the result on this machine when it is done')
    .option('--base-file <file>', 'weights of the base model for --ask (default: fetched from the storage network)')
    .option('--publish', 'store the adapter itself, readable by everybody, so that providers of the base serve it')
    .option('--yes', 'pay without asking')
    .addOption(fineTuningOption())
    .addOption(new Option('--keystore <file>', 'keystore of the account that pays (also: WEIGHTLESS_KEYSTORE)'))
    .addOption(new Option('--password-file <file>', 'file with the password of the keystore'))
    .action((dataset: string, _options: unknown, at: Command) => run(dataset, readOptions<FinetuneOptions>(at), io))
}

/** Where the contract is, for every command of fine-tuning. */
export function fineTuningOption(): Option {
  return new Option(
    '--fine-tuning <address>',
    'FineTuningServing contract (also: WEIGHTLESS_FINE_TUNING; default: devnet)',
  )
}

/**
 * The FineTuningServing contract: flag, environment, the devnet's file.
 *
 * @throws SettingError `SETTING_MISSING`, `SETTING_INVALID`
 */
export function fineTuningContract(parameters: {
  io: CliIo
  given: string | undefined
  network: NetworkSettings
}): Hex {
  const { io, given, network } = parameters
  const devnet = network.devnet === undefined ? undefined : devnetContract(network.devnet.path)
  const found = given ?? (io.env.WEIGHTLESS_FINE_TUNING || undefined) ?? devnet
  if (found !== undefined && address.safeParse(found).success) return found.toLowerCase() as Hex
  throw new SettingError({
    code: found === undefined ? 'SETTING_MISSING' : 'SETTING_INVALID',
    message: found === undefined ? 'the fine-tuning contract is not known' : `${found.slice(0, 60)} is no address`,
    fix: 'start a devnet with: weightless up, or give --fine-tuning or WEIGHTLESS_FINE_TUNING',
    details: { setting: '--fine-tuning' },
  })
}

/** The storage network of the settings, without an account: for reading. */
export function readingStorage(network: NetworkSettings): ArtefactStorage | undefined {
  const { rpcUrl, indexerUrl, nodes, flow } = network
  return openArtefactStorage({ rpcUrls: rpcUrl, indexerUrl, nodes, flow, timeoutMs: STORAGE_TIMEOUT_MS })
}

async function run(dataset: string, options: FinetuneOptions, io: CliIo): Promise<void> {
  const network = resolveNetwork({ io, options })
  const contract = fineTuningContract({ io, given: options.fineTuning, network })
  const key = await privateKeyOf({ io, options, network })
  const baseFile = existsSync(resolve(io.cwd, options.base)) ? resolve(io.cwd, options.base) : undefined
  const base = baseFile === undefined ? options.base : (await rootOf(baseFile)).root
  const storage = readingStorage(network)
  if (options.publish === true && storage === undefined) {
    throw usage('no storage network is known to publish to', 'give --indexer URL, or leave --publish out')
  }
  try {
    await using wallet = await FineTuningWallet.open({
      ...{ rpcUrls: network.rpcUrl, contract, account: privateKeyToAccount(key) },
    })
    const show = new Show(io)
    const folder = resolve(io.cwd, options.out ?? `${basename(dataset).replace(/\.[a-z]+$/, '')}.tuned`)
    const result = await fineTune({
      ...{ wallet, secretKey: fromHex(key), datasetPath: resolve(io.cwd, dataset), base, folder, storage },
      ...{ provider: options.provider as Hex | undefined, trainingParams: settings(options), signal: io.signal },
      confirm: () => agreed(options, io),
      onEvent: (event) => show.event(event),
    })
    show.end()
    // First what others may wait for: from here on the market serves it.
    const published = options.publish === true ? await publish({ result, network, key, io }) : undefined
    if (options.ask !== undefined) await chat({ result, options, io, storage, baseFile })
    const { id, adapterPath, artefactRoot, lineageRoot, feeWei, provider } = result
    const name = await baseName(result)
    const model = published === undefined ? null : `${name}:${published.root}`
    io.result({
      json: {
        id,
        provider,
        adapterPath,
        artefactRoot,
        lineageRoot,
        feeWei,
        folder,
        adapterRoot: published?.root ?? null,
        model,
      },
      text: [
        `adapter  ${adapterPath}`,
        `fee      ${formatEther(feeWei)}`,
        ...(lineageRoot === undefined ? [] : [`lineage  ${lineageRoot}  (weightless model show ${lineageRoot})`]),
        published === undefined
          ? `serve it for everybody: weightless adapter publish ${adapterPath} --base ${name}`
          : `ask it   ${chatLine({ base: name, root: published.root })}`,
      ],
    })
  } finally {
    await storage?.close()
  }
}

/** Stores the adapter as it is. The account that paid for the training pays for this too. */
async function publish(parameters: {
  result: FineTuneResult
  network: NetworkSettings
  key: Hex
  io: CliIo
}): Promise<{ root: Hash }> {
  const { result, network, key, io } = parameters
  const { rpcUrl, indexerUrl, nodes, flow } = network
  await using client = await connect({ rpcUrl, indexerUrl, nodes, flow, account: privateKeyToAccount(key) })
  const { root, feeWei } = await publishAdapter({ client, path: result.adapterPath, signal: io.signal })
  io.info(`adapter published for ${formatEther(feeWei)}`)
  return { root }
}

/** The base model's name as the provider that tuned it has it. */
async function baseName({ folder }: FineTuneResult): Promise<string> {
  const record = await readFile(join(folder, 'lineage.json'), 'utf8').catch(() => '{}')
  const schema = z.looseObject({ record: z.looseObject({ base: z.looseObject({ name: z.string().max(256) }) }) })
  return schema.safeParse(JSON.parse(record)).data?.record.base.name ?? 'MODEL'
}

async function chat(parameters: {
  result: FineTuneResult
  options: FinetuneOptions
  io: CliIo
  storage: ArtefactStorage | undefined
  baseFile: string | undefined
}): Promise<void> {
  const { result, options, io, storage, baseFile } = parameters
  const given = options.baseFile === undefined ? baseFile : resolve(io.cwd, options.baseFile)
  const basePath = given ?? join(result.folder, 'base.gguf')
  if (given === undefined && !existsSync(basePath)) {
    if (storage === undefined) throw usage('the weights of the base model are not here', 'give --base-file FILE')
    io.info('fetching the base model')
    await storage.fetch(result.baseRoot, { to: basePath, maxBytes: MAX_BASE_BYTES, signal: io.signal })
  }
  if ((await rootOf(basePath)).root !== result.baseRoot) {
    throw usage(`${basePath} is not the model that was tuned`, `give the file with root ${result.baseRoot}`)
  }
  // The engine brings native code with it: loaded when wanted.
  const { askAdapter } = await import('#compute/fine-tuning/client/ask-model.ts')
  const { adapterPath } = result
  for await (const text of askAdapter({ basePath, adapterPath, question: options.ask ?? '', signal: io.signal })) {
    if (!io.json) io.stdout.write(text)
  }
  if (!io.json) io.stdout.write('\n')
}

/** What is said on the way: a line for each step, and the curve in place on a terminal. */
class Show {
  readonly #io: CliIo
  readonly #points: CurvePoint[] = []
  #saidAt = 0
  #open = false

  constructor(io: CliIo) {
    this.#io = io
  }

  event(event: FineTuneEvent): void {
    if (event.type === 'curve') this.#curve(event.points)
    else {
      this.end()
      const text = describe(event)
      if (text !== undefined) this.#io.info(text)
    }
  }

  end(): void {
    if (this.#open) this.#io.stderr.write('\n')
    this.#open = false
  }

  #curve(points: readonly CurvePoint[]): void {
    this.#points.push(...points)
    if (this.#io.json || this.#io.quiet) return
    const text = curveText(this.#points)
    if (this.#io.isTty) {
      this.#io.stderr.write(`\r\u001b[K${text}`)
      this.#open = true
    } else if (performance.now() - this.#saidAt > 5_000) {
      this.#saidAt = performance.now()
      this.#io.info(text)
    }
  }
}

function describe(event: Exclude<FineTuneEvent, { type: 'curve' }>): string | undefined {
  switch (event.type) {
    case 'quote': {
      const { quote, service, depositWei, transferWei } = event
      const { examples, tokens, epochs, maxSteps, fee, queuePosition, estimatedSeconds } = quote
      const length = maxSteps > 0 ? `${maxSteps} steps` : `${epochs} passes`
      return [
        `${service.provider} at ${service.url}`,
        `${examples} examples, ${tokens} tokens, ${length}: ${formatEther(BigInt(fee))} and no more`,
        `${queuePosition} tasks before this one, about ${estimatedSeconds} s`,
        ...(depositWei > 0n ? [`deposits ${formatEther(depositWei)} into your ledger`] : []),
        ...(transferWei > 0n ? [`gives the provider access to ${formatEther(transferWei)} of it`] : []),
      ].join('\n')
    }
    case 'progress': {
      const waits = event.queuePosition === undefined ? '' : `, ${event.queuePosition} before it`
      return `${event.progress}${waits}`
    }
    case 'created':
      return `task ${event.id}`
    case 'fetched':
      return `fetched and checked ${event.root}`
    case 'acknowledged':
      return 'acknowledged; the provider releases the key and is paid'
    case 'opened':
      return `opened in ${event.folder}`
    case 'funded':
      return undefined
  }
}

async function agreed({ yes }: FinetuneOptions, io: CliIo): Promise<boolean> {
  if (yes === true) return true
  if (!io.isTty || io.json || io.stdin.isTTY !== true) {
    throw usage('nobody is there to agree to the price', 'give --yes to pay what is quoted')
  }
  const streams = { input: io.stdin as NodeJS.ReadStream, output: io.stderr as NodeJS.WriteStream }
  const answer = await confirm({ message: 'Fine-tune at this price?', ...streams })
  return !isCancel(answer) && answer
}

/** The five settings as text in decimal notation. */
function settings({ epochs, batch, rate, steps }: FinetuneOptions): string {
  if (!/^\d?\.\d{1,10}$/.test(rate)) throw new InvalidArgumentError('--rate: give a number such as 0.0005')
  const learningRate = rate.startsWith('.') ? `0${rate}` : rate
  return (
    `{"neftune_noise_alpha":0,"num_train_epochs":${epochs},"per_device_train_batch_size":${batch},` +
    `"learning_rate":${learningRate},"max_steps":${steps ?? -1}}`
  )
}

/** The account's key itself: what the provider encrypts is for it. */
async function privateKeyOf(parameters: {
  io: CliIo
  options: FinetuneOptions
  network: NetworkSettings
}): Promise<Hex> {
  const { io, options, network } = parameters
  const plain = options.keystore === undefined ? io.env.WEIGHTLESS_PRIVATE_KEY || undefined : undefined
  if (plain !== undefined) return checkPrivateKey(plain)
  const path = options.keystore ?? network.keystore ?? (io.env.WEIGHTLESS_KEYSTORE || undefined)
  if (path !== undefined) {
    const passwordFile = options.passwordFile ?? network.passwordFile
    const ask = () => askSecret({ io, question: `Password of ${path}: ` })
    return (
      await openKeystore({ path: resolve(io.cwd, path), password: await keystorePassword({ passwordFile, io, ask }) })
    ).privateKey
  }
  const [first] = DEV_ACCOUNTS
  if (first !== undefined && network.devnet?.chainId === 31_337) return first.privateKey
  throw new WeightlessError({
    code: 'SIGNER_MISSING',
    message: 'no key is given to pay with',
    fix: 'give --keystore FILE (make one with: weightless key new), or set WEIGHTLESS_PRIVATE_KEY',
  })
}

function devnetContract(path: string): string | undefined {
  const schema = z.looseObject({ contracts: z.looseObject({ FineTuningServing: z.string().optional() }) })
  return schema.safeParse(JSON.parse(readFileSync(path, 'utf8'))).data?.contracts.FineTuningServing
}

function usage(message: string, fix: string): WeightlessError {
  return new WeightlessError({ code: 'CLI_USAGE', message, fix })
}
