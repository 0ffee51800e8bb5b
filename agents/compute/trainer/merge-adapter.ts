import { fileSource } from '#kit/files.ts'
import type { GgmlType } from '#protocol/gguf/layout.ts'
import { llamaGguf } from '#protocol/gguf/llama.ts'
import { mergeLora, readLora } from '#protocol/gguf/lora.ts'
import { readGgufHead } from '#protocol/gguf/read.ts'
import { writeGguf } from '#protocol/gguf/write.ts'
import { readBaseModel } from './base-model.ts'
import { writeOutput } from './checkpoint.ts'
import { TrainerError } from './error.ts'

export interface MergeAdapterParameters {
  basePath: string
  /** A LoRA adapter in GGUF that was trained on this base. */
  adapterPath: string
  outputPath: string
  /** Type of the matrices of the merged model. Default F16. */
  type?: GgmlType | undefined
  /** Name that the file carries. */
  name?: string | undefined
}

/**
 * Works an adapter into its base and writes the whole model, for engines that load no adapters.
 *
 * @throws TrainerError `TRAINER_BASE` also for an adapter that does not fit, `TRAINER_ARCHITECTURE`, `TRAINER_TOKENIZER`,
 * `TRAINER_MEMORY`, `TRAINER_WRITE`
 * @example
 * await mergeAdapter({ basePath: 'base.gguf', adapterPath: 'adapter.gguf', outputPath: 'merged.gguf', type: 'Q8_0' })
 */
export async function mergeAdapter({
  basePath,
  adapterPath,
  outputPath,
  type = 'F16',
  name = 'merged',
}: MergeAdapterParameters): Promise<void> {
  const { config, weights, tokenizer } = await readBaseModel(basePath)
  const lora = await readAdapter()
  const merged = mergeLora({ config, weights, lora })
  const content = llamaGguf({ config, weights: merged, vocabulary: tokenizer.vocabulary, type, name })
  await writeOutput({ path: outputPath, data: writeGguf(content) })

  async function readAdapter() {
    try {
      await using source = await fileSource(adapterPath)
      return await readLora({ source, head: await readGgufHead(source), config })
    } catch (cause) {
      throw new TrainerError({
        code: 'TRAINER_BASE',
        message: `${adapterPath} is no adapter of this base: ${cause instanceof Error ? cause.message : cause}`,
        fix: 'give the LoRA adapter in GGUF that was trained on this base',
        details: { adapterPath },
        cause,
      })
    }
  }
}
