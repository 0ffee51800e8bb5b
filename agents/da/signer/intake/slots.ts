import { SignerError } from '../error.ts'

/** A fixed number of places for work of one kind; who finds none is sent away rather than queued. */
export class Slots {
  readonly #limit: number
  readonly #what: string
  #taken = 0

  constructor({ limit, what }: { limit: number; what: string }) {
    this.#limit = limit
    this.#what = what
  }

  get taken(): number {
    return this.#taken
  }

  /** Takes a place; call what it gives to leave it. @throws SignerError `SIGNER_BUSY` */
  take(): () => void {
    if (this.#taken >= this.#limit) {
      throw new SignerError({
        code: 'SIGNER_BUSY',
        message: `${this.#limit} ${this.#what} are under way here`,
        fix: 'try again in a moment',
        details: { limit: this.#limit },
      })
    }
    this.#taken += 1
    let left = false
    return () => {
      if (left) return
      left = true
      this.#taken -= 1
    }
  }
}
