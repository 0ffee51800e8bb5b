import { gumbelQ16 } from './gumbel.ts'
import { philoxKey } from './philox.ts'

/** Of every position only this many of the largest logits can be chosen, so that as many suffice for an audit. */
export const TOP_CANDIDATES = 64

/** A `cutQ16` that bounds nothing. */
export const NO_CUT_Q16 = 0xffffffff

/** A token with its logit, or its log probability: a constant added to all of a position changes nothing. */
export interface Candidate {
  token: number
  logit: number
}

/** What fixes a choice besides the logits; receipts carry it. */
export interface SamplingSettings {
  /** Temperature times 65536, below 2^20; 0 is greedy. */
  temperatureQ16: number
  /** Tokens more than this, times 1/65536 logits, below the best are never chosen. */
  cutQ16: number
  /** 64 bits. */
  seed: bigint
}

/** Settings of a temperature and a smallest probability relative to the best token's: cut = −T·ln(minP). */
export function samplingSettings({ temperature, minP = 0, seed }: SamplingSettingsParameters): SamplingSettings {
  const temperatureQ16 = Math.round(temperature * 65_536)
  const cut = minP > 0 ? Math.round(-temperature * Math.log(minP) * 65_536) : NO_CUT_Q16
  return { temperatureQ16, cutQ16: Math.min(Math.max(cut, 0), NO_CUT_Q16), seed: BigInt.asUintN(64, seed) }
}

export interface SamplingSettingsParameters {
  temperature: number
  minP?: number
  seed: bigint
}

/**
 * The token of profile `gumbel-philox-1` (`greedy` when the temperature is 0): the largest logit + T · Gumbel noise among
 * the 64 largest logits that are not cut. Of equals the lowest token wins. The same as drawing from the softmax at T.
 *
 * @example
 * sampleToken({ candidates: [{ token: 7, logit: 2.5 }], position: 12, settings }) // 7
 */
export function sampleToken({ candidates, position, settings }: SampleTokenParameters): number | undefined {
  const allowed = allowedCandidates(candidates, settings)
  const { temperatureQ16, seed } = settings
  if (temperatureQ16 === 0) return allowed[0]?.token
  const key = philoxKey(seed)
  const scale = temperatureQ16 / 65_536 / 65_536
  let best: { token: number; score: number } | undefined
  for (const { token, logit } of allowed) {
    const score = logit + scale * gumbelQ16({ token, position, key })
    const wins = best === undefined || score > best.score || (score === best.score && token < best.token)
    if (wins) best = { token, score }
  }
  return best?.token
}

export interface SampleTokenParameters {
  /** At least the 64 largest logits of the position, in any order. */
  candidates: readonly Candidate[]
  /** Index of the token whose logits these are, from 0. */
  position: number
  settings: SamplingSettings
}

/** The candidates that may be chosen: largest first, of equals the lowest token first. */
export function allowedCandidates(candidates: readonly Candidate[], settings: SamplingSettings): Candidate[] {
  const sorted = candidates.toSorted((a, b) => b.logit - a.logit || a.token - b.token).slice(0, TOP_CANDIDATES)
  const best = sorted[0]
  if (best === undefined) return []
  const floor = settings.cutQ16 === NO_CUT_Q16 ? Number.NEGATIVE_INFINITY : best.logit - settings.cutQ16 / 65_536
  return sorted.filter(({ logit }) => logit >= floor)
}
