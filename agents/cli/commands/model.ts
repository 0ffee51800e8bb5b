import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { FineTuningReader } from '#compute/fine-tuning/chain/fine-tuning-chain.ts'
import { type FoundLineage, findLineage } from '#compute/fine-tuning/client/find-lineage.ts'
import { type LineageLink, verifyLineage } from '#compute/fine-tuning/client/verify-lineage.ts'
import type { ArtefactStorage } from '#compute/fine-tuning/storage.ts'
import { connectChain } from '#kit/chain/client.ts'
import type { SignedLineage } from '#protocol/compute/fine-tuning/lineage.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash } from '#protocol/hex.ts'
import { parseRoot } from '../arguments.ts'
import { EXIT_CODE } from '../exit-code.ts'
import type { CliIo } from '../io.ts'
import { resolveNetwork } from '../network.ts'
import { type GlobalOptions, readOptions } from '../options.ts'
import { fineTuningContract, fineTuningOption, readingStorage } from './finetune.ts'

interface ShowOptions extends GlobalOptions {
  file?: string
  dataset?: string
  base?: string
  adapter?: string
  fineTuning?: string
}

/** `weightless model show ROOT` */
export function register(program: Command, io: CliIo): void {
  const group = program.command('model').description('where a fine-tuned model comes from')
  group
    .command('show')
    .description("a model's lineage, every link verified: dataset, base, recipe, trainer, checkpoints, adapter, scores")
    .argument('<root>', 'root of the lineage record, as weightless finetune printed it, or of the artefact it tells of')
    .option('--file <file>', 'the record itself, where it is not stored in the network')
    .option('--dataset <file>', 'dataset to compare')
    .option('--base <file>', 'weights of the base model to compare')
    .option('--adapter <file>', 'adapter to compare')
    .addOption(fineTuningOption())
    .action((root: string, _options: unknown, at: Command) => show(parseRoot(root), readOptions<ShowOptions>(at), io))
}

async function show(given: Hash, options: ShowOptions, io: CliIo): Promise<void> {
  const network = resolveNetwork({ io, options })
  const storage = readingStorage(network)
  const at = (path: string | undefined) => (path === undefined ? undefined : resolve(io.cwd, path))
  const chain = network.rpcUrl.length === 0 ? undefined : await connectChain({ rpcUrls: network.rpcUrl })
  try {
    const { root, bytes } =
      options.file === undefined
        ? await fetchRecord(storage, given)
        : { root: given, bytes: readFileSync(resolve(io.cwd, options.file)) }
    const contract = chain === undefined ? undefined : fineTuningContract({ io, given: options.fineTuning, network })
    const { lineage, links } = await verifyLineage({
      ...{ bytes, root, storage },
      files: { dataset: at(options.dataset), base: at(options.base), adapter: at(options.adapter) },
      reader:
        chain === undefined || contract === undefined
          ? undefined
          : ({ record }) => new FineTuningReader({ chain, contract, provider: record.task.provider }),
    })
    const verified = links.every(({ state }) => state !== 'broken')
    io.result({
      json: { root, verified, links, ...lineage },
      text: [...recordText(lineage), '', ...links.map(linkText)],
    })
    if (!verified) io.exitCode = EXIT_CODE.failure
  } finally {
    chain?.close()
    await storage?.close()
  }
}

async function fetchRecord(storage: ArtefactStorage | undefined, root: Hash): Promise<FoundLineage> {
  if (storage === undefined) {
    throw new WeightlessError({
      code: 'CLI_USAGE',
      message: 'no storage network is known, and no record is given',
      fix: 'give --indexer URL, or --file lineage.json',
    })
  }
  const folder = await mkdtemp(join(tmpdir(), 'weightless-model-'))
  try {
    return await findLineage({ storage, root, folder })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function recordText({ record }: SignedLineage): string[] {
  const { task, dataset, base, recipe, trainer, checkpoints, adapter, artefact, scores, finishedAtS } = record
  const held = scores.heldOutLoss === undefined ? '' : `, held out ${scores.heldOutLoss.toFixed(4)}`
  const beforeHeld = scores.heldOutLossBefore === undefined ? '' : ` (first ${scores.heldOutLossBefore.toFixed(4)})`
  return [
    `task         ${task.id} of ${task.user} at ${task.provider}, ${new Date(finishedAtS * 1000).toISOString()}`,
    `dataset      ${dataset.root}  ${dataset.examples} examples, ${dataset.tokens} tokens`,
    `base         ${base.root}  ${base.name}`,
    `recipe       ${Object.entries(recipe)
      .map(([name, value]) => `${name}=${Array.isArray(value) ? value.join('+') : String(value)}`)
      .join(' ')} seed=${record.seed}`,
    `trainer      ${trainer.name} ${trainer.version} ${trainer.digest}`,
    ...checkpoints.map(({ step, root }) => `checkpoint   ${root}  step ${step}`),
    `adapter      ${adapter.root}  ${adapter.sizeBytes} bytes`,
    `artefact     ${artefact.root}  ${artefact.sizeBytes} bytes, encrypted`,
    `scores       ${scores.steps} steps, loss ${scores.loss.toFixed(4)}${held}${beforeHeld}`,
  ]
}

function linkText({ name, state, detail }: LineageLink): string {
  const mark = { holds: 'ok     ', broken: 'BROKEN ', unknown: '?      ' }[state]
  return `${mark} ${name.padEnd(12)} ${detail}`
}
