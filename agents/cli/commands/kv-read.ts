import { resolve } from 'node:path'
import type { Command } from 'commander'
import { KvKeyUnknownError } from '#client/kv/errors.ts'
import { keyHistory } from '#client/kv/key-history.ts'
import type { KvValue } from '#client/kv/kv-node.ts'
import { listKeys } from '#client/kv/list-keys.ts'
import { streamIdOf } from '#client/kv/stream-id.ts'
import { atomicWrite } from '#kit/files.ts'
import { wholeNumber, zeroOrMore } from '../arguments.ts'
import type { CliIo } from '../io.ts'
import {
  type KvOptions,
  kvNodeOf,
  parseKey,
  STREAM_HELP,
  showKey,
  textOf,
  usage,
  valueJson,
  valueLine,
  withKvNode,
} from '../open-kv.ts'
import { readOptions } from '../options.ts'
import { writeOut } from '../write-out.ts'

interface ReadOptions extends KvOptions {
  version?: number
  out?: string
  prefix?: string
  limit: number
}

const VERSION_HELP = 'as of this submission (default: the newest)'
/** Bytes of values that lists show. */
const SHOWN_BYTES = 256
const TRUST =
  '\nWhat a key-value node says is taken on trust: use one of your own, or one that you trust (weightless kv start).'

/** `weightless kv get|list|history|result|status`. */
export function addReadCommands(group: Command, io: CliIo): void {
  withKvNode(group.command('get'))
    .description('print the value of a key')
    .argument('<stream>', STREAM_HELP)
    .argument('<key>', 'the key')
    .option('--version <n>', VERSION_HELP, zeroOrMore)
    .option('-o, --out <path>', 'write the value to a file; - for its bytes on standard output')
    .addHelpText('after', TRUST)
    .action((stream: string, key: string, _: unknown, at: Command) =>
      get({ stream, key, options: readOptions<ReadOptions>(at), io }),
    )
  withKvNode(group.command('list'))
    .description('list the keys of a stream')
    .argument('<stream>', STREAM_HELP)
    .option('--prefix <key>', 'only keys that begin so')
    .option('--version <n>', VERSION_HELP, zeroOrMore)
    .option('--limit <n>', 'list at most so many', wholeNumber, 100)
    .action((stream: string, _: unknown, at: Command) => list({ stream, options: readOptions<ReadOptions>(at), io }))
  withKvNode(group.command('history'))
    .description('list the versions of a key, the newest first')
    .argument('<stream>', STREAM_HELP)
    .argument('<key>', 'the key')
    .option('--limit <n>', 'list at most so many', wholeNumber, 20)
    .action((stream: string, key: string, _: unknown, at: Command) =>
      history({ stream, key, options: readOptions<ReadOptions>(at), io }),
    )
  withKvNode(group.command('result'))
    .description('what became of a write')
    .argument('<submission>', 'its sequence number, as `kv put` printed it')
    .action((seq: string, _: unknown, at: Command) => result({ seq, options: readOptions<KvOptions>(at), io }))
  withKvNode(group.command('status'))
    .description('what a key-value node replays, and how far it is')
    .action((_: unknown, at: Command) => status({ options: readOptions<KvOptions>(at), io }))
}

interface Read {
  stream: string
  options: ReadOptions
  io: CliIo
}

async function get({ stream, key: name, options, io }: Read & { key: string }): Promise<void> {
  const streamId = streamIdOf(stream)
  const key = parseKey(name, options)
  const node = kvNodeOf({ io, options })
  try {
    const found = await node.value({ streamId, key, version: options.version, signal: io.signal })
    if (found === undefined || found.sizeBytes === 0) {
      throw new KvKeyUnknownError({ streamId, key: showKey(key, options), deletedIn: found?.version })
    }
    const { data, version, sizeBytes } = found
    if (options.out === '-') {
      const bytes = (async function* () {
        yield data
      })()
      await writeOut({ stream: io.stdout, bytes, signal: io.signal })
      return
    }
    if (options.out !== undefined) {
      const path = resolve(io.cwd, options.out)
      await atomicWrite({ path, data })
      const { value: _value, valueBase64: _bytes, ...json } = valueJson(found)
      io.result({ json: { streamId, ...json, path }, text: [`value written, path = ${path}`] })
    } else {
      const text = textOf(data)
      if (text === undefined && !io.json) {
        throw usage(`the value is no text: ${sizeBytes} bytes`, 'give --out FILE, --out - or --json')
      }
      io.result({ json: { streamId, ...valueJson(found) }, text: [text ?? ''] })
    }
    io.detail(`version ${version}, ${sizeBytes} bytes`)
  } finally {
    node.close()
  }
}

