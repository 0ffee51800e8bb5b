import { stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import type { Client } from '#client/connect.ts'
import type { Decryption } from '#client/storage/encryption.ts'
import { parseRoot, wholeNumber, zeroOrMore } from '../arguments.ts'
import type { CliIo } from '../io.ts'
import { type DecryptionOptions, decryptionOf } from '../keys.ts'
import { openClient } from '../open-client.ts'
import { type GlobalOptions, readOptions } from '../options.ts'
import { formatBytes } from '../progress.ts'
import { showTransfer } from '../show-transfer.ts'
import { writeOut } from '../write-out.ts'

interface DownloadOptions extends GlobalOptions, DecryptionOptions {
  output?: string
  force?: boolean
  raw?: boolean
  txSeq?: number
  offset?: number
  length?: number
}

/** `weightless download ROOT -o PATH` */
export function register(program: Command, io: CliIo): void {
  program
    .command('download')
    .description('fetch a file or folder by its root; every byte is verified')
    .argument('<root...>', 'root of the file or folder; several for a file that was split on upload, in order')
    .option('-o, --output <path>', 'where to write; - for standard output (default: the root as name)')
    .option('-f, --force', 'replace existing files')
    .option('--decrypt', 'decrypt with WEIGHTLESS_ENCRYPTION_KEY or WEIGHTLESS_PRIVATE_KEY')
    .option('--decrypt-key-file <file>', 'decrypt with the key in this file (64 hex digits)')
    .option('--decrypt-keystore <file>', 'decrypt with the private key of this keystore')
    .option('--password-file <file>', 'file with the password of the keystore')
    .option('--allow-unverified-key', 'decrypt files of other programs, where a wrong key goes unnoticed')
    .option('--raw', 'write the description of a folder instead of the folder')
    .option('--tx-seq <n>', 'the submission meant, where the content was submitted more than once', zeroOrMore)
    .option('--offset <bytes>', 'with -o -: first byte', zeroOrMore)
    .option('--length <bytes>', 'with -o -: number of bytes', wholeNumber)
    .addHelpText('after', '\nAn interrupted download leaves PATH.part; the same command goes on from there.')
    .action((roots: string[], _options: unknown, command: Command) =>
      runDownload({
        roots: roots.flatMap((text) => text.split(',')).map(parseRoot),
        options: readOptions<DownloadOptions>(command),
        io,
      }),
    )
}

interface RunDownloadParameters {
  roots: `0x${string}`[]
  options: DownloadOptions
  io: CliIo
}

async function runDownload({ roots, options, io }: RunDownloadParameters): Promise<void> {
  const decryption = await decryptionOf({ options, io })
  const { client } = await openClient({ io, options })
  const view = showTransfer({ io })
  try {
    if (options.output === '-') {
      const { txSeq, offset, length } = options
      const bytes = client.storage.readFile({ root: roots, txSeq, offset, length, decryption, signal: io.signal })
      // No progress: bytes on a terminal and a bar would mix.
      await writeOut({ stream: io.stdout, bytes, signal: io.signal })
    } else await toDisk({ client, roots, decryption, options, view, io })
  } catch (error) {
    view.stop()
    if (io.interruptedBy !== undefined) {
      io.info('interrupted; run the same command again to go on from the .part file')
    }
    throw error
  } finally {
    await client.close()
  }
}

interface ToDiskParameters extends RunDownloadParameters {
  client: Client
  decryption: Decryption | undefined
  view: ReturnType<typeof showTransfer>
}

async function toDisk({ client, roots, decryption, options, view, io }: ToDiskParameters): Promise<void> {
  const { storage } = client
  const [root = '0x'] = roots
  const common = { decryption, overwrite: options.force, signal: io.signal, onEvent: view.listener }
  if (roots.length === 1 && options.raw !== true && options.txSeq === undefined) {
    const { isStoredDirectory } = await import('#client/storage/download-directory.ts')
    if (await isStoredDirectory(storage.connection, { root, decryption, signal: io.signal })) {
      const result = await storage.downloadDirectory({ ...common, root, to: resolve(io.cwd, options.output ?? root) })
      view.stop()
      for (const link of result.skippedLinks) io.warn(`${link} leads out of the folder: not made`)
      io.result({ json: { type: 'directory', root, ...result }, text: [`directory downloaded, path = ${result.path}`] })
      io.info(
        `${result.files} files, ${formatBytes(result.sizeBytes)} verified, ${result.kept} of them were here already`,
      )
      return
    }
  }
  const to = await destination({ output: options.output, name: root, cwd: io.cwd })
  const { path, sizeBytes, resumedBytes } = await storage.download({ ...common, root: roots, to, txSeq: options.txSeq })
  view.stop()
  io.result({ json: { type: 'file', roots, path, sizeBytes, resumedBytes }, text: [`file downloaded, path = ${path}`] })
  const resumed = resumedBytes > 0 ? `, ${formatBytes(resumedBytes)} of them from an earlier try` : ''
  io.info(`${formatBytes(sizeBytes)} verified against the root${resumed}`)
}

/** The file to write: inside `output` where that is a folder. */
async function destination({
  output,
  name,
  cwd,
}: {
  output: string | undefined
  name: string
  cwd: string
}): Promise<string> {
  const path = resolve(cwd, output ?? name)
  if (output === undefined) return path
  const isFolder = await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
  return isFolder ? join(path, name) : path
}
