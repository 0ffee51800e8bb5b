import { resolve } from 'node:path'
import type { Command } from 'commander'
import { wholeNumber } from '../arguments.ts'
import type { CliIo } from '../io.ts'
import { openClient, type SignerOptions } from '../open-client.ts'
import { type GlobalOptions, readOptions } from '../options.ts'
import { chatLine, publishAdapter, readAdapter } from '../publish-adapter.ts'
import { showTransfer } from '../show-transfer.ts'

interface ShowOptions extends GlobalOptions {
  baseFile?: string
}

interface PublishOptions extends ShowOptions, SignerOptions {
  base: string
  replicas: number
}

/** `weightless adapter publish FILE`, `weightless adapter show FILE` */
export function register(program: Command, io: CliIo): void {
  const group = program.command('adapter').description('LoRA adapters: what a fine-tuning gives, served by the market')
  group
    .command('publish')
    .description('store an adapter, readable by everybody, so that providers of its base serve it by its root')
    .argument('<file>', 'adapter.gguf, as weightless finetune wrote it')
    .option('--base <model>', 'name of its base model, for the line that asks it', 'MODEL')
    .option('--base-file <file>', 'weights of the base model, to check the adapter against before it is paid for')
    .option('--replicas <n>', 'times the network must hold it', wholeNumber, 1)
    .option(
      '--keystore <file>',
      'keystore of the account that pays (also: WEIGHTLESS_KEYSTORE, WEIGHTLESS_PRIVATE_KEY)',
    )
    .option('--password-file <file>', 'file with the password of the keystore')
    .addHelpText('after', '\nMay be repeated after any failure: what is stored already is not paid twice.')
    .action((file: string, _options: unknown, at: Command) => publish(file, readOptions<PublishOptions>(at), io))
  group
    .command('show')
    .description('what an adapter file holds, and its root')
    .argument('<file>', 'LoRA adapter in GGUF')
    .option('--base-file <file>', 'weights of the base model to check it against')
    .action((file: string, _options: unknown, at: Command) => show(file, readOptions<ShowOptions>(at), io))
}

async function publish(file: string, options: PublishOptions, io: CliIo): Promise<void> {
  const path = resolve(io.cwd, file)
  // Before any connection: what is no adapter would be paid for and served by nobody.
  const facts = await readAdapter({ path, basePath: at(io, options.baseFile) })
  const { client } = await openClient({ io, options, signs: true })
  const view = showTransfer({ io })
  try {
    const { replicas, base } = options
    const { root, feeWei } = await publishAdapter({ client, path, replicas, signal: io.signal, onEvent: view.listener })
    view.stop()
    io.result({
      json: { ...facts, root, feeWei, model: `${base}:${root}` },
      text: [`adapter published, root = ${root}`, `ask it: ${chatLine({ base, root })}`],
    })
  } finally {
    view.stop()
    await client.close()
  }
}

async function show(file: string, options: ShowOptions, io: CliIo): Promise<void> {
  const basePath = at(io, options.baseFile)
  const facts = await readAdapter({ path: resolve(io.cwd, file), basePath })
  const { root, sizeBytes, name, architecture, rank, alpha, matrices } = facts
  io.result({
    json: { ...facts, fits: basePath === undefined ? null : true },
    text: [
      `root     ${root}`,
      `adapter  ${name || 'without a name'}, LoRA for ${architecture}, ${sizeBytes} bytes`,
      ...(facts.baseRoot === null ? [] : [`base     ${facts.baseRoot}`]),
      `changes  ${matrices} matrices, rank up to ${rank}, alpha ${alpha}`,
      ...(basePath === undefined ? [] : [`fits     ${basePath}`]),
    ],
  })
}

function at(io: CliIo, path: string | undefined): string | undefined {
  return path === undefined ? undefined : resolve(io.cwd, path)
}
