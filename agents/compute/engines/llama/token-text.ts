/** Longest UTF-8 sequence: a character takes at most this many byte tokens. */
const MAX_CHARACTER_TOKENS = 4

/** How many tokens before a piece decide how it is written. */
const NEIGHBOURS = 4

export interface TokenTextParameters {
  /** Text of tokens that follow `before`. */
  decode: (ids: readonly number[], before: readonly number[]) => string
  /** The text ends before the first of these. */
  stops: readonly string[]
  /** Tokens of the prompt, the last few of which decide how the first piece is written. */
  prompt: readonly number[]
}

/**
 * Text of a growing list of tokens, given out as soon as it is certain: characters split over several tokens and what may
 * become a stop string are held back.
 */
export class TokenText {
  readonly #decode: TokenTextParameters['decode']
  readonly #stops: readonly string[]
  #before: number[]
  #pending: number[] = []
  #held = ''
  #isStopped = false

  constructor({ decode, stops, prompt }: TokenTextParameters) {
    this.#decode = decode
    this.#stops = stops
    this.#before = prompt.slice(-NEIGHBOURS)
  }

  /** A stop string was reached. */
  get isStopped(): boolean {
    return this.#isStopped
  }

  /** Takes a token and gives the text that has become certain. */
  push(id: number): string {
    this.#pending.push(id)
    const text = this.#decode(this.#pending, this.#before)
    // An unfinished character is written as U+FFFD; four tokens finish any character there is.
    if (text.endsWith('\uFFFD') && this.#pending.length < MAX_CHARACTER_TOKENS) return ''
    this.#settle()
    return this.#release(this.#held + text)
  }

  /** The rest, at the end of the answer. */
  finish(): string {
    const rest = this.#pending.length > 0 ? this.#decode(this.#pending, this.#before) : ''
    this.#settle()
    if (this.#isStopped) return ''
    const text = this.#release(this.#held + rest)
    const held = this.#isStopped ? '' : this.#held
    this.#held = ''
    return text + held
  }

  #settle(): void {
    this.#before = [...this.#before, ...this.#pending].slice(-NEIGHBOURS)
    this.#pending = []
  }

  /** Cuts at the first stop string, and keeps back an end that may be the beginning of one. */
  #release(text: string): string {
    if (this.#stops.length === 0) return text
    const found = this.#stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0)
    if (found.length > 0) {
      this.#isStopped = true
      this.#held = ''
      return text.slice(0, Math.min(...found))
    }
    const longest = Math.max(...this.#stops.map((stop) => overlap(text, stop)))
    this.#held = text.slice(text.length - longest)
    return text.slice(0, text.length - longest)
  }
}

/** Length of the longest end of `text` that is a beginning of `stop`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length
  }
  return 0
}
