import { GgufError } from './gguf-error.ts'
import type { GgufHead } from './read.ts'

/**
 * A number of the metadata; absent: `otherwise`, or an error without it.
 *
 * @throws GgufError `GGUF_METADATA`
 */
export function numberOf(head: GgufHead, key: string, otherwise?: number): number {
  const value = head.metadata.get(key) ?? otherwise
  if (typeof value === 'number') return value
  throw wrong(key, 'a number')
}

/**
 * A text of the metadata; absent: `otherwise`, or an error without it.
 *
 * @throws GgufError `GGUF_METADATA`
 */
export function textOf(head: GgufHead, key: string, otherwise?: string): string {
  const value = head.metadata.get(key) ?? otherwise
  if (typeof value === 'string') return value
  throw wrong(key, 'a text')
}

/**
 * A list of the metadata whose elements are all of one kind.
 *
 * @throws GgufError `GGUF_METADATA`
 */
export function arrayOf(head: GgufHead, key: string, of: 'string'): string[]
export function arrayOf(head: GgufHead, key: string, of: 'number'): number[]
export function arrayOf(head: GgufHead, key: string, of: 'string' | 'number'): unknown[] {
  const value = head.metadata.get(key)
  if (Array.isArray(value) && value.every((element) => typeof element === of)) return value
  throw wrong(key, `a list of ${of}s`)
}

function wrong(key: string, wanted: string): GgufError {
  return new GgufError({
    code: 'GGUF_METADATA',
    message: `${key} must be ${wanted}`,
    fix: 'give a model file of the Llama architecture with its tokenizer',
    details: { key },
  })
}
