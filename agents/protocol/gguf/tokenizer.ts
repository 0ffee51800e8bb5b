import { GgufError } from './gguf-error.ts'
import { TOKEN_TYPES, type Vocabulary } from './vocabulary.ts'

/** How spaces are written inside pieces: U+2581. */
export const SPACE = '\u2581'

export interface EncodeOptions {
  /** Put the begin token in front. */
  bos?: boolean
  /** Read control tokens (`<s>`, `<|user|>`) in the text as such; otherwise they are ordinary text. */
  special?: boolean
}

/**
 * Text to token ids and back, token for token as llama.cpp does it for the tokenizer `llama` without space prefix.
 *
 * @throws GgufError `VOCABULARY` when the vocabulary lacks the 256 byte tokens or its lists differ in length
 */
export class Tokenizer {
  readonly vocabulary: Vocabulary
  readonly #idOf = new Map<string, number>()
  readonly #specials: RegExp | undefined
  readonly #specialIds = new Map<string, number>()
  readonly #firstByte: number

  constructor(vocabulary: Vocabulary) {
    const { pieces, scores, types } = vocabulary
    this.vocabulary = vocabulary
    if (scores.length !== pieces.length || types.length !== pieces.length) {
      throw wrong(`${pieces.length} pieces, ${scores.length} scores and ${types.length} types`)
    }
    this.#firstByte = pieces.indexOf('<0x00>')
    for (let byte = 0; byte < 256; byte++) {
      const id = this.#firstByte + byte
      const isByte = this.#firstByte >= 0 && types[id] === TOKEN_TYPES.byte && pieces[id] === bytePiece(byte)
      if (!isByte) throw wrong(`the token of byte ${byte} is missing`)
    }
    pieces.forEach((piece, id) => {
      const type = types[id]
      if (type === TOKEN_TYPES.normal || type === TOKEN_TYPES.userDefined) this.#idOf.set(piece, id)
      else if (type === TOKEN_TYPES.control || type === TOKEN_TYPES.unknown) this.#specialIds.set(piece, id)
    })
    const specials = [...this.#specialIds.keys()].filter((piece) => piece.length > 0)
    specials.sort((a, b) => b.length - a.length)
    if (specials.length > 0) this.#specials = new RegExp(`(${specials.map(escaped).join('|')})`)
  }

  /** Token ids of a text. */
  encode(text: string, { bos = false, special = false }: EncodeOptions = {}): number[] {
    const ids = bos ? [this.vocabulary.bos] : []
    if (!special || this.#specials === undefined) this.#encodePlain(text, ids)
    else {
      // Splitting at a pattern with one group alternates text and control tokens.
      text.split(this.#specials).forEach((part, i) => {
        const id = i % 2 === 1 ? this.#specialIds.get(part) : undefined
        if (id === undefined) this.#encodePlain(part, ids)
        else ids.push(id)
      })
    }
    return ids
  }

  /** Text of token ids. Control tokens are left out unless `special`; bytes that are no UTF-8 become U+FFFD. */
  decode(ids: Iterable<number>, { special = false }: { special?: boolean } = {}): string {
    const bytes: number[] = []
    const encoder = new TextEncoder()
    for (const id of ids) {
      const piece = this.vocabulary.pieces[id]
      if (piece === undefined) throw wrong(`token ${id} does not exist`)
      const type = this.vocabulary.types[id]
      if (type === TOKEN_TYPES.byte) bytes.push(id - this.#firstByte)
      else if (type === TOKEN_TYPES.normal || type === TOKEN_TYPES.userDefined || special) {
        for (const byte of encoder.encode(piece.replaceAll(SPACE, ' '))) bytes.push(byte)
      }
    }
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(bytes))
  }

  #encodePlain(text: string, ids: number[]): void {
    if (text === '') return
    for (const symbol of this.#merge([...text.toWellFormed().replaceAll(' ', SPACE)])) {
      const id = this.#idOf.get(symbol)
      if (id !== undefined) ids.push(id)
      else for (const byte of new TextEncoder().encode(symbol)) ids.push(this.#firstByte + byte)
    }
  }

  /**
   * Joins neighbours, best score first and leftmost among equals, until no two make a piece. Neighbours are a linked list,
   * candidates a heap in which outdated entries are recognised by their length.
   */
  #merge(symbols: string[]): string[] {
    const { scores } = this.vocabulary
    const next = symbols.map((_, i) => i + 1)
    const previous = symbols.map((_, i) => i - 1)
    const heap: Candidate[] = []
    const offer = (left: number): void => {
      const right = next[left] ?? symbols.length
      if (left < 0 || right >= symbols.length) return
      const joined = `${symbols[left]}${symbols[right]}`
      const id = this.#idOf.get(joined)
      if (id !== undefined) push(heap, { score: scores[id] ?? 0, left, right, joined })
    }
    for (let i = 0; i + 1 < symbols.length; i++) offer(i)
    for (let best = pop(heap); best !== undefined; best = pop(heap)) {
      const { left, right, joined } = best
      const isOutdated = next[left] !== right || `${symbols[left]}${symbols[right]}` !== joined || symbols[left] === ''
      if (isOutdated) continue
      symbols[left] = joined
      symbols[right] = ''
      const after = next[right] ?? symbols.length
      next[left] = after
      if (after < symbols.length) previous[after] = left
      offer(previous[left] ?? -1)
      offer(left)
    }
    return symbols.filter((symbol) => symbol !== '')
  }
}

/** A text as a pattern that matches it alone. */
function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
}

/** The piece of a byte token. */
export function bytePiece(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`
}

interface Candidate {
  score: number
  left: number
  right: number
  joined: string
}

const goesFirst = (a: Candidate, b: Candidate): boolean => a.score > b.score || (a.score === b.score && a.left < b.left)

function push(heap: Candidate[], item: Candidate): void {
  let i = heap.length
  heap.push(item)
  while (i > 0) {
    const parent = (i - 1) >> 1
    const above = heap[parent]
    if (above === undefined || !goesFirst(item, above)) break
    heap[i] = above
    i = parent
  }
  heap[i] = item
}

function pop(heap: Candidate[]): Candidate | undefined {
  const top = heap[0]
  const last = heap.pop()
  if (last === undefined || heap.length === 0) return top
  let i = 0
  for (;;) {
    const left = heap[2 * i + 1]
    const right = heap[2 * i + 2]
    if (left === undefined) break
    const takeRight = right !== undefined && goesFirst(right, left)
    const child = takeRight ? right : left
    if (!goesFirst(child, last)) break
    heap[i] = child
    i = 2 * i + (takeRight ? 2 : 1)
  }
  heap[i] = last
  return top
}

function wrong(message: string): GgufError {
  return new GgufError({ code: 'VOCABULARY', message, fix: 'train a vocabulary with trainVocabulary' })
}
