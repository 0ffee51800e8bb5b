import { taskFeeWei, trainedTokens } from '#protocol/compute/fine-tuning/fee.ts'
import type { FineTuningChain } from '../chain/fine-tuning-chain.ts'
import type { FineTuningConfig } from '../config.ts'
import { type BaseModelEntry, requireUnchanged } from '../models.ts'
import { type PreparedDataset, prepareDataset } from './prepare.ts'
import { recipeOf } from './train.ts'

/** What a task takes and costs. */
export interface TaskPrice extends PreparedDataset {
  /** Tokens that are paid for. */
  trainedTokens: number
  pricePerTokenWei: bigint
  feeWei: bigint
}

/**
 * Checks a dataset, writes it in the trainer's form and counts what training on it costs. The same for a quote and for the
 * task itself, as long as the provider's price stays.
 *
 * @throws TrainerError for the dataset or the recipe; chain errors
 */
export async function priceTask(parameters: {
  config: FineTuningConfig
  chain: FineTuningChain
  model: BaseModelEntry
  /** The task's settings as it sent them. */
  params: string
  from: string
  to: string
  signal?: AbortSignal | undefined
}): Promise<TaskPrice> {
  const { config, chain, model, params, from, to, signal } = parameters
  const recipe = recipeOf({ params, model })
  await requireUnchanged(model)
  const prepared = await prepareDataset({
    ...{ basePath: model.path, from, to, rowTokens: recipe.rowTokens, signal },
    own: config.trainer.command === undefined,
    ...{ maxBytes: config.limits.datasetBytes, limitMs: config.limits.prepareMs },
  })
  const trained = trainedTokens({
    ...{ tokens: prepared.tokens, rows: prepared.rows, epochs: recipe.epochs, maxSteps: recipe.steps ?? -1 },
    rowsPerStep: recipe.batchRows * recipe.accumulation,
  })
  const pricePerTokenWei = (await chain.service())?.pricePerTokenWei ?? 0n
  const feeWei = taskFeeWei({
    ...{ trainedTokens: trained, pricePerTokenWei, storageFeeWei: config.fees.storageWei },
    coefficientMilli: model.coefficientMilli,
  })
  return { ...prepared, trainedTokens: trained, pricePerTokenWei, feeWei }
}
