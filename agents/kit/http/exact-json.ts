import { isUtf8 } from 'node:buffer'
import { WeightlessError } from '#protocol/error.ts'

/** Text that is no JSON, or more of it than is accepted. Codes `JSON_SYNTAX`, `JSON_ENCODING`, `JSON_DEPTH`, `JSON_VALUES`. */
export class JsonError extends WeightlessError {}

export interface ExactJson {
  /** The value. Integers beyond ±(2^53 − 1) with at most 78 digits (uint256) are bigints; all else as `JSON.parse` gives it. */
  readonly value: unknown
  /** The source text of the number under `id` in `holder`, where its digits could have been lost. */
  idSource(holder: object): string | undefined
}

export interface JsonLimits {
  /** How deep arrays and objects may nest. Default 64. */
  maxDepth?: number | undefined
  /** How many values, keys included, the text may hold. Default 2,000,000: about 200 MB of memory at worst. */
  maxValues?: number | undefined
}

/**
 * Parses JSON (RFC 8259) from bytes without losing digits, and with a bound on the memory it can cost: depth and number
 * of values are counted before anything is built.
 *
 * @throws JsonError
 * @example
 * parseExactJson(Buffer.from('{"id":17600000000000001}')).value // { id: 17600000000000001n }
 */
export function parseExactJson(bytes: Uint8Array, limits: JsonLimits = {}): ExactJson {
  if (!isUtf8(bytes)) throw new JsonError({ code: 'JSON_ENCODING', message: 'the text is not UTF-8' })
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  checkLimits(buffer, limits)
  const text = buffer.toString('utf8')
  // A call per value is spent only where a number may print differently from how it was written.
  if (!MAY_LOSE_DIGITS.test(text) && !STARTS_AS_NUMBER.test(text))
    return { value: parse(text), idSource: () => undefined }

  const idSources = new Map<object, string>()
  const value = parse(
    text,
    function (this: object, key: string, found: unknown, context?: { source?: string }): unknown {
      if (typeof found !== 'number') return found
      const source = context?.source ?? ''
      if (key === 'id' && source !== String(found)) idSources.set(this, source)
      return Number.isSafeInteger(found) || !INTEGER.test(source) ? found : BigInt(source)
    },
  )
  return { value, idSource: (holder) => idSources.get(holder) }
}

/**
 * JSON text of `value` with bigints as plain numbers, every digit written. `undefined` becomes `null`.
 *
 * @throws TypeError for values JSON cannot hold (cycles).
 */
export function toExactJson(value: unknown): string {
  try {
    return JSON.stringify(value) ?? 'null'
  } catch (error) {
    // The replacer costs a call per value, so it is used only once a bigint has been met.
    if (!(error instanceof TypeError) || !error.message.includes('BigInt')) throw error
    return JSON.stringify(value, (_, entry: unknown) => (typeof entry === 'bigint' ? rawJson(entry.toString()) : entry))
  }
}

// A number follows a bracket, a comma, a colon or white space, or is the whole text. Matches inside strings only cost
// time. Two expressions, as an alternative for the start would make the search forty times slower.
const MAY_LOSE_DIGITS = /[[,:\s](?:-?\d{16}|-?\d+[.eE]|-0)/
const STARTS_AS_NUMBER = /^[-\d]/
const INTEGER = /^-?\d{1,78}$/

type Reviver = (this: object, key: string, value: unknown, context?: { source?: string }) => unknown

function parse(text: string, reviver?: Reviver): unknown {
  try {
    return JSON.parse(text, reviver)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.slice(0, 200) : 'not JSON'
    throw new JsonError({ code: 'JSON_SYNTAX', message: reason, cause })
  }
}

function rawJson(text: string): unknown {
  return (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(text)
}

const QUOTE = 0x22
const BACKSLASH = 0x5c

function checkLimits(buffer: Buffer, { maxDepth = 64, maxValues = 2_000_000 }: JsonLimits): void {
  let depth = 0
  let values = 0
  for (let i = 0; i < buffer.length; i++) {
    switch (buffer[i]) {
      case QUOTE:
        i = endOfString(buffer, i)
        break
      case 0x5b: // [
      case 0x7b: // {
        depth += 1
        values += 1
        if (depth > maxDepth) {
          throw new JsonError({ code: 'JSON_DEPTH', message: `nested deeper than ${maxDepth}`, details: { maxDepth } })
        }
        break
      case 0x5d: // ]
      case 0x7d: // }
        depth -= 1
        break
      case 0x2c: // ,
      case 0x3a: // :
        values += 1
        break
    }
    if (values > maxValues) {
      throw new JsonError({ code: 'JSON_VALUES', message: `more than ${maxValues} values`, details: { maxValues } })
    }
  }
}

/** The position of the quote that ends the string begun at `start`; found by native search, as strings hold the bulk. */
function endOfString(buffer: Buffer, start: number): number {
  for (let end = buffer.indexOf(QUOTE, start + 1); end !== -1; end = buffer.indexOf(QUOTE, end + 1)) {
    let first = end
    while (buffer[first - 1] === BACKSLASH) first -= 1
    if ((end - first) % 2 === 0) return end
  }
  return buffer.length
}
