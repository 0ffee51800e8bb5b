import { stat } from 'node:fs/promises'
import { fileSource } from '#kit/files.ts'
import { readGgufHead } from '#protocol/gguf/read.ts'
import { Tokenizer } from '#protocol/gguf/tokenizer.ts'
import { readVocabulary } from '#protocol/gguf/vocabulary.ts'
import type { Hash } from '#protocol/hex.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import type { ModelTexts, TokenText } from './token-text.ts'

/**
 * Takes tokenizers out of GGUF files at hand. A file counts for the model whose storage root it has: it is hashed when
 * first asked for, and again only when it has changed.
 *
 * @example
 * const compute = connectCompute({ rpcUrl, ledger, account, modelTexts: modelFileTexts(['models/demo.gguf']) })
 */
export function modelFileTexts(paths: readonly string[]): ModelTexts {
  const known = new Map<string, { stamp: string; root: Hash; text: TokenText }>()

  async function read(path: string): Promise<{ root: Hash; text: TokenText }> {
    const { size, mtimeMs } = await stat(path)
    const stamp = `${size} ${mtimeMs}`
    const cached = known.get(path)
    if (cached?.stamp === stamp) return cached
    await using source = await fileSource(path)
    const tokenizer = new Tokenizer(readVocabulary(await readGgufHead(source)))
    const { root } = await buildFileTree({ source })
    const entry = { stamp, root, text: (ids: readonly number[]) => tokenizer.decode(ids) }
    known.set(path, entry)
    return entry
  }

  return async (modelId) => {
    for (const path of paths) {
      const { root, text } = await read(path)
      if (root === modelId) return text
    }
    return undefined
  }
}
