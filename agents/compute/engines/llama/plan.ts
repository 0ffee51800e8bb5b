import { randomBytes } from 'node:crypto'
import type { SamplingProfile, SamplingSettings } from '../engine.ts'
import { EngineError } from '../engine-error.ts'
import type { SamplingRequest } from '../requests.ts'
import { requestSettings } from '../settings.ts'

/** How the tokens of a request are chosen. */
export interface SamplingPlan {
  profile: SamplingProfile
  settings: SamplingSettings
  /** Alternatives per token that the answer lists; undefined: no log probabilities. */
  logprobs: number | undefined
  /**
   * True: logits of the best tokens come to this process and are sampled here. Needed for repeatable noise and for log
   * probabilities; costs a little per token.
   */
  isSampledHere: boolean
}

/**
 * Settles profile and settings of a request. Without a wish, what can be repeated by others is: temperature 0 is greedy, and
 * a plain temperature is sampled with seeded noise; top_p, penalties, biases and grammars are left to llama.cpp (`none`).
 *
 * @throws EngineError `ENGINE_UNSUPPORTED`
 */
export function planSampling(request: SamplingRequest, { hasGrammar, logprobs }: PlanParameters): SamplingPlan {
  if ((request.n ?? 1) > 1) throw unsupported('n', 'ask for one answer per request')
  const isGreedyWish = request.profile === 'greedy'
  if (isGreedyWish && (request.temperature ?? 0) !== 0)
    throw unsupported('sampling_profile', 'greedy needs temperature 0')
  const temperature = isGreedyWish ? 0 : (request.temperature ?? 1)
  const drawn = temperature === 0 ? 0n : randomBytes(8).readBigUInt64LE()
  const settings = requestSettings({ ...request, temperature }, drawn)
  const isPlain =
    !hasGrammar &&
    (request.topP ?? 1) >= 1 &&
    !request.frequencyPenalty &&
    !request.presencePenalty &&
    Object.keys(request.logitBias ?? {}).length === 0
  const best: SamplingProfile = isPlain ? (temperature === 0 ? 'greedy' : 'gumbel-philox-1') : 'none'
  const profile = request.profile ?? best
  if (profile !== 'none' && profile !== best) {
    throw unsupported(
      'sampling_profile',
      `${profile} goes without top_p, penalties, biases and grammars, and greedy with temperature 0 only`,
    )
  }
  if (logprobs !== undefined && !isPlain) {
    throw unsupported('logprobs', 'log probabilities go without top_p, penalties, biases and grammars')
  }
  const isSampledHere = profile === 'gumbel-philox-1' || logprobs !== undefined
  // Log probabilities come with plain sampling only, which is then done by the best profile whatever was wished.
  return { profile: logprobs === undefined ? profile : best, settings, logprobs, isSampledHere }
}

export interface PlanParameters {
  hasGrammar: boolean
  logprobs: number | undefined
}

/** A field or value that this engine cannot honour. */
export function unsupported(field: string, fix: string): EngineError {
  return new EngineError({
    code: 'ENGINE_UNSUPPORTED',
    message: `${field}: ${fix}`,
    fix: `leave out ${field}`,
    details: { field },
  })
}
