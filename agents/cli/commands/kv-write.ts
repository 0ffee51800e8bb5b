import { resolve } from 'node:path'
import type { Command } from 'commander'
import { streamIdOf } from '#client/kv/stream-id.ts'
import { MAX_WRITE_BYTES, type WriteStreamParameters } from '#client/kv/write-stream.ts'
import { fileSource } from '#kit/files.ts'
import type { StreamControl, StreamKey } from '#protocol/kv/stream-data.ts'
import { wholeNumber, zeroOrMore } from '../arguments.ts'
import type { CliIo } from '../io.ts'
import { type EncryptionOptions, encryptionOf } from '../keys.ts'
import { openClient, type SignerOptions } from '../open-client.ts'
import { type KvOptions, kvNodeOf, parseKey, STREAM_HELP, usage, withKvNode } from '../open-kv.ts'
import { readOptions } from '../options.ts'
import { showTransfer } from '../show-transfer.ts'

/** Flags of every command that writes to a stream. */
export interface KvWriteOptions extends KvOptions, SignerOptions, EncryptionOptions {
  version?: number
  file?: string[]
  check: boolean
  wait: boolean
  replicas: number
  timeout: number
}

/** `weightless kv put|delete`. */
export function addWriteCommands(group: Command, io: CliIo): void {
  withWriting(group.command('put'))
    .description('set keys of a stream, all at once or none; whoever writes a stream first owns it')
    .argument('<stream>', STREAM_HELP)
    .argument('[pairs...]', 'KEY=VALUE')
    .option('--file <key=path...>', 'set a key to the content of a file; - for standard input')
    .option('--version <n>', 'only if no key of them is newer than this submission (default: overwrite)', zeroOrMore)
    .addHelpText('after', HELP)
    .action((stream: string, pairs: string[], _: unknown, at: Command) =>
      put({ stream, pairs, options: readOptions<KvWriteOptions>(at), io }),
    )
  withWriting(group.command('delete'))
    .description('delete keys of a stream; their history stays')
    .argument('<stream>', STREAM_HELP)
    .argument('<keys...>', 'the keys')
    .option('--version <n>', 'only if no key of them is newer than this submission', zeroOrMore)
    .action((stream: string, keys: string[], _: unknown, at: Command) => {
      const options = readOptions<KvWriteOptions>(at)
      const streamId = streamIdOf(stream)
      const writes = keys.map((key) => ({ streamId, key: parseKey(key, options), data: new Uint8Array() }))
      return runWrite({
        streamId,
        writes,
        options,
        io,
        done: `deleted ${keys.length} ${keys.length === 1 ? 'key' : 'keys'}`,
      })
    })
}

const HELP = `
Reading a key gives its version; writing with --version refuses where somebody has written since. An empty value is a
deletion: use kv delete. Encrypted values are read by key-value nodes that have the key (encryption in their settings).
A write that was interrupted goes on when it is repeated; a write that is done is written again, and paid again.`

/** Adds the flags of {@link KvWriteOptions} that every writing command has. */
export function withWriting(command: Command): Command {
  return withKvNode(command)
    .option('--encrypt', 'encrypt with the key of --key-file or WEIGHTLESS_ENCRYPTION_KEY')
    .option('--key-file <file>', 'file with a key of 64 hex digits to encrypt with')
    .option('--recipient <public-key>', 'encrypt for the holder of this secp256k1 key: the wallet of a key-value node')
    .option('--replicas <n>', 'times the network must hold the data', wholeNumber, 1)
    .option('--no-check', 'do not ask the key-value node before paying whether it would take the write')
    .option('--no-wait', 'return when the data is stored, before the key-value node has taken the write')
    .option('--timeout <seconds>', 'limit of each wait', wholeNumber, 180)
    .option('--keystore <file>', 'keystore of the account that writes and pays')
    .option('--password-file <file>', 'file with its password')
}

