import { fromHex, type Hex, toHex } from '../hex.ts'

/** sha256("STREAM"): the first word of the tags of every submission that carries stream data. */
export const STREAM_DOMAIN: Hex = '0xdf2ff3bb0af36c6384e6206552a4ed807f6f6a26e7d0aa6bff772ddc9d4307aa'

const WORD_BYTES = 32

/** Tags of a stream write: the domain word and the ids of every stream it writes or controls. */
export function encodeStreamTags(streamIds: readonly Hex[]): Hex {
  const words = streamIds.map((id) => toHex(fromHex(id, { byteLength: WORD_BYTES, field: 'streamId' })).slice(2))
  return `${STREAM_DOMAIN}${words.join('')}`
}

/**
 * The stream ids in a submission's tags, lower case, each once, in the order given; undefined when the submission is
 * no stream write (other first word, or a length that is not whole words). Tags come from strangers: never throws.
 */
export function decodeStreamTags(tags: Hex): Hex[] | undefined {
  const digits = tags.slice(2).toLowerCase()
  if (digits.length < 128 || digits.length % 64 !== 0) return undefined
  if (`0x${digits.slice(0, 64)}` !== STREAM_DOMAIN) return undefined
  const ids = new Set<Hex>()
  for (let at = 64; at < digits.length; at += 64) ids.add(`0x${digits.slice(at, at + 64)}`)
  return [...ids]
}
