import type { RecipeInput } from '#compute/trainer/recipe.ts'
import type { LlamaConfig } from '#protocol/gguf/llama.ts'

/** Everything that decides the demo model. Change anything and it is another model. */
export const demoRecipe = {
  name: 'Weightless demo',
  /** Documents of the corpus and the seed they are drawn with. */
  documents: 60_000,
  corpusSeed: 20261,
  /** Seed of the initial weights and of the order of the documents. */
  trainingSeed: 7,
  /** Seed and number per task of the questions that the finished model is examined with. */
  examinationSeed: 4242,
  examinationPerTask: 40,
  vocabularySize: 1024,
  /** Documents that the vocabulary is made from. */
  vocabularyDocuments: 8_000,
  config: {
    dim: 192,
    layers: 4,
    heads: 6,
    kvHeads: 2,
    headDim: 32,
    ffn: 512,
    context: 256,
    ropeBase: 10_000,
    eps: 1e-5,
    tied: true,
  } satisfies Omit<LlamaConfig, 'vocab'>,
  training: {
    mode: 'full',
    learningRate: 3e-3,
    warmupShare: 0.03,
    finalRateShare: 0.05,
    steps: 1550,
    cosineSteps: 2000,
    coolDownShare: 0.1613,
    batchRows: 16,
    rowTokens: 128,
    promptWeight: 0.1,
    weightDecay: 0.01,
    heldOutShare: 0,
    evaluateEvery: 100,
    checkpointEvery: 50,
  } satisfies RecipeInput,
  /** Type of the matrices in the file: Q8_0 answers bit for bit alike whatever else a server computes beside it. */
  fileType: 'Q8_0',
} as const

/** The bundled fine-tuning example: a few hundred sentences, to be answered as notes in a new format. */
export const notesRecipe = {
  training: 400,
  heldOut: 100,
  seed: 11,
  recipe: {
    rank: 8,
    alpha: 16,
    learningRate: 4e-3,
    warmupShare: 0.1,
    epochs: 6,
    batchRows: 8,
    rowTokens: 128,
    heldOutShare: 0.05,
    evaluateEvery: 25,
    checkpointEvery: 25,
  } satisfies RecipeInput,
} as const
