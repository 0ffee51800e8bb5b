import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { Client } from '#client/connect.ts'
import type { Encryption } from '#client/storage/encryption.ts'
import type { UploadParameters } from '#client/storage/upload.ts'
import { byteCount, hexBytes, selectionMethod, wholeNumber } from '../arguments.ts'
import type { CliIo } from '../io.ts'
import { type EncryptionOptions, encryptionOf } from '../keys.ts'
import { openClient, type SignerOptions } from '../open-client.ts'
import { type GlobalOptions, readOptions } from '../options.ts'
import { formatBytes } from '../progress.ts'
import { showTransfer } from '../show-transfer.ts'

interface UploadOptions extends GlobalOptions, SignerOptions, EncryptionOptions {
  replicas: number
  tags: `0x${string}`
  method: UploadParameters['method']
  fragmentSize: number
  wait: boolean
  timeout: number
  forceSubmit?: boolean
}

/** `weightless upload PATH` */
export function register(program: Command, io: CliIo): void {
  program
    .command('upload')
    .description('store a file or a folder; prints its root')
    .argument('<path>', 'the file or folder')
    .option('--replicas <n>', 'times the network must hold the whole file', wholeNumber, 1)
    .option('--encrypt', 'encrypt with the key of --key-file or WEIGHTLESS_ENCRYPTION_KEY')
    .option('--key-file <file>', 'file with a key of 64 hex digits to encrypt with')
    .option('--recipient <public-key>', 'encrypt for the holder of this secp256k1 key (see: weightless key show)')
    .option('--tags <hex>', 'bytes recorded on the chain with the file', hexBytes, '0x')
    .option('--fragment-size <bytes>', 'split larger files; with a suffix such as 512MiB', byteCount, 4 * 2 ** 30)
    .option(
      '--method <min|max|random|n>',
      'how nodes are chosen: fewest shards first, most, any, exactly n shards',
      selectionMethod,
      'min',
    )
    .option('--no-wait', 'return when everything is sent, before the nodes call it final')
    .option('--timeout <seconds>', 'limit of each wait', wholeNumber, 180)
    .option('--force-submit', 'submit and pay even where the network knows the content already')
    .option(
      '--keystore <file>',
      'keystore of the account that pays (also: WEIGHTLESS_KEYSTORE, WEIGHTLESS_PRIVATE_KEY)',
    )
    .option('--password-file <file>', 'file with the password of the keystore')
    .addHelpText(
      'after',
      '\nAn upload may be repeated after any failure: it goes on where it stopped and is not paid twice.',
    )
    .action((path: string, _options: unknown, command: Command) =>
      runUpload({ path: resolve(io.cwd, path), options: readOptions<UploadOptions>(command), io }),
    )
}

async function runUpload({ path, options, io }: { path: string; options: UploadOptions; io: CliIo }): Promise<void> {
  const encryption = await encryptionOf({ options, io })
  const isFolder = await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
  // Before any connection: a wrong path is the likeliest mistake.
  if (!isFolder) await (await openSource(path)).close()
  const waitMs = options.timeout * 1000
  const limits = { receiptTimeoutMs: waitMs, entryTimeoutMs: waitMs, finalityTimeoutMs: waitMs }
  const { client } = await openClient({ io, options, signs: true, limits })
  const view = showTransfer({ io })
  const shared = {
    replicas: options.replicas,
    tags: options.tags,
    method: options.method,
    waitFor: options.wait ? ('finalized' as const) : ('sent' as const),
    forceSubmit: options.forceSubmit,
    fragmentBytes: options.fragmentSize,
    signal: io.signal,
    onEvent: view.listener,
  }
  try {
    if (isFolder) await uploadFolder({ client, path, encryption, shared, view, io })
    else await uploadFile({ client, path, encryption, shared, view, io })
  } catch (error) {
    view.stop()
    if (io.interruptedBy !== undefined) {
      io.info('interrupted; run the same command again to go on: it is not paid twice')
    }
    throw error
  } finally {
    await client.close()
  }
}

interface RunParameters {
  client: Client
  path: string
  encryption: Encryption | undefined
  shared: Omit<UploadParameters, 'source'> & { fragmentBytes: number }
  view: { stop(): void }
  io: CliIo
}

async function uploadFile({ client, path, encryption, shared, view, io }: RunParameters): Promise<void> {
  const { encryptSource } = await import('#client/storage/encryption.ts')
  await using file = await openSource(path)
  const { account } = client.storage.connection
  const sealed = encryption && (await encryptSource({ source: file, encryption, account, signal: io.signal }))
  const { roots, sizeBytes, feeWei, fragments } = await client.storage.uploadFragments({
    ...shared,
    source: sealed ?? file,
  })
  view.stop()
  const [root] = roots
  io.result({
    json: {
      type: 'file',
      root: roots.length === 1 ? root : null,
      roots,
      sizeBytes,
      feeWei,
      paid: feeWei > 0n || fragments.some(({ paid }) => paid),
      fragments: fragments.map(({ txHash, ...fragment }) => ({ ...fragment, txHash: txHash ?? null })),
    },
    text: [
      roots.length === 1
        ? `file uploaded, root = ${root}`
        : `file uploaded in ${roots.length} fragments, roots = ${roots.join(',')}`,
    ],
  })
  const seqs = fragments.map(({ txSeq }) => txSeq).join(', ')
  io.info(feeWei > 0n ? `paid ${feeWei} wei, submission ${seqs}` : `paid nothing: submission ${seqs} was there already`)
}

async function uploadFolder({ client, path, encryption, shared, view, io }: RunParameters): Promise<void> {
  const result = await client.storage.uploadDirectory({ ...shared, path, encryption })
  view.stop()
  for (const name of result.skipped) io.warn(`${name} is neither file, folder nor link: left out`)
  io.result({ json: { type: 'directory', ...result }, text: [`directory uploaded, root = ${result.root}`] })
  io.info(`${result.files} files, ${formatBytes(result.sizeBytes)}, paid ${result.feeWei} wei`)
}

async function openSource(path: string) {
  const { fileSource } = await import('#kit/files.ts')
  return fileSource(path)
}
