import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { UploadReturnType } from '#client/storage/upload.ts'
import { hexBytes, wholeNumber } from '../arguments.ts'
import type { CliIo } from '../io.ts'
import { openClient, type SignerOptions } from '../open-client.ts'
import { type GlobalOptions, readOptions } from '../options.ts'
import { showTransfer } from '../show-transfer.ts'

interface UploadOptions extends GlobalOptions, SignerOptions {
  replicas: number
  tags: `0x${string}`
  wait: boolean
  timeout: number
  forceSubmit?: boolean
}

/** `weightless upload PATH` */
export function register(program: Command, io: CliIo): void {
  program
    .command('upload')
    .description('store a file; prints its root')
    .argument('<path>', 'the file')
    .option('--replicas <n>', 'times the network must hold the whole file', wholeNumber, 1)
    .option('--tags <hex>', 'bytes recorded on the chain with the file', hexBytes, '0x')
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
  const { fileSource } = await import('#kit/files.ts')
  await using source = await fileSource(path)
  const waitMs = options.timeout * 1000
  const limits = { receiptTimeoutMs: waitMs, entryTimeoutMs: waitMs, finalityTimeoutMs: waitMs }
  const { client } = await openClient({ io, options, signs: true, limits })
  const view = showTransfer({ io })
  try {
    const result = await client.storage.upload({
      source,
      replicas: options.replicas,
      tags: options.tags,
      waitFor: options.wait ? 'finalized' : 'sent',
      forceSubmit: options.forceSubmit,
      signal: io.signal,
      onEvent: view.listener,
    })
    view.stop()
    report({ result, io })
  } catch (error) {
    view.stop()
    if (io.interruptedBy !== undefined)
      io.info('interrupted; run the same command again to go on: it is not paid twice')
    throw error
  } finally {
    await client.close()
  }
}

function report({ result, io }: { result: UploadReturnType; io: CliIo }): void {
  const { root, sizeBytes, txSeq, txHash, paid, feeWei, nodes } = result
  io.result({
    json: { root, sizeBytes, txSeq, txHash: txHash ?? null, paid, feeWei, nodes },
    text: [`file uploaded, root = ${root}`],
  })
  io.info(paid ? `paid ${feeWei} wei, submission ${txSeq}` : `paid nothing: submission ${txSeq} was there already`)
}
