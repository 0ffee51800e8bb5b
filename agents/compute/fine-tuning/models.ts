import { stat } from 'node:fs/promises'
import { fileSource } from '#kit/files.ts'
import type { Hash } from '#protocol/hex.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import type { FineTuningConfig } from './config.ts'
import { FineTuningError } from './error.ts'
import { inspectBase } from './work/prepare.ts'

/** A base model, checked. */
export interface BaseModelEntry {
  name: string
  path: string
  /** Storage root of the file: what tasks name. */
  root: Hash
  sizeBytes: number
  aliases: readonly string[]
  description: string
  coefficientMilli: number
  recipe: Record<string, unknown>
  /** Of the file when its root was taken. */
  modifiedMs: number
}

/** Root and size of a file. */
export async function rootOf(path: string): Promise<{ root: Hash; sizeBytes: number }> {
  await using source = await fileSource(path)
  const { root, sizeBytes } = await buildFileTree({ source })
  return { root, sizeBytes }
}

/**
 * Reads the base models of a configuration.
 *
 * @throws TrainerError for a model that the own trainer cannot train: `TRAINER_BASE`, `TRAINER_ARCHITECTURE`,
 * `TRAINER_TOKENIZER`, `TRAINER_MEMORY`; FineTuningError `FINE_TUNING_SETUP` for a name given twice
 */
export async function openModels(config: Pick<FineTuningConfig, 'models' | 'trainer' | 'limits'>): Promise<BaseModels> {
  const entries: BaseModelEntry[] = []
  for (const { name, path, aliases, description, coefficientMilli, recipe } of config.models) {
    if (entries.some((entry) => entry.name === name)) {
      throw new FineTuningError({
        ...{ code: 'FINE_TUNING_SETUP', message: `two models are called ${name}`, fix: 'give each its own name' },
        details: { field: 'models' },
      })
    }
    await inspectBase({ path, recipe, own: config.trainer.command === undefined, limitMs: config.limits.prepareMs })
    const hashes = aliases.map((alias) => alias.toLowerCase())
    const { mtimeMs: modifiedMs } = await stat(path)
    const file = { path, ...(await rootOf(path)), modifiedMs }
    entries.push({ name, ...file, aliases: hashes, description, coefficientMilli, recipe })
  }
  return new BaseModels(entries)
}

/**
 * That a base model is still the file whose root users were shown: nobody is charged for training on another.
 *
 * @throws FineTuningError `MODEL_CHANGED`
 */
export async function requireUnchanged({ path, root, name, sizeBytes, modifiedMs }: BaseModelEntry): Promise<void> {
  const now = await stat(path).catch(() => undefined)
  if (now?.size === sizeBytes && now.mtimeMs === modifiedMs) return
  if (now?.size === sizeBytes && (await rootOf(path)).root === root) return
  throw new FineTuningError({
    ...{ code: 'MODEL_CHANGED', statusCode: 503, message: `the weights of ${name} are no longer those of ${root}` },
    fix: 'its provider must start again with the file as it is; use another provider until then',
    details: { field: 'preTrainedModelHash', root },
  })
}

/** The models on offer. */
export class BaseModels {
  readonly entries: readonly BaseModelEntry[]

  constructor(entries: readonly BaseModelEntry[]) {
    this.entries = entries
  }

  /** @throws FineTuningError `MODEL_UNKNOWN` */
  byHash(hash: string): BaseModelEntry {
    const wanted = hash.toLowerCase()
    const found = this.entries.find(({ root, aliases }) => root === wanted || aliases.includes(wanted))
    if (found === undefined) throw this.#unknown(hash)
    return found
  }

  /** @throws FineTuningError `MODEL_UNKNOWN` */
  byName(name: string): BaseModelEntry {
    const found = this.entries.find((entry) => entry.name === name)
    if (found === undefined) throw this.#unknown(name)
    return found
  }

  #unknown(asked: string): FineTuningError {
    return new FineTuningError({
      ...{ code: 'MODEL_UNKNOWN', statusCode: 404, message: `there is no base model ${asked.slice(0, 100)} here` },
      fix: `ask for one of ${this.entries.map(({ name }) => name).join(', ')}`,
      details: { field: 'preTrainedModelHash' },
    })
  }
}
