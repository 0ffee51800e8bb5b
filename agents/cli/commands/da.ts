import { resolve } from 'node:path'
import type { Command } from 'commander'
import { formatEther } from 'viem'
import { asPowerOfTwo } from '#client/da/confidence.ts'
import type { DaEvent } from '#client/da/da-client.ts'
import { atomicWrite } from '#kit/files.ts'
import { MAX_BLOB_BYTES } from '#protocol/da/constants.ts'
import { WeightlessError } from '#protocol/error.ts'
import { byteCount, coins, parseRoot, wholeNumber, zeroOrMore } from '../arguments.ts'
import type { CliIo } from '../io.ts'
import { type DaOptions, openDa, withAccounts, withContracts } from '../open-da.ts'
import { readOptions } from '../options.ts'
import { formatBytes, type Progress } from '../progress.ts'
import { writeOut } from '../write-out.ts'
import { putThrough, quoteAt, registerAccounts } from './da-disperser.ts'

interface PutOptions extends DaOptions {
  epochs?: number
  force?: boolean
  disperser?: string
  maxFee?: bigint
}

interface GetOptions extends DaOptions {
  out?: string
  epoch?: number
}

interface SampleOptions extends DaOptions {
  samples?: number
  sublines?: boolean
  epoch?: number
}

/** Below this the command fails: it would not have shown anything. */
const LEAST_CONFIDENCE = 0.999

interface DemandOptions extends DaOptions {
  row: number
  epoch?: number
}

/** `weightless da put|get|sample|demand|quote|deposit|balance|withdraw`. */
export function register(program: Command, io: CliIo): void {
  const group = program
    .command('da')
    .description('data availability: publish blobs, read them, check that they are there')
  withAccounts(group.command('put'))
    .description('publish a blob: its quorum signs for it, and the chain records the certificate')
    .argument('<file>', 'the file, at most 32 MiB; - for standard input')
    .option('--epochs <n>', 'epochs for which it is kept (default: the shortest the contract takes)', wholeNumber)
    .option('--force', 'pay even where the blob is there already')
    .option('--disperser <url>', 'let this disperser do it, paid from your deposit there; see: weightless da deposit')
    .option('--max-fee <coins>', 'with --disperser: pay at most this, also where paying is optional', coins)
    .option('--keystore <file>', 'keystore of the account that pays')
    .option('--password-file <file>', 'file with its password')
    .addHelpText('after', '\nThe same command again pays nothing twice: it goes on where an interrupted one stopped.')
    .action((file: string, _: unknown, command: Command) => put(file, readOptions<PutOptions>(command), io))
  withContracts(group.command('get'))
    .description('fetch a blob from its signers; every row is verified')
    .argument('<root>', 'data root of the blob')
    .option('-o, --out <path>', 'where to write; - for standard output (default: the root as name)')
    .option('--epoch <n>', 'the submission meant (default: the one confirmed last)', zeroOrMore)
    .action((root: string, _: unknown, command: Command) => get(parseRoot(root), readOptions<GetOptions>(command), io))
  withContracts(group.command('sample'))
    .description('check by random rows that a blob is there, and say how sure that is')
    .argument('<root>', 'data root of the blob')
    .option('--samples <n>', 'rows to draw (default 69: 2^-40 that a missing blob passes)', wholeNumber)
    .option('--sublines', 'fetch 1 KiB of each row: availability only, the coding is left to the signers')
    .option('--epoch <n>', 'the submission meant (default: the one confirmed last)', zeroOrMore)
    .action((root: string, _: unknown, command: Command) =>
      sampleBlob(parseRoot(root), readOptions<SampleOptions>(command), io),
    )
  withContracts(group.command('demand'))
    .description('demand a row on chain from its signer: it answers there, or loses stake')
    .argument('<root>', 'data root of the blob')
    .requiredOption('--row <n>', 'row, 0 to 3071', zeroOrMore)
    .option('--epoch <n>', 'the submission meant (default: the one confirmed last)', zeroOrMore)
    .option('--keystore <file>', 'keystore of the account that gives the bond')
    .option('--password-file <file>', 'file with its password')
    .action((root: string, _: unknown, command: Command) =>
      demand(parseRoot(root), readOptions<DemandOptions>(command), io),
    )
  withContracts(group.command('quote'))
    .description('what publishing a blob costs now')
    .argument('<size>', 'bytes, such as 131072 or 2MiB', byteCount)
    .option('--epochs <n>', 'epochs for which it is kept', wholeNumber)
    .option('--disperser <url>', 'ask this disperser in place of the contract')
    .action((size: number, _: unknown, command: Command) => quote(size, readOptions<PutOptions>(command), io))
  registerAccounts(group, io)
}

