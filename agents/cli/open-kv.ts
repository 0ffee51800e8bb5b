import type { Command } from 'commander'
import { KvNodeError } from '#client/kv/errors.ts'
import { type KvNode, type KvValue, openKvNode } from '#client/kv/kv-node.ts'
import { WeightlessError } from '#protocol/error.ts'
import { fromHex, toHex } from '#protocol/hex.ts'
import { MAX_KEY_BYTES } from '#protocol/kv/stream-data.ts'
import type { CliIo } from './io.ts'
import { type NetworkOptions, resolveNetwork } from './network.ts'

/** Flags of every command that asks a key-value node. */
export interface KvOptions extends NetworkOptions {
  hexKeys?: boolean
}

/** What streams and keys may look like, for the help. */
export const STREAM_HELP = 'the stream: 64 hex digits, or a name such as demo'

/** Adds the flags of {@link KvOptions}. */
export function withKvNode(command: Command): Command {
  return command
    .option('--kv <url>', 'key-value node (also WEIGHTLESS_KEYVALUE_URL; default that of the local network)')
    .option('--hex-keys', 'keys are given and shown as hex digits, not as text')
}

/** The key-value node of the flags, the environment or the local network. @throws KvNodeError `KV_STREAM_NOT_HELD` */
export function kvNodeOf({ io, options }: { io: CliIo; options: KvOptions }): KvNode {
  const { kvUrl } = resolveNetwork({ io, options })
  if (kvUrl !== undefined) return openKvNode({ url: kvUrl })
  throw new KvNodeError({
    code: 'SETTING_MISSING',
    message: 'the key-value node to ask is not known',
    fix: 'give --kv URL, set WEIGHTLESS_KEYVALUE_URL, start a local network with: weightless up, or a node with: weightless kv start',
    details: { setting: '--kv' },
  })
}

/** A key from the command line. @throws WeightlessError `CLI_USAGE` */
export function parseKey(text: string, { hexKeys = false }: KvOptions): Uint8Array {
  const digits = text.replace(/^0x/i, '')
  if (hexKeys && !/^([0-9a-fA-F]{2})+$/.test(digits)) {
    throw usage(`${text.slice(0, 80)} is no key of hex digits`, 'give an even number of hex digits')
  }
  const key = hexKeys ? fromHex(`0x${digits}`) : new TextEncoder().encode(text)
  if (key.length > 0 && key.length <= MAX_KEY_BYTES) return key
  throw usage('a key is empty or too long', `give 1 to ${MAX_KEY_BYTES} bytes`)
}

/** A key for people: its text where it is some, else hex. */
export function showKey(key: Uint8Array, { hexKeys = false }: KvOptions = {}): string {
  const text = hexKeys ? undefined : printable(key)
  return text ?? toHex(key)
}

/** A version of a key, for programs. */
export function valueJson({ key, version, sizeBytes, data }: KvValue): Record<string, unknown> {
  const whole = data.length === sizeBytes
  return {
    key: textOf(key) ?? null,
    keyHex: toHex(key),
    version,
    sizeBytes,
    deleted: sizeBytes === 0,
    value: (whole ? textOf(data) : undefined) ?? null,
    valueBase64: Buffer.from(data).toString('base64'),
    whole,
  }
}

const LINE_CHARACTERS = 100

/** A value on one line: text as it is, other bytes by their number. */
export function valueLine({ sizeBytes, data }: KvValue): string {
  if (sizeBytes === 0) return '(deleted)'
  // The last character of a piece may be cut.
  const text = printable(data) ?? (data.length < sizeBytes ? printable(data.subarray(0, data.length - 3)) : undefined)
  if (text === undefined) return `(${sizeBytes} bytes)`
  return data.length < sizeBytes || text.length > LINE_CHARACTERS
    ? `${text.slice(0, LINE_CHARACTERS)}… (${sizeBytes} bytes)`
    : text
}

/** UTF-8 text, undefined where the bytes are none. */
export function textOf(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return undefined
  }
}

/** Text that does nothing to a terminal: values come from strangers. */
function printable(bytes: Uint8Array): string | undefined {
  const text = textOf(bytes)
  return text === undefined || /\p{Cc}/u.test(text) ? undefined : text
}

/** An error of usage. */
export function usage(message: string, fix: string): WeightlessError {
  return new WeightlessError({ code: 'CLI_USAGE', message, fix })
}
