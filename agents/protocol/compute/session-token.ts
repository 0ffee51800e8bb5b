import { keccak_256 } from '@noble/hashes/sha3.js'
import { WeightlessError } from '../error.ts'
import { type Hex, toHex } from '../hex.ts'
import { type MessageSigner, personalDigest, recoverSigner, sameAddress } from './signature.ts'

/** A session token that is no good. `details.field` names what is wrong; see the codes at {@link parseSessionToken}. */
export class SessionTokenError extends WeightlessError {}

/** Who may use an account at one provider, and how long. */
export interface SessionToken {
  /** The user's wallet, lower case: it signed the token. */
  readonly address: Hex
  /** The provider's wallet, lower case. */
  readonly provider: Hex
  /** Made at, in milliseconds since 1970. */
  readonly timestampMs: number
  /** Good until, in milliseconds since 1970; 0 for ever (persistent tokens alone). */
  readonly expiresAtMs: number
  readonly nonce: string
  /** Copy of the sub-account's `generation`; an older one is revoked. */
  readonly generation: number
  /** 0 to 254: a persistent key that the user can revoke by this number. 255: a passing one. */
  readonly tokenId: number
}

/** `tokenId` of tokens that live at most {@link EPHEMERAL_LIFETIME_MS} and are revoked with all others only. */
export const EPHEMERAL_TOKEN_ID = 255
/** Longest life of an ephemeral token. */
export const EPHEMERAL_LIFETIME_MS = 86_400_000
const PREFIX = 'app-sk-'
/** Longest header looked at, in characters. A token of today has about 450. */
const MAX_HEADER_CHARS = 4_096
/** A clock may be wrong by so much. */
const CLOCK_SKEW_MS = 300_000

/** The signed text: this key order, no white space. */
export function sessionTokenJson(token: SessionToken): string {
  const { address, provider, timestampMs, expiresAtMs, nonce, generation, tokenId } = token
  return JSON.stringify({
    address,
    provider,
    timestamp: timestampMs,
    expiresAt: expiresAtMs,
    nonce,
    generation,
    tokenId,
  })
}

export interface EncodeSessionTokenParameters {
  /** The user: viem's `privateKeyToAccount(key)`, or whatever signs with EIP-191. */
  signer: MessageSigner
  provider: Hex
  nowMs: number
  /** How long it is good. Default 24 h, which is the most for an ephemeral token; 0 (persistent alone) for ever. */
  lifetimeMs?: number | undefined
  generation: number
  /** Default {@link EPHEMERAL_TOKEN_ID}. */
  tokenId?: number | undefined
  /** Default 16 random bytes in hex. */
  nonce?: string | undefined
}

/**
 * Makes a token, `app-sk-…`: send it as `Authorization: Bearer <token>`.
 *
 * @example
 * const token = await encodeSessionToken({ signer: account, provider, nowMs: Date.now(), generation: 0 })
 */
export async function encodeSessionToken(parameters: EncodeSessionTokenParameters): Promise<string> {
  const { signer, provider, nowMs, generation, tokenId = EPHEMERAL_TOKEN_ID } = parameters
  const { lifetimeMs = EPHEMERAL_LIFETIME_MS } = parameters
  const nonce = parameters.nonce ?? toHex(crypto.getRandomValues(new Uint8Array(16))).slice(2)
  const expiresAtMs = lifetimeMs === 0 ? 0 : nowMs + lifetimeMs
  const token = { address: signer.address, provider, timestampMs: nowMs, expiresAtMs, nonce, generation, tokenId }
  const json = sessionTokenJson(token)
  const raw = toHex(keccak_256(new TextEncoder().encode(json)))
  const signature = await signer.signMessage({ message: { raw } })
  return `${PREFIX}${Buffer.from(`${json}|${signature}`, 'utf8').toString('base64')}`
}

/**
 * Reads the `Authorization` header (with or without `Bearer `) and checks all that needs no chain: form, provider,
 * lifetime, signature. Compare `generation` and, unless `tokenId` is 255, the revocation bit with the chain yourself.
 * The signature covers the text as received, so it is hashed as received.
 *
 * @throws SessionTokenError `TOKEN_MISSING`, `TOKEN_FORMAT`, `TOKEN_PROVIDER`, `TOKEN_LIFETIME`, `TOKEN_EXPIRED`,
 * `TOKEN_NOT_YET`, `TOKEN_SIGNATURE`
 * @example
 * const { address, generation } = parseSessionToken(request.headers.authorization, { provider, nowMs: Date.now() })
 */
