import { ProviderError } from '../error.ts'

export interface RequestLimitsParameters {
  /** Requests of one user per minute, over any time; 0 for no limit. */
  requestsPerMinute: number
  /** Requests a user may send at once after a pause. */
  burst: number
  /** Requests of one user under way. */
  concurrentPerUser: number
  /** Requests under way in all. */
  concurrent: number
  now: () => number
}

/** Header names as OpenAI's clients know them. */
export type LimitHeaders = Readonly<Record<string, string>>

/** Users remembered; the longest unseen are forgotten first, when their bucket is full again in any case. */
const MAX_USERS = 100_000
const BUSY_RETRY_S = 1

interface Bucket {
  tokens: number
  filledAt: number
  running: number
}

/** Limits per user (a token bucket and a number under way) and for all together. */
export class RequestLimits {
  readonly #parameters: RequestLimitsParameters
  readonly #users = new Map<string, Bucket>()
  #running = 0

  constructor(parameters: RequestLimitsParameters) {
    this.#parameters = parameters
  }

  /** Requests under way. */
  get running(): number {
    return this.#running
  }

  /**
   * Takes a place for one request. Call `release` once, however the request ends.
   *
   * @throws ProviderError 429 `rate_limit_exceeded`, `too_many_concurrent_requests`; 503 `provider_busy`
   */
  take(user: string): { headers: LimitHeaders; release: () => void } {
    const { burst, requestsPerMinute, concurrent, concurrentPerUser, now } = this.#parameters
    const bucket = this.#bucket(user)
    const unlimited = requestsPerMinute === 0
    if (!unlimited && bucket.tokens < 1) {
      const retryAfterS = Math.max(1, Math.ceil(((1 - bucket.tokens) * 60) / requestsPerMinute))
      throw tooMany('rate_limit_exceeded', `more than ${requestsPerMinute} requests per minute`, retryAfterS, {
        ...{ limit: requestsPerMinute, burst },
      })
    }
    if (bucket.running >= concurrentPerUser) {
      const text = `${concurrentPerUser} requests of this user are under way already`
      throw tooMany('too_many_concurrent_requests', text, BUSY_RETRY_S, { limit: concurrentPerUser })
    }
    if (this.#running >= concurrent) {
      throw new ProviderError({
        ...{ statusCode: 503, type: 'server_error', code: 'provider_busy', retryAfterS: BUSY_RETRY_S },
        message: `the provider serves ${concurrent} requests already`,
        fix: 'try again shortly, or use another provider',
        details: { limit: concurrent },
      })
    }
    if (!unlimited) bucket.tokens -= 1
    bucket.running += 1
    this.#running += 1
    let released = false
    return {
      headers: this.#headers(bucket, now()),
      release: () => {
        if (released) return
        released = true
        bucket.running -= 1
        this.#running -= 1
      },
    }
  }

  /** The headers for an answer that says no. */
  headers(user: string): LimitHeaders {
    return this.#headers(this.#bucket(user), this.#parameters.now())
  }

  #headers(bucket: Bucket, _nowMs: number): LimitHeaders {
    const { burst, requestsPerMinute } = this.#parameters
    if (requestsPerMinute === 0) return {}
    const missing = burst - bucket.tokens
    return {
      'x-ratelimit-limit-requests': String(requestsPerMinute),
      'x-ratelimit-remaining-requests': String(Math.max(0, Math.floor(bucket.tokens))),
      'x-ratelimit-reset-requests': `${Math.ceil((missing * 60) / requestsPerMinute)}s`,
    }
  }

  #bucket(user: string): Bucket {
    const { burst, requestsPerMinute, now } = this.#parameters
    const nowMs = now()
    const known = this.#users.get(user)
    if (known === undefined) {
      if (this.#users.size >= MAX_USERS) this.#forget()
      const fresh = { tokens: burst, filledAt: nowMs, running: 0 }
      this.#users.set(user, fresh)
      return fresh
    }
    // A clock that was set back must not take tokens away.
    const passedMs = Math.max(0, nowMs - known.filledAt)
    known.tokens = Math.min(burst, known.tokens + (passedMs * requestsPerMinute) / 60_000)
    known.filledAt = nowMs
    return known
  }

  #forget(): void {
    let left = MAX_USERS / 10
    for (const [user, { running }] of this.#users) {
      if (running > 0) continue
      this.#users.delete(user)
      left -= 1
      if (left <= 0) return
    }
  }
}

function tooMany(code: string, message: string, retryAfterS: number, details: Record<string, unknown>): ProviderError {
  return new ProviderError({
    ...{ statusCode: 429, type: 'rate_limit_error', code, message, retryAfterS, details },
    fix: `try again in ${retryAfterS} s`,
  })
}
