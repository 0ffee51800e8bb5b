import { createHash } from 'node:crypto'
import { z } from 'zod'
import { WeightlessError } from '../error.ts'
import type { Hex } from '../hex.ts'
import { type MessageSigner, personalDigest, recoverSigner } from './signature.ts'

/** A response signature that is malformed or does not fit. Codes `RESPONSE_SIGNATURE`, `RESPONSE_CONTENT`. */
export class ResponseSignatureError extends WeightlessError {}

/** What `GET /v1/proxy/signature/{chatId}` answers. */
export interface ResponseSignature {
  /** `<sha256 of the request as sent to the engine>:<sha256 of all body bytes sent to the client>`, hex. */
  readonly text: string
  /** personal_sign over `text`. */
  readonly signature: Hex
  readonly signing_address: Hex
  readonly signing_algo: 'ecdsa'
  /** SHA-256 of the request body as the user sent it, hex. Ours alone: the client can recompute it. */
  readonly request_sha256?: string | undefined
}

const sha256Hex = z.string().regex(/^[0-9a-f]{64}$/)
const schema = z.looseObject({
  text: z.string().max(4_096),
  signature: z.string().regex(/^0x[0-9a-fA-F]{130}$/),
  signing_address: z
    .string()
    .regex(/^0x[0-9a-fA-F]{40}$/)
    .optional(),
  request_sha256: sha256Hex.optional(),
})

/** The signed text of one exchange. */
export function responseText({
  engineRequest,
  response,
}: {
  /** Request body as sent to the engine, or its SHA-256 in hex. */
  engineRequest: Uint8Array | string
  /** Body bytes sent to the client, or their SHA-256 in hex. */
  response: Uint8Array | string
}): string {
  const hash = (part: Uint8Array | string) =>
    typeof part === 'string' ? part : createHash('sha256').update(part).digest('hex')
  return `${hash(engineRequest)}:${hash(response)}`
}

/** Signs the text of one exchange (compute.md §2.6). */
export async function signResponse({
  signer,
  text,
  requestSha256,
}: {
  signer: MessageSigner
  text: string
  /** SHA-256 of the body as the user sent it, hex. */
  requestSha256?: string | undefined
}): Promise<ResponseSignature> {
  return {
    text,
    signature: await signer.signMessage({ message: text }),
    signing_address: signer.address,
    signing_algo: 'ecdsa',
    ...(requestSha256 === undefined ? {} : { request_sha256: requestSha256 }),
  }
}

/**
 * Checks an answer of the signature route: who signed, and that the second hash is that of the bytes received. Returns
 * the signer (lower case): compare it with the one on the chain.
 *
 * @throws ResponseSignatureError `RESPONSE_SIGNATURE` (malformed), `RESPONSE_CONTENT` (signed for other bytes)
 */
export function checkResponseSignature({
  answer,
  responseSha256,
}: {
  answer: unknown
  /** SHA-256 of the body bytes received, hex. */
  responseSha256: string
}): { signer: Hex; requestSha256: string | undefined } {
  const parsed = schema.safeParse(answer)
  if (!parsed.success) throw malformed(parsed.error)
  const { text, signature, request_sha256: requestSha256 } = parsed.data
  let signer: Hex
  try {
    signer = recoverSigner({ digest: personalDigest(new TextEncoder().encode(text)), signature })
  } catch (cause) {
    throw malformed(cause)
  }
  if (text.split(':')[1] === responseSha256) return { signer, requestSha256 }
  throw new ResponseSignatureError({
    code: 'RESPONSE_CONTENT',
    message: 'the provider signed for another answer than the one received',
    fix: 'do not rely on this answer; use another provider',
    details: { field: 'text', responseSha256 },
  })
}

function malformed(cause: unknown): ResponseSignatureError {
  return new ResponseSignatureError({
    code: 'RESPONSE_SIGNATURE',
    message: 'the provider sent no sound signature of its answer',
    fix: 'do not rely on this answer; use another provider',
    details: { field: 'signature' },
    cause,
  })
}
