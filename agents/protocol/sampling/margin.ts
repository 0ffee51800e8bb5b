import { gumbelQ16 } from './gumbel.ts'
import { philoxKey } from './philox.ts'
import { allowedCandidates, type Candidate, NO_CUT_Q16, type SamplingSettings, TOP_CANDIDATES } from './sample.ts'

/**
 * How far a chosen token is from being the reference's choice, in logits: 0 when the reference chooses it too, tiny when
 * rounding turned a near tie, large when model, prompt or sampler differ.
 */
export function tokenMargin({ candidates, chosen, position, settings, clip = 1 }: TokenMarginParameters): number {
  const mine = candidates.find(({ token }) => token === chosen)
  if (mine === undefined) return clip
  const sorted = candidates.toSorted((a, b) => b.logit - a.logit)
  const best = sorted[0]?.logit ?? 0
  const last = sorted[Math.min(TOP_CANDIDATES, sorted.length) - 1]?.logit ?? best
  const { temperatureQ16, cutQ16, seed } = settings
  const floor = temperatureQ16 === 0 || cutQ16 === NO_CUT_Q16 ? last : Math.max(last, best - cutQ16 / 65_536)
  const key = philoxKey(seed)
  const scale = temperatureQ16 / 65_536 / 65_536
  const score = ({ token, logit }: Candidate): number =>
    temperatureQ16 === 0 ? logit : logit + scale * gumbelQ16({ token, position, key })
  const top = Math.max(...allowedCandidates(candidates, settings).map(score))
  return Math.min(clip, Math.max(0, top - score(mine), floor - mine.logit))
}

export interface TokenMarginParameters {
  /** The reference's 64 largest logits and that of the chosen token. */
  candidates: readonly Candidate[]
  chosen: number
  position: number
  settings: SamplingSettings
  /** Largest margin of one token, in logits. */
  clip?: number
}

const BETS = [1, 3, 10, 30, 100, 300, 1000]

/**
 * A bet against a provider that may be looked at after every token. If an honest provider's mean margin is at most
 * `tolerance`, the wealth ever passes 1/α with probability at most α (Ville's inequality), whatever the dependence between
 * tokens. Several sizes of bet are averaged, so none has to be chosen.
 */
export class AuditBet {
  readonly #bets: number[]
  readonly #logs: number[]
  readonly #tolerance: number

  constructor({ tolerance }: { tolerance: number }) {
    this.#tolerance = tolerance
    this.#bets = BETS.map((bet) => Math.min(bet, 0.5 / tolerance))
    this.#logs = this.#bets.map(() => 0)
  }

  /** Takes the margin of a token and gives the natural logarithm of the wealth. */
  add(margin: number): number {
    this.#bets.forEach((bet, i) => {
      this.#logs[i] = (this.#logs[i] ?? 0) + Math.log1p(bet * (margin - this.#tolerance))
    })
    return this.logWealth
  }

  get logWealth(): number {
    const largest = Math.max(...this.#logs)
    const sum = this.#logs.reduce((total, log) => total + Math.exp(log - largest), 0)
    return largest + Math.log(sum / this.#logs.length)
  }
}
