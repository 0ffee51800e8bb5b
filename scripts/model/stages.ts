import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { exampleEncoder } from '#compute/trainer/chat-format.ts'
import type { CurvePoint } from '#compute/trainer/checkpoint.ts'
import { initialWeights } from '#compute/trainer/initial-weights.ts'
import type { TokenExample } from '#compute/trainer/packing.ts'
import { parseRecipe } from '#compute/trainer/recipe.ts'
import type { runTraining } from '#compute/trainer/training-loop.ts'
import type { LlamaConfig, Weights } from '#protocol/gguf/llama.ts'
import { Tokenizer } from '#protocol/gguf/tokenizer.ts'
import { trainVocabulary } from '#protocol/gguf/train-vocabulary.ts'
import type { Vocabulary } from '#protocol/gguf/vocabulary.ts'
import { generateDocuments, type HeldOutQuestion } from './corpus/generate.ts'
import { exampleOf, textsOf } from './corpus/messages.ts'
import { demoRecipe, type Stage } from './recipe.ts'

/** Weights after all stages, and what led there. */
export interface StagesResult {
  config: LlamaConfig
  vocabulary: Vocabulary
  weights: Weights
  /** Steps counted through all stages. */
  curve: CurvePoint[]
  heldOutLoss: number | undefined
  corpusTokens: number
  trainedTokens: number
}

export interface StagesParameters {
  /** Passed in, because threads must be set up before the module is loaded. */
  train: typeof runTraining
  /** Questions for the held-out loss. */
  questions: readonly HeldOutQuestion[]
  folder: string
  /** Most steps of a stage, to try things. */
  maxSteps?: number | undefined
  signal: AbortSignal
  say: (text: string) => void
}

/** Makes the vocabulary and trains through the stages of the recipe, each from the last checkpoint there is. */
export async function trainStages({
  train,
  questions,
  folder,
  maxSteps = Number.POSITIVE_INFINITY,
  signal,
  say,
}: StagesParameters): Promise<StagesResult> {
  const vocabulary = makeVocabulary()
  const config = { ...demoRecipe.config, vocab: vocabulary.pieces.length }
  const tokenizer = new Tokenizer(vocabulary)
  let weights = initialWeights({ config, seed: demoRecipe.trainingSeed })
  const done = { curve: [] as CurvePoint[], corpusTokens: 0, trainedTokens: 0 }
  let heldOutLoss: number | undefined
  let digest = createHash('sha256')
    .update(JSON.stringify({ config, vocabulary, seed: demoRecipe.trainingSeed }))
    .digest('hex')
  for (const stage of demoRecipe.stages) {
    const recipe = parseRecipe({ ...stage.training, steps: Math.min(maxSteps, stage.training.steps) })
    const examples = stageExamples({ stage, tokenizer })
    const tokens = examples.reduce((sum, { tokens }) => sum + tokens.length, 0)
    digest = createHash('sha256')
      .update(JSON.stringify({ before: digest, stage, recipe }))
      .digest('hex')
    say(`stage ${stage.name}: ${stage.documents} documents, ${tokens} tokens`)
    const result = await train({
      config,
      base: weights,
      train: examples,
      heldOut: heldOutExamples({ questions, tokenizer, stage }),
      recipe,
      seed: demoRecipe.trainingSeed,
      checkpointPath: join(folder, `${stage.name}.safetensors`),
      job: digest,
      signal,
      onStart: ({ steps, resumedAt, rows }) => say(`${rows} rows, ${steps} steps, from step ${resumedAt}`),
      onProgress({ step, steps, loss, heldOutLoss, tokensPerSecond }) {
        if (step % 10 !== 0 && step !== 1) return
        const heldOutText = heldOutLoss === undefined ? '' : `, held-out ${heldOutLoss.toFixed(4)}`
        say(`step ${step}/${steps}: loss ${loss.toFixed(4)}${heldOutText}, ${Math.round(tokensPerSecond)} tokens/s`)
      },
    })
    weights = result.trained
    heldOutLoss = result.heldOutLoss
    const before = done.curve.at(-1)?.step ?? 0
    done.curve.push(...result.curve.map((point) => ({ ...point, step: before + point.step })))
    done.corpusTokens += tokens
    done.trainedTokens += result.steps * recipe.batchRows * recipe.accumulation * result.rowTokens
  }
  return { config, vocabulary, weights, heldOutLoss, ...done }
}

function makeVocabulary(): Vocabulary {
  const { vocabularyDocuments: count, vocabularySize: size } = demoRecipe
  const [first] = demoRecipe.stages
  if (first === undefined) throw new Error('the recipe has no stages')
  const documents = generateDocuments({ count, seed: first.corpusSeed, mix: first.mix })
  return trainVocabulary({ texts: documents.flatMap(textsOf), size })
}

/** The text of a stage in tokens; conversations that are longer than a row are left out. */
function stageExamples({ stage, tokenizer }: { stage: Stage; tokenizer: Tokenizer }): TokenExample[] {
  const encoder = exampleEncoder(tokenizer)
  const { rowTokens, promptWeight } = parseRecipe(stage.training)
  const limit = rowTokens ?? demoRecipe.config.context
  return generateDocuments({ count: stage.documents, seed: stage.corpusSeed, mix: stage.mix })
    .flatMap((document) => encoder.encode(exampleOf(document), { promptWeight, rowTokens: limit }))
    .filter(({ tokens }) => tokens.length <= limit + 1)
}

function heldOutExamples({
  questions,
  tokenizer,
  stage,
}: {
  questions: readonly HeldOutQuestion[]
  tokenizer: Tokenizer
  stage: Stage
}): TokenExample[] {
  const encoder = exampleEncoder(tokenizer)
  const rowTokens = stage.training.rowTokens ?? demoRecipe.config.context
  return questions.flatMap(({ question, answer }) =>
    encoder.encode(exampleOf({ kind: 'chat', exchanges: [{ question, answer }] }), { promptWeight: 0, rowTokens }),
  )
}