export function parseSessionToken(
  header: string | undefined,
  { provider, nowMs }: { provider: Hex; nowMs: number },
): SessionToken {
  const { json, signature } = split(header)
  const token = readFields(json)
  if (!sameAddress(token.provider, provider)) {
    throw refused('TOKEN_PROVIDER', `the session token is for provider ${token.provider}, this is ${provider}`, {
      field: 'provider',
      fix: 'make a token for this provider',
    })
  }
  const { timestampMs, expiresAtMs, tokenId } = token
  if (tokenId === EPHEMERAL_TOKEN_ID && (expiresAtMs === 0 || expiresAtMs - timestampMs > EPHEMERAL_LIFETIME_MS)) {
    throw refused('TOKEN_LIFETIME', 'an ephemeral session token lives at most 24 hours', { field: 'expiresAt' })
  }
  if (expiresAtMs !== 0 && expiresAtMs <= nowMs) {
    throw refused('TOKEN_EXPIRED', 'the session token has expired', { field: 'expiresAt' })
  }
  if (timestampMs > nowMs + CLOCK_SKEW_MS) {
    throw refused('TOKEN_NOT_YET', 'the session token was made in the future', {
      field: 'timestamp',
      fix: 'set the clock of the machine that made it',
    })
  }
  const digest = personalDigest(keccak_256(new TextEncoder().encode(json)))
  let signer: Hex
  try {
    signer = recoverSigner({ digest, signature, zeroBased: true })
  } catch (cause) {
    throw refused('TOKEN_SIGNATURE', 'the session token is not signed', { field: 'signature', cause })
  }
  if (sameAddress(signer, token.address)) return token
  throw refused('TOKEN_SIGNATURE', `the session token is not signed by ${token.address}`, { field: 'signature' })
}

function split(header: string | undefined): { json: string; signature: string } {
  const value = (header ?? '').replace(/^Bearer\s+/i, '').trim()
  if (value === '') throw refused('TOKEN_MISSING', 'no session token was sent', { field: 'authorization' })
  const shaped = value.length <= MAX_HEADER_CHARS && value.startsWith(PREFIX)
  const encoded = value.slice(PREFIX.length)
  if (!shaped || !/^[A-Za-z0-9+/]+={0,2}$/.test(encoded)) {
    throw refused('TOKEN_FORMAT', `a session token is ${PREFIX} and at most ${MAX_HEADER_CHARS} characters of base64`, {
      field: 'authorization',
    })
  }
  const text = Buffer.from(encoded, 'base64').toString('utf8')
  const bar = text.indexOf('|')
  if (bar < 0) throw refused('TOKEN_FORMAT', 'the session token has no signature', { field: 'authorization' })
  return { json: text.slice(0, bar), signature: text.slice(bar + 1) }
}

function readFields(json: string): SessionToken {
  let fields: unknown
  try {
    fields = JSON.parse(json)
  } catch (cause) {
    throw refused('TOKEN_FORMAT', 'the session token holds no JSON', { field: 'authorization', cause })
  }
  if (typeof fields !== 'object' || fields === null) {
    throw refused('TOKEN_FORMAT', 'the session token holds no JSON object', { field: 'authorization' })
  }
  const field = (name: string): unknown => Reflect.get(fields, name)
  const address = (name: string): Hex => {
    const value = field(name)
    if (typeof value === 'string' && /^0x[0-9a-fA-F]{40}$/.test(value)) return value.toLowerCase() as Hex
    throw refused('TOKEN_FORMAT', `the session token's ${name} is no address`, { field: name })
  }
  const integer = (name: string, max: number): number => {
    const value = field(name)
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= max) return value
    throw refused('TOKEN_FORMAT', `the session token's ${name} is no integer from 0 to ${max}`, { field: name })
  }
  const nonce = field('nonce')
  if (typeof nonce !== 'string' || nonce.length < 16 || nonce.length > 128) {
    throw refused('TOKEN_FORMAT', "the session token's nonce is no text of 16 to 128 characters", { field: 'nonce' })
  }
  return {
    address: address('address'),
    provider: address('provider'),
    timestampMs: integer('timestamp', Number.MAX_SAFE_INTEGER),
    expiresAtMs: integer('expiresAt', Number.MAX_SAFE_INTEGER),
    nonce,
    generation: integer('generation', Number.MAX_SAFE_INTEGER),
    tokenId: integer('tokenId', EPHEMERAL_TOKEN_ID),
  }
}

function refused(
  code: string,
  message: string,
  { field, fix = 'make a new session token', cause }: { field: string; fix?: string; cause?: unknown },
): SessionTokenError {
  return new SessionTokenError({ code, message, fix, details: { field }, cause })
}
