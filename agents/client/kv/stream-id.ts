import { createHash } from 'node:crypto'
import type { Hex } from '#protocol/hex.ts'
import { KvNodeError } from './errors.ts'

const NAME = /^[a-z][a-z0-9._-]{0,40}$/

/**
 * A stream's id: 64 hex digits, or a name, for which the sha256 of `weightless/stream/NAME` stands. A name belongs to
 * whoever writes it first on a network, as every stream does.
 *
 * @throws KvNodeError `KV_STREAM`
 * @example
 * streamIdOf('demo')
 */
export function streamIdOf(text: string): Hex {
  if (/^(0x)?[0-9a-fA-F]{64}$/.test(text)) return `0x${text.replace(/^0x/, '').toLowerCase()}`
  if (NAME.test(text)) return `0x${createHash('sha256').update(`weightless/stream/${text}`).digest('hex')}`
  throw new KvNodeError({
    code: 'KV_STREAM',
    message: `${text.slice(0, 80)} is no stream`,
    fix: 'give 64 hex digits, or a name of at most 41 lower-case letters, digits, dots and dashes',
    details: { stream: text.slice(0, 80) },
  })
}
