import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { exampleEncoder } from '#compute/trainer/chat-format.ts'
import type { CurvePoint } from '#compute/trainer/checkpoint.ts'
import { initialWeights } from '#compute/trainer/initial-weights.ts'
import { parseRecipe } from '#compute/trainer/recipe.ts'
import type { runTraining } from '#compute/trainer/training-loop.ts'
import type { LlamaConfig, Weights } from '#protocol/gguf/llama.ts'
import { Tokenizer } from '#protocol/gguf/tokenizer.ts'
import { trainVocabulary } from '#protocol/gguf/train-vocabulary.ts'
import type { Vocabulary } from '#protocol/gguf/vocabulary.ts'
import { generateDocuments, type HeldOutQuestion } from './corpus/generate.ts'
import { exampleOf, textsOf } from './corpus/messages.ts'
import { demoRecipe } from './recipe.ts'

/** The trained model, and what led there. */
export interface PretrainResult {
  config: LlamaConfig
  vocabulary: Vocabulary
  weights: Weights
  curve: readonly CurvePoint[]
  heldOutLoss: number | undefined
  corpusTokens: number
  trainedTokens: number
}

export interface PretrainParameters {
  /** Passed in, because threads must be set up before the module is loaded. */
  train: typeof runTraining
  /** Questions for the held-out loss. */
  questions: readonly HeldOutQuestion[]
  /** Where the checkpoint lies. */
  folder: string
  /** Fewer steps than the recipe's, to try things. */
  steps?: number | undefined
  signal: AbortSignal
  say: (text: string) => void
}

/** Generates the text, makes the vocabulary and trains the model of the recipe, from the last checkpoint if there is one. */
export async function pretrain({
  train,
  questions,
  folder,
  steps,
  signal,
  say,
}: PretrainParameters): Promise<PretrainResult> {
  const recipe = parseRecipe({ ...demoRecipe.training, ...(steps === undefined ? {} : { steps }) })
  const documents = generateDocuments({ count: demoRecipe.documents, seed: demoRecipe.corpusSeed })
  const vocabulary = trainVocabulary({
    texts: documents.slice(0, demoRecipe.vocabularyDocuments).flatMap(textsOf),
    size: demoRecipe.vocabularySize,
  })
  const config = { ...demoRecipe.config, vocab: vocabulary.pieces.length }
  const encoder = exampleEncoder(new Tokenizer(vocabulary))
  const { rowTokens } = demoRecipe.training
  const { promptWeight } = recipe
  const examples = documents.flatMap((document) => encoder.encode(exampleOf(document), { promptWeight, rowTokens }))
  const heldOut = questions.flatMap(({ question, answer }) =>
    encoder.encode(exampleOf({ kind: 'chat', exchanges: [{ question, answer }] }), { promptWeight: 0, rowTokens }),
  )
  const corpusTokens = examples.reduce((sum, { tokens }) => sum + tokens.length, 0)
  say(`${documents.length} documents, ${corpusTokens} tokens`)
  const result = await train({
    config,
    base: initialWeights({ config, seed: demoRecipe.trainingSeed }),
    train: examples,
    heldOut,
    recipe,
    seed: demoRecipe.trainingSeed,
    checkpointPath: join(folder, 'checkpoint.safetensors'),
    job: createHash('sha256')
      .update(JSON.stringify({ ...demoRecipe, training: recipe, vocabulary }))
      .digest('hex'),
    signal,
    onStart: ({ steps, resumedAt, rows }) => say(`${rows} rows, ${steps} steps, from step ${resumedAt}`),
    onProgress({ step, steps, loss, heldOutLoss, tokensPerSecond }) {
      if (step % 10 !== 0 && step !== 1) return
      const heldOutText = heldOutLoss === undefined ? '' : `, held-out ${heldOutLoss.toFixed(4)}`
      say(`step ${step}/${steps}: loss ${loss.toFixed(4)}${heldOutText}, ${Math.round(tokensPerSecond)} tokens/s`)
    },
  })
  const { trained: weights, curve, heldOutLoss } = result
  const trainedTokens = result.steps * recipe.batchRows * recipe.accumulation * result.rowTokens
  return { config, vocabulary, weights, curve, heldOutLoss, corpusTokens, trainedTokens }
}
