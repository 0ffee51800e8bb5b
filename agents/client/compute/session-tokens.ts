import { EPHEMERAL_LIFETIME_MS, encodeSessionToken } from '#protocol/compute/session-token.ts'
import type { MessageSigner } from '#protocol/compute/signature.ts'
import type { Hex } from '#protocol/hex.ts'

/** A token is made anew when less than this is left of it. */
const RENEW_BEFORE_MS = 3_600_000
/** Kept at most; a client talks to a handful of providers. */
const MAX_TOKENS = 1_000

/** Session tokens in memory, one for each provider, renewed in time and when the generation moves. */
export class SessionTokens {
  readonly #tokens = new Map<string, { token: string; generation: number; expiresAtMs: number }>()

  /** A token good for at least an hour. */
  async get(request: {
    signer: MessageSigner
    provider: Hex
    generation: number
    nowMs?: number | undefined
  }): Promise<string> {
    const { signer, provider, generation, nowMs = Date.now() } = request
    const key = `${signer.address}:${provider}`.toLowerCase()
    const known = this.#tokens.get(key)
    if (known !== undefined && known.generation === generation && known.expiresAtMs - nowMs > RENEW_BEFORE_MS) {
      return known.token
    }
    const token = await encodeSessionToken({ signer, provider, nowMs, generation })
    if (this.#tokens.size >= MAX_TOKENS) this.#tokens.clear()
    this.#tokens.set(key, { token, generation, expiresAtMs: nowMs + EPHEMERAL_LIFETIME_MS })
    return token
  }

  /** Forgets the token of a provider that refused it. */
  forget({ signer, provider }: { signer: MessageSigner; provider: Hex }): void {
    this.#tokens.delete(`${signer.address}:${provider}`.toLowerCase())
  }
}
