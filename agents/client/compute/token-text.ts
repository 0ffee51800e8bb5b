import type { Hash } from '#protocol/hex.ts'

/** Turns token ids into the text that a user sees. */
export type TokenText = (ids: readonly number[]) => string

/** Knows the tokenizers of models by the storage root of their weights. Undefined for those it does not know. */
export type ModelTexts = (modelId: Hash) => Promise<TokenText | undefined>

/**
 * Whether a text is that of the tokens. White space at the start is left aside, since engines drop the space that a
 * tokenizer puts before the first word; with `cut` the text may end earlier, at a stop sequence.
 */
export function isTextOf({ text, decoded, cut }: { text: string; decoded: string; cut: boolean }): boolean {
  const [shown, whole] = [text.trimStart(), decoded.trimStart()]
  return cut ? whole.startsWith(shown) : whole === shown
}