async function put(file: string, options: PutOptions, io: CliIo): Promise<void> {
  if (options.disperser !== undefined && (options.epochs !== undefined || options.force === true)) {
    throw new WeightlessError({
      code: 'CLI_USAGE',
      message: 'a disperser keeps to its own retention, and pays for each blob once',
      fix: 'leave --epochs and --force out, or leave --disperser out',
    })
  }
  const data = await readInput(file, io)
  const view = showEvents(io)
  await using da = await openDa(options, io, { pays: true })
  try {
    if (options.disperser !== undefined) {
      const { disperser: url, maxFee: maxFeeWei } = options
      const done = await putThrough(da, { url, data, maxFeeWei, onEvent: view.listener }, io)
      view.stop()
      const { certificate, requestId, feeWei } = done
      const { dataRoot, epoch, expiryEpoch } = certificate
      io.result({
        json: { ...certificate, feeWei, requestId, quote: done.quote },
        text: [`blob published, root = ${dataRoot}`, `epoch ${epoch}, kept until epoch ${expiryEpoch}`],
      })
      io.info(feeWei === 0n ? 'it was free: nothing was charged' : `charged ${formatEther(feeWei)}`)
      return
    }
    const done = await da.disperse({
      ...{ data, retentionEpochs: options.epochs, force: options.force, signal: io.signal, onEvent: view.listener },
    })
    view.stop()
    const { certificate, feeWei, existed, failures } = done
    const { dataRoot, epoch, expiryEpoch } = certificate
    io.result({
      json: { ...certificate, feeWei, existed, failures },
      text: [`blob published, root = ${dataRoot}`, `epoch ${epoch}, kept until epoch ${expiryEpoch}`],
    })
    io.info(existed ? 'it was there already: nothing was paid' : `paid ${formatEther(feeWei)}`)
    for (const { url, reason } of failures) io.info(`did not sign in time: ${url}: ${reason}`)
  } catch (error) {
    view.stop()
    if (io.interruptedBy !== undefined) io.info('interrupted; the same command goes on, without paying twice')
    throw error
  }
}

async function get(dataRoot: `0x${string}`, options: GetOptions, io: CliIo): Promise<void> {
  const view = showEvents(io)
  await using da = await openDa(options, io)
  try {
    const found = await da.retrieve({ dataRoot, epoch: options.epoch, signal: io.signal, onEvent: view.listener })
    view.stop()
    const { data, blob, servedBy, failures } = found
    for (const { url, reason } of failures) io.info(`of no use: ${url}: ${reason}`)
    if (options.out === '-') {
      const bytes = (async function* () {
        yield data
      })()
      await writeOut({ stream: io.stdout, bytes, signal: io.signal })
      return
    }
    const path = resolve(io.cwd, options.out ?? dataRoot)
    await atomicWrite({ path, data })
    const { epoch, expiryEpoch, sizeBytes } = blob
    io.result({
      json: { dataRoot, path, sizeBytes, epoch, expiryEpoch, servedBy, failures },
      text: [`blob fetched, path = ${path}`],
    })
    io.info(`${formatBytes(sizeBytes)}, verified by encoding it again; rows from ${servedBy.length} signers`)
  } finally {
    view.stop()
  }
}

async function demand(dataRoot: `0x${string}`, options: DemandOptions, io: CliIo): Promise<void> {
  await using da = await openDa(options, io, { pays: true })
  const { row, epoch } = options
  const done = await da.demandRow({
    ...{ dataRoot, row, epoch, signal: io.signal },
    onEvent: (event) => {
      if (event.type !== 'asked') return
      const { signer, bondWei, deadlineBlock } = event
      io.info(`asked ${signer} with a bond of ${formatEther(bondWei)}; it has until block ${deadlineBlock}`)
    },
  })
  const { signer, bondWei, data, slashedWei } = done
  io.result({
    json: { ...done, dataRoot, row, data: data === undefined ? null : `0x${Buffer.from(data).toString('hex')}` },
    text: [
      data === undefined
        ? `${signer} did not answer and lost ${formatEther(slashedWei)}; the bond and a share of it are yours to draw`
        : `row ${row} is on the chain, ${data.length} bytes, verified; ${signer} got the bond of ${formatEther(bondWei)}`,
    ],
  })
}