async function put({
  stream,
  pairs,
  options,
  io,
}: {
  stream: string
  pairs: string[]
  options: KvWriteOptions
  io: CliIo
}): Promise<void> {
  const streamId = streamIdOf(stream)
  const writes: (StreamKey & { data: Uint8Array })[] = []
  for (const pair of pairs) {
    const [name, value] = split(pair, 'KEY=VALUE')
    if (value === '') throw usage(`${name} has an empty value, which is a deletion`, 'use: weightless kv delete')
    writes.push({ streamId, key: parseKey(name, options), data: new TextEncoder().encode(value) })
  }
  let room = MAX_WRITE_BYTES
  for (const pair of options.file ?? []) {
    const [name, path] = split(pair, 'KEY=PATH')
    const data = await readValue({ path, room, io })
    room -= data.length
    writes.push({ streamId, key: parseKey(name, options), data })
  }
  if (writes.length === 0) throw usage('there is nothing to write', 'give KEY=VALUE, or --file KEY=PATH')
  const { size: length } = new Set(writes.map(({ key }) => Buffer.from(key).toString('hex')))
  if (length < writes.length) throw usage('a key is given twice', 'give each key once')
  await runWrite({ streamId, writes, options, io, done: `wrote ${length} ${length === 1 ? 'key' : 'keys'}` })
}

function split(pair: string, form: string): [string, string] {
  const at = pair.indexOf('=')
  if (at > 0) return [pair.slice(0, at), pair.slice(at + 1)]
  throw usage(`${pair.slice(0, 80)} is not of the form ${form}`, `give ${form}`)
}

async function readValue({ path, room, io }: { path: string; room: number; io: CliIo }): Promise<Uint8Array> {
  if (path === '-') {
    const parts: Buffer[] = []
    let length = 0
    for await (const part of io.stdin) {
      const bytes = Buffer.from(part as Uint8Array | string)
      length += bytes.length
      if (length > room) throw tooLarge(path)
      parts.push(bytes)
    }
    if (length === 0) throw usage('standard input is empty, which is a deletion', 'use: weightless kv delete')
    return new Uint8Array(Buffer.concat(parts))
  }
  await using source = await fileSource(resolve(io.cwd, path))
  if (source.sizeBytes > room) throw tooLarge(path)
  if (source.sizeBytes === 0) throw usage(`${path} is empty, which is a deletion`, 'use: weightless kv delete')
  return source.read({ offset: 0, length: source.sizeBytes })
}

function tooLarge(path: string): Error {
  return usage(
    `${path} is too large: the values of one write have at most ${MAX_WRITE_BYTES} bytes`,
    'store it with `weightless upload`, and write its root',
  )
}

export interface RunWriteParameters extends Pick<WriteStreamParameters, 'writes'> {
  streamId: `0x${string}`
  controls?: readonly StreamControl[]
  options: KvWriteOptions
  io: CliIo
  /** What happened, in words. */
  done: string
}

/** Writes to a stream with the settings of the command line, and tells the outcome. */
export async function runWrite({ streamId, writes, controls, options, io, done }: RunWriteParameters): Promise<void> {
  const encryption = await encryptionOf({ options, io })
  const node = kvNodeOf({ io, options })
  const waitMs = options.timeout * 1_000
  const limits = { receiptTimeoutMs: waitMs, entryTimeoutMs: waitMs, finalityTimeoutMs: waitMs }
  const { client } = await openClient({ io, options, signs: true, limits })
  const view = showTransfer({ io })
  try {
    const { writeStream } = await import('#client/kv/write-stream.ts')
    const written = await writeStream(client.storage.connection, {
      ...{ node, writes, controls, encryption },
      version: options.version === undefined ? undefined : BigInt(options.version),
      ...{ check: options.check, wait: options.wait, replicas: options.replicas, resultTimeoutMs: waitMs },
      ...{ signal: io.signal, onEvent: view.listener },
    })
    view.stop()
    const { txSeq, txHash, root, sizeBytes, feeWei, result } = written
    io.result({
      json: { streamId, version: txSeq, txHash: txHash ?? null, root, sizeBytes, feeWei, result: result ?? null },
      text: [result === undefined ? `sent as submission ${txSeq}` : `${done}, version = ${txSeq}`],
    })
    io.info(`stream ${streamId}, paid ${feeWei} wei`)
  } catch (error) {
    if (io.interruptedBy !== undefined) io.info('interrupted; what is paid is not paid again when this is repeated')
    throw error
  } finally {
    view.stop()
    node.close()
    await client.close()
  }
}