async function list({ stream, options, io }: Read): Promise<void> {
  const streamId = streamIdOf(stream)
  const { version, limit } = options
  const prefix = options.prefix === undefined ? undefined : parseKey(options.prefix, options)
  const node = kvNodeOf({ io, options })
  try {
    const walk = listKeys({ node, streamId, prefix, version, maxValueBytes: SHOWN_BYTES, signal: io.signal })
    const { entries, more } = await take(walk, limit)
    io.result({
      json: { streamId, keys: entries.map(valueJson), more },
      text: entries.map((entry) => `${showKey(entry.key, options)} = ${valueLine(entry)}`),
    })
    if (entries.length === 0) io.info('the stream has no such keys')
    if (more) io.info(`there are more than these ${limit}: give a --prefix or a higher --limit`)
  } finally {
    node.close()
  }
}

async function history({ stream, key: name, options, io }: Read & { key: string }): Promise<void> {
  const streamId = streamIdOf(stream)
  const key = parseKey(name, options)
  const node = kvNodeOf({ io, options })
  try {
    const walk = keyHistory({ node, streamId, key, maxValueBytes: SHOWN_BYTES, signal: io.signal })
    const { entries, more } = await take(walk, options.limit)
    if (entries.length === 0) throw new KvKeyUnknownError({ streamId, key: showKey(key, options) })
    io.result({
      json: { streamId, versions: entries.map(valueJson), more },
      text: entries.map((entry) => `${String(entry.version).padStart(8)}  ${valueLine(entry)}`),
    })
    if (more) io.info(`there are more than these ${options.limit}: give a higher --limit`)
  } finally {
    node.close()
  }
}

async function result({ seq, options, io }: { seq: string; options: KvOptions; io: CliIo }): Promise<void> {
  if (!/^\d{1,15}$/.test(seq)) throw usage(`${seq.slice(0, 80)} is no sequence number`, 'give a whole number')
  const node = kvNodeOf({ io, options })
  try {
    const txSeq = Number(seq)
    const found = await node.result({ txSeq, signal: io.signal })
    const { nextSeq } = await node.progress({ signal: io.signal })
    io.result({
      json: { txSeq, result: found ?? null, nextSeq },
      text: [found ?? (nextSeq > txSeq ? 'not a write of a stream that this node replays' : 'not replayed yet')],
    })
    if (found !== 'Commit') io.exitCode = 1
  } finally {
    node.close()
  }
}

const SHOWN_STREAMS = 20

async function status({ options, io }: { options: KvOptions; io: CliIo }): Promise<void> {
  const node = kvNodeOf({ io, options })
  try {
    const { signal } = io
    const [streams, progress] = await Promise.all([node.streams({ signal }), node.progress({ signal })])
    const acceptsNew = await node.accepts({ streamId: streamIdOf('a-stream-that-nobody-has-written'), signal })
    const { nextSeq, firstTxSeq } = progress
    io.result({
      json: { url: node.url, streams, acceptsNew, nextSeq, firstTxSeq },
      text: [
        `key-value node ${node.url}`,
        `replayed  everything before submission ${nextSeq}`,
        `streams   ${streams.length}${acceptsNew ? ', and any other once it is written' : ''}`,
        ...streams.slice(0, SHOWN_STREAMS).map((id) => `  ${id}`),
        ...(streams.length > SHOWN_STREAMS ? [`  and ${streams.length - SHOWN_STREAMS} more (--json lists all)`] : []),
      ],
    })
  } finally {
    node.close()
  }
}

/** The first `limit` entries, and whether there are more. */
async function take(walk: AsyncGenerator<KvValue>, limit: number): Promise<{ entries: KvValue[]; more: boolean }> {
  const entries: KvValue[] = []
  for await (const entry of walk) {
    if (entries.length === limit) return { entries, more: true }
    entries.push(entry)
  }
  return { entries, more: false }
}