async function sampleBlob(dataRoot: `0x${string}`, options: SampleOptions, io: CliIo): Promise<void> {
  const view = showEvents(io)
  await using da = await openDa(options, io)
  try {
    const found = await da.sample({
      ...{ dataRoot, epoch: options.epoch, samples: options.samples, signal: io.signal, onEvent: view.listener },
      mode: options.sublines === true ? 'sublines' : 'rows',
    })
    view.stop()
    const { samples, passed, misled, confidence, restsOn, failures, receivedBytes, mode, blob } = found
    const { epoch, expiryEpoch, sizeBytes } = blob
    if (confidence < LEAST_CONFIDENCE) io.exitCode = 1
    io.result({
      json: {
        ...{ dataRoot, mode, samples, passed, confidence, misled, restsOn, failures, receivedBytes },
        ...{ epoch, expiryEpoch, sizeBytes },
      },
      text: [
        `${passed} of ${samples} samples passed (${formatBytes(receivedBytes)} received)`,
        passed === samples
          ? `a blob that is not there would pass with a probability of ${asPowerOfTwo(misled)}`
          : `so many passes have a probability of at most ${asPowerOfTwo(misled)} where the blob is not there`,
        ...restsOn.map((line) => `  rests on: ${line}`),
        ...failures.map(({ url, reason }) => `  failed: ${url}: ${reason}`),
      ],
    })
  } finally {
    view.stop()
  }
}

async function quote(sizeBytes: number, options: PutOptions, io: CliIo): Promise<void> {
  if (options.disperser !== undefined) return await quoteAt(options.disperser, sizeBytes, io)
  await using da = await openDa(options, io)
  const { feeWei, retentionEpochs, epoch } = await da.quote({ sizeBytes, retentionEpochs: options.epochs })
  io.result({
    json: { sizeBytes, retentionEpochs, feeWei, epoch },
    text: [`${formatEther(feeWei)} for ${formatBytes(sizeBytes)}, kept for ${retentionEpochs} epochs`],
  })
}

/** A whole blob from a file or standard input, never more than fits. */
async function readInput(file: string, io: CliIo): Promise<Uint8Array> {
  const { createReadStream } = await import('node:fs')
  const source: AsyncIterable<Buffer> = file === '-' ? io.stdin : createReadStream(resolve(io.cwd, file))
  const parts: Buffer[] = []
  let length = 0
  try {
    for await (const part of source) {
      const bytes = Buffer.from(part)
      length += bytes.length
      if (length > MAX_BLOB_BYTES) break
      parts.push(bytes)
    }
  } catch (cause) {
    throw new WeightlessError({
      code: 'FILE_MISSING',
      message: `${file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
      fix: 'check the path and its permissions',
      details: { file },
      cause,
    })
  }
  if (length > 0 && length <= MAX_BLOB_BYTES) return Buffer.concat(parts)
  throw new WeightlessError({
    code: 'BLOB_SIZE',
    message: length === 0 ? `${file} is empty` : `${file} has more than ${MAX_BLOB_BYTES} bytes`,
    fix: length === 0 ? 'give at least one byte' : 'split it into blobs of 32 MiB',
    details: { file, limitBytes: MAX_BLOB_BYTES },
  })
}

function showEvents(io: CliIo): { listener: (event: DaEvent) => void; stop: () => void } {
  let bar: { label: string; progress: Progress } | undefined
  const stop = (): void => {
    bar?.progress.stop()
    bar = undefined
  }
  const grow = (label: string, doneBytes: number, totalBytes: number): void => {
    if (bar?.label !== label) {
      stop()
      bar = { label, progress: io.progress({ label, totalBytes }) }
    }
    bar.progress.update({ doneBytes, totalBytes })
  }
  const listener = (event: DaEvent): void => {
    if (event.type === 'sending') grow('sending', event.doneBytes, event.totalBytes)
    const line = describe(event)
    if (line === undefined) return
    if (bar === undefined) io.info(line)
    else bar.progress.note(line)
  }
  return { listener, stop }
}

/** One line for an event; undefined for what is not worth one. */
function describe(event: DaEvent): string | undefined {
  switch (event.type) {
    case 'encoded':
      return `root ${event.dataRoot}, ${formatBytes(event.sizeBytes)} in rows of ${formatBytes(event.rowBytes)}`
    case 'found':
      return `the chain has it in epoch ${event.epoch}${event.confirmed ? ', confirmed' : ', without signatures yet'}`
    case 'fee':
      return `fee ${formatEther(event.feeWei)}`
    case 'transaction-sent':
      return `transaction ${event.txHash} (${event.purpose})`
    case 'submitted':
      return `paid in block ${event.block}, epoch ${event.epoch}`
    case 'signed':
      return `signed: ${event.url} (${percent(event.signedWei, event.totalWei)} % of the stake)`
    case 'signer-failed':
      return `${event.final ? 'of no use' : 'trying again'}: ${event.url}: ${event.reason}`
    case 'moved':
      return `moved from epoch ${event.fromEpoch} to ${event.toEpoch}`
    case 'confirmed':
      return `certificate in block ${event.block}`
    case 'waiting':
      return event.for === 'depth' ? `waiting for blocks: ${event.reason}` : `waiting: ${event.reason}`
    default:
      return undefined
  }
}

function percent(part: bigint, whole: bigint): string {
  return whole === 0n ? '0' : String(Number((part * 1_000n) / whole) / 10)
}
