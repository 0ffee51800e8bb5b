import { stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { parseRoot, wholeNumber } from '../arguments.ts'
import type { CliIo } from '../io.ts'
import { openClient } from '../open-client.ts'
import { type GlobalOptions, readOptions } from '../options.ts'
import { formatBytes } from '../progress.ts'
import { showTransfer } from '../show-transfer.ts'
import { writeOut } from '../write-out.ts'

interface DownloadOptions extends GlobalOptions {
  output?: string
  force?: boolean
  txSeq?: number
  offset?: number
  length?: number
}

/** `weightless download ROOT -o PATH` */
export function register(program: Command, io: CliIo): void {
  program
    .command('download')
    .description('fetch a file by its root; every byte is verified')
    .argument('<root...>', 'root of the file; several for a file that was split on upload, in order')
    .option('-o, --output <path>', 'file to write, a folder, or - for standard output (default: the root as name)')
    .option('-f, --force', 'replace an existing file')
    .option('--tx-seq <n>', 'the submission meant, where the content was submitted more than once', Number)
    .option('--offset <bytes>', 'with -o -: first byte', Number)
    .option('--length <bytes>', 'with -o -: number of bytes', wholeNumber)
    .addHelpText('after', '\nAn interrupted download leaves PATH.part; the same command goes on from there.')
    .action((roots: string[], _options: unknown, command: Command) =>
      runDownload({ roots: roots.map(parseRoot), options: readOptions<DownloadOptions>(command), io }),
    )
}

interface RunDownloadParameters {
  roots: `0x${string}`[]
  options: DownloadOptions
  io: CliIo
}

async function runDownload({ roots, options, io }: RunDownloadParameters): Promise<void> {
  const { client } = await openClient({ io, options })
  const view = showTransfer({ io })
  try {
    if (options.output === '-') {
      for (const root of roots) {
        const range = { offset: options.offset, length: options.length, txSeq: options.txSeq }
        // Progress would mix with the bytes only on a terminal, where nobody wants the bytes.
        const bytes = client.storage.readFile({ root, ...range, signal: io.signal })
        await writeOut({ stream: io.stdout, bytes, signal: io.signal })
      }
      return
    }
    const to = await destination({ output: options.output, name: roots[0] ?? 'download', cwd: io.cwd })
    const result = await client.storage.download({
      root: roots,
      to,
      txSeq: options.txSeq,
      overwrite: options.force,
      signal: io.signal,
      onEvent: view.listener,
    })
    view.stop()
    const { path, sizeBytes, resumedBytes } = result
    io.result({ json: { roots, path, sizeBytes, resumedBytes }, text: [`file downloaded, path = ${path}`] })
    io.info(
      `${formatBytes(sizeBytes)} verified against the root${resumedBytes > 0 ? `, ${formatBytes(resumedBytes)} of them from an earlier try` : ''}`,
    )
  } catch (error) {
    view.stop()
    if (io.interruptedBy !== undefined) io.info('interrupted; run the same command again to go on from the .part file')
    throw error
  } finally {
    await client.close()
  }
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
