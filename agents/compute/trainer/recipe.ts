import { z } from 'zod'
import { LINEARS } from '#protocol/gguf/llama.ts'
import { TrainerError } from './error.ts'

const rate = z.number().positive().max(1)

/**
 * How to train. Every setting has a default that suits a LoRA on a small model; limits are there so that a job that is
 * paid by the token cannot be made to run for ever.
 */
export const recipeSchema = z.strictObject({
  /** `lora` trains an adapter and freezes the base; `full` trains every weight. */
  mode: z.enum(['lora', 'full']).default('lora'),
  /** Rank of the adapter's matrices. */
  rank: z.number().int().min(1).max(256).default(8),
  /** The adapter's output is scaled by alpha / rank. */
  alpha: z.number().positive().max(1024).default(16),
  /** Projections that carry an adapter. */
  targets: z
    .array(z.enum(LINEARS))
    .min(1)
    .default([...LINEARS]),
  /** Peak learning rate of AdamW. */
  learningRate: rate.default(2e-3),
  /** Share of the steps over which the rate rises from 0. */
  warmupShare: z.number().min(0).max(0.5).default(0.05),
  /** The cosine ends at this share of the peak rate. */
  finalRateShare: z.number().min(0).max(1).default(0.1),
  /**
   * Updates over which the cosine spreads; default: all. More than all means that the rate is still high near the end,
   * and falls in a straight line to its final share over the last `coolDownShare` of the steps.
   */
  cosineSteps: z.number().int().min(1).max(1_000_000).optional(),
  coolDownShare: z.number().min(0).max(0.5).default(0.15),
  /** Passes over the dataset; ignored when `steps` is given. */
  epochs: z.number().positive().max(1000).default(3),
  /** Updates. */
  steps: z.number().int().min(1).max(1_000_000).optional(),
  /** Rows of one batch. */
  batchRows: z.number().int().min(1).max(1024).default(8),
  /** Tokens of one row; several examples are packed into a row. Default: fits the longest example. */
  rowTokens: z.number().int().min(8).max(8192).optional(),
  /** Batches whose gradients are summed for one update. */
  accumulation: z.number().int().min(1).max(256).default(1),
  /** Weight of prompt tokens in the loss; 0 learns from completions alone. */
  promptWeight: z.number().min(0).max(1).default(0),
  beta1: z.number().min(0).max(0.9999).default(0.9),
  beta2: z.number().min(0).max(0.99999).default(0.99),
  epsilon: z.number().positive().max(1e-3).default(1e-8),
  weightDecay: z.number().min(0).max(1).default(0),
  clipNorm: z.number().positive().max(1000).default(1),
  /** Share of the examples that are kept out of training to measure the held-out loss. */
  heldOutShare: z.number().min(0).max(0.5).default(0.1),
  /** Updates between two measurements of the held-out loss. */
  evaluateEvery: z.number().int().min(1).default(50),
  /** Updates between two checkpoints; an interrupted job goes on from the last one. */
  checkpointEvery: z.number().int().min(1).default(50),
})

export type Recipe = z.output<typeof recipeSchema>
export type RecipeInput = z.input<typeof recipeSchema>

/** @throws TrainerError `TRAINER_RECIPE` naming the first setting that is out of range. */
export function parseRecipe(input: unknown): Recipe {
  const parsed = recipeSchema.safeParse(input)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const field = issue?.path.join('.') || 'recipe'
  throw new TrainerError({
    code: 'TRAINER_RECIPE',
    message: `${field}: ${issue?.message ?? 'not a recipe'}`,
    fix: 'see docs/training.md for the settings and their limits',
    details: { field },
  })
}

/** Learning rate of `step` (from 1): a linear rise, then half a cosine down to `finalRateShare` of the peak. */
export function learningRateAt({ recipe, step, steps }: { recipe: Recipe; step: number; steps: number }): number {
  const length = Math.max(steps, recipe.cosineSteps ?? steps)
  const warmup = Math.round(recipe.warmupShare * length)
  if (step <= warmup) return (recipe.learningRate * step) / warmup
  const cosineAt = (at: number): number => {
    const cosine = (1 + Math.cos((Math.PI * (at - warmup)) / Math.max(1, length - warmup))) / 2
    return recipe.learningRate * (recipe.finalRateShare + (1 - recipe.finalRateShare) * cosine)
  }
  const coolFrom = steps - Math.round(recipe.coolDownShare * steps)
  if (length === steps || step <= coolFrom) return cosineAt(step)
  const left = (steps - step) / (steps - coolFrom)
  const final = recipe.learningRate * recipe.finalRateShare
  return final + left * (cosineAt(Math.max(coolFrom, warmup)) - final)
}
