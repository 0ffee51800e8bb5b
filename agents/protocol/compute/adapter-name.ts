import type { Hash } from '../hex.ts'

const ROOT = /^0x[0-9a-fA-F]{64}$/
const BY_ROOT = /^(.+):(0x[0-9a-fA-F]{64})$/s
const IN_ENGINE = / lora (0x[0-9a-f]{64})$/

/** Characters that {@link engineText} keeps of an engine's own description when an adapter stands behind it. */
const ENGINE_CHARACTERS = 184

/** A model asked for with an adapter that is named by its content. */
export interface AdaptedModel {
  /** What stands before the last colon: the base model's name. */
  readonly base: string
  /** Storage root of the adapter's GGUF file. */
  readonly root: Hash
}

/**
 * Takes `base:0x<64 hex digits>` apart; undefined for every other name. Names of models may have colons of their own
 * (`llama3:8b`), so only a whole storage root behind the last one makes an adapter.
 */
export function adaptedModel(model: string): AdaptedModel | undefined {
  const [, base, root] = BY_ROOT.exec(model) ?? []
  return base === undefined || root === undefined ? undefined : { base, root: root.toLowerCase() as Hash }
}

/** Whether a text is a storage root. */
export function isAdapterRoot(text: string): boolean {
  return ROOT.test(text)
}

/**
 * The text behind `engine` of a receipt (at most 256 characters): kind and build of the engine, and behind them
 * ` lora 0x…` where an adapter took part in the answer.
 *
 * A receipt has one field for a model, the root of the base weights, and its form is fixed: other tools hash it. What
 * computed the answer from these weights is said by `engine`, so the adapter's root stands there: it is signed, and an
 * auditor finds everything that is needed to repeat the answer. Without an adapter the text is what it always was.
 */
export function engineText({ engine, adapter }: { engine: string; adapter: Hash | undefined }): string {
  return adapter === undefined ? engine.slice(0, 256) : `${engine.slice(0, ENGINE_CHARACTERS)} lora ${adapter}`
}

/** The adapter that a receipt's engine text names; undefined where it names none. */
export function adapterOfEngine(engine: string): Hash | undefined {
  return IN_ENGINE.exec(engine)?.[1] as Hash | undefined
}
