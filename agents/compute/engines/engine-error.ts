import { WeightlessError, type WeightlessErrorParameters } from '#protocol/error.ts'

/**
 * Why an engine did not answer.
 *
 * - `ENGINE_REQUEST` the body is not what OpenAI's interface asks for; `details.field`
 * - `ENGINE_CONTEXT` prompt and answer do not fit the context; `details.promptTokens`, `details.contextTokens`
 * - `ENGINE_UNSUPPORTED` a field or value that this engine or model cannot honour; `details.field`
 * - `ENGINE_MODEL` no such model or adapter
 * - `ENGINE_BUSY` all sequences and all places of the queue are taken; try again later
 * - `ENGINE_CRASHED` the engine's process ended while it answered; it is being started again
 * - `ENGINE_UPSTREAM` the upstream refused, broke off or sent what is no answer; `details.status` where it gave one
 * - `ENGINE_TIMEOUT` nothing came within the limit
 * - `ENGINE_ADAPTER` an adapter file that does not fit the model
 * - `ENGINE_LOAD` the model could not be loaded
 * - `ENGINE_CLOSED` the engine was closed
 */
export const engineErrorCodes = [
  'ENGINE_REQUEST',
  'ENGINE_CONTEXT',
  'ENGINE_UNSUPPORTED',
  'ENGINE_MODEL',
  'ENGINE_BUSY',
  'ENGINE_CRASHED',
  'ENGINE_UPSTREAM',
  'ENGINE_TIMEOUT',
  'ENGINE_ADAPTER',
  'ENGINE_LOAD',
  'ENGINE_CLOSED',
] as const

export type EngineErrorCode = (typeof engineErrorCodes)[number]

/** The HTTP status that tells a client the same thing. */
export const engineErrorStatus: Readonly<Record<EngineErrorCode, number>> = {
  ENGINE_REQUEST: 400,
  ENGINE_CONTEXT: 400,
  ENGINE_UNSUPPORTED: 400,
  ENGINE_MODEL: 404,
  ENGINE_BUSY: 429,
  ENGINE_CRASHED: 503,
  ENGINE_UPSTREAM: 502,
  ENGINE_TIMEOUT: 504,
  ENGINE_ADAPTER: 400,
  ENGINE_LOAD: 503,
  ENGINE_CLOSED: 503,
}

/** An engine did not answer; `code` says why. */
export class EngineError extends WeightlessError {
  declare readonly code: EngineErrorCode

  constructor(parameters: WeightlessErrorParameters & { code: EngineErrorCode }) {
    super(parameters)
  }
}
