import { GgufError } from './gguf-error.ts'
import { bytePiece, SPACE } from './tokenizer.ts'
import { CHAT_TEMPLATE, CONTROL_TOKENS, TOKEN_TYPES, type Vocabulary } from './vocabulary.ts'

/** Words with the space in front; digits alone; runs of punctuation and of spaces. Nothing joins across these borders. */
const WORDS = new RegExp(
  `${SPACE}?[\\p{L}\\p{M}]+|\\p{N}|${SPACE}?[^\\p{L}\\p{M}\\p{N}\\p{C}\\s${SPACE}]+|${SPACE}+`,
  'gu',
)

export interface TrainVocabularyParameters {
  texts: Iterable<string>
  /** Tokens in all: control tokens, 256 bytes, characters and merges. Fewer come out when the texts have no more pairs. */
  size: number
  /** Most single characters that get a piece of their own; the rarer ones are written as bytes. Default: a quarter. */
  maxCharacters?: number
  /** Control tokens; the first four must be unknown, begin, end, padding. Default `CONTROL_TOKENS`. */
  controls?: readonly string[]
  chatTemplate?: string
}

/**
 * Byte-pair encoding: joins the most frequent pair of neighbours until the vocabulary is full. The result depends on the
 * texts alone. Control characters, newline included, have no pieces and are written as bytes.
 *
 * @throws GgufError `VOCABULARY` when `size` leaves no room for text
 * @example
 * const tokenizer = new Tokenizer(trainVocabulary({ texts: [corpus], size: 512 }))
 */
export function trainVocabulary({
  texts,
  size,
  controls = CONTROL_TOKENS,
  maxCharacters = Math.floor(size / 4),
  chatTemplate = CHAT_TEMPLATE,
}: TrainVocabularyParameters): Vocabulary {
  const fixed = controls.length + 256
  if (controls.length < 4 || size < fixed + 16) {
    throw new GgufError({
      code: 'VOCABULARY',
      message: `${size} tokens leave no room beside ${fixed} control and byte tokens`,
      fix: `give a size of at least ${fixed + 16}`,
      details: { size, fixed },
    })
  }
  const counts = countWords(texts)
  const characters = frequentCharacters(counts, Math.min(maxCharacters, size - fixed))
  const words = wordsOf(counts, new Set(characters))
  const merges = mergePairs(words, size - fixed - characters.length, new Set(characters))

  const pieces = [...controls, ...Array.from({ length: 256 }, (_, byte) => bytePiece(byte)), ...merges, ...characters]
  return {
    pieces,
    scores: pieces.map((_, id) => (id < fixed ? 0 : fixed - id - 1)),
    types: pieces.map((_, id) =>
      id === 0
        ? TOKEN_TYPES.unknown
        : id < controls.length
          ? TOKEN_TYPES.control
          : id < fixed
            ? TOKEN_TYPES.byte
            : TOKEN_TYPES.normal,
    ),
    unk: 0,
    bos: 1,
    eos: 2,
    pad: 3,
    chatTemplate,
  }
}

interface Word {
  symbols: string[]
  count: number
}

function countWords(texts: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>()
  for (const text of texts)
    for (const [word] of text.replaceAll(' ', SPACE).matchAll(WORDS)) counts.set(word, (counts.get(word) ?? 0) + 1)
  return counts
}

function frequentCharacters(counts: Map<string, number>, most: number): string[] {
  const frequency = new Map<string, number>([[SPACE, Number.MAX_SAFE_INTEGER]])
  for (const [word, count] of counts)
    for (const character of word) {
      if (character !== SPACE) frequency.set(character, (frequency.get(character) ?? 0) + count)
    }
  return [...frequency]
    .sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))
    .slice(0, most)
    .map(([character]) => character)
}

function wordsOf(counts: Map<string, number>, known: ReadonlySet<string>): Word[] {
  // A character without a piece breaks a word: what stands on either side can never be neighbours of a merge.
  return [...counts].flatMap(([word, count]) => {
    const parts: Word[] = [{ symbols: [], count }]
    for (const character of word) {
      if (known.has(character)) parts.at(-1)?.symbols.push(character)
      else parts.push({ symbols: [], count })
    }
    return parts.filter(({ symbols }) => symbols.length > 1)
  })
}

function mergePairs(words: Word[], most: number, known: Set<string>): string[] {
  const pairs = new Map<string, { left: string; right: string; count: number; words: Set<Word> }>()
  const countPairs = (word: Word, sign: 1 | -1): void => {
    for (let i = 0; i + 1 < word.symbols.length; i++) {
      const [left = '', right = ''] = [word.symbols[i], word.symbols[i + 1]]
      const key = `${left} ${right}`
      const pair = pairs.get(key) ?? { left, right, count: 0, words: new Set<Word>() }
      pair.count += sign * word.count
      if (sign === 1) pair.words.add(word)
      if (pair.count > 0) pairs.set(key, pair)
      else pairs.delete(key)
    }
  }
  for (const word of words) countPairs(word, 1)

  const merges: string[] = []
  while (merges.length < most) {
    let best: { key: string; left: string; right: string; count: number; words: Set<Word> } | undefined
    for (const [key, pair] of pairs) {
      if (best === undefined || pair.count > best.count || (pair.count === best.count && key < best.key)) {
        best = { key, ...pair }
      }
    }
    if (best === undefined) break
    const { left, right } = best
    for (const word of [...best.words]) {
      countPairs(word, -1)
      word.symbols = joinPair(word.symbols, left, right)
      countPairs(word, 1)
    }
    pairs.delete(best.key)
    // Two different pairs may make the same piece; it stays where it came first.
    if (!known.has(left + right)) merges.push(left + right)
    known.add(left + right)
  }
  return merges
}

function joinPair(symbols: readonly string[], left: string, right: string): string[] {
  const joined: string[] = []
  for (let i = 0; i < symbols.length; i++) {
    const symbol = symbols[i] ?? ''
    if (symbol === left && symbols[i + 1] === right) {
      joined.push(left + right)
      i++
    } else joined.push(symbol)
  }
  return joined
}
