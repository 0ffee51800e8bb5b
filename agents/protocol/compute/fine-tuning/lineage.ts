import { keccak_256 } from '@noble/hashes/sha3.js'
import { z } from 'zod'
import { type Hash, type Hex, toHex } from '../../hex.ts'
import { type MessageSigner, personalDigest, recoverSigner, sameAddress } from '../signature.ts'
import { FineTuningFormatError } from './error.ts'

/** Largest record. */
export const MAX_LINEAGE_BYTES = 256 * 1024

const hex = (bytes: number) =>
  z
    .string()
    .regex(new RegExp(`^0x[0-9a-f]{${2 * bytes}}$`), `expected ${bytes} bytes in lower-case 0x hex`)
    .transform((text) => text as Hex)
const hash = hex(32)
const sizeBytes = z.number().int().min(1)

/**
 * Where a model comes from: dataset → base → recipe → trainer → checkpoints → adapter → artefact, and how it scored. Roots
 * are storage roots of the plain files, so that whoever has a file can compare it; only `artefact` is what was delivered.
 */
const lineageSchema = z.strictObject({
  format: z.literal('weightless-lineage-1'),
  task: z.strictObject({
    id: z.string().max(256),
    user: hex(20),
    provider: hex(20),
    chainId: z.number().int().min(1),
    /** FineTuningServing: where the deliverable of this id names the artefact. */
    contract: hex(20),
  }),
  dataset: z.strictObject({
    root: hash,
    keccak256: hash,
    sizeBytes,
    examples: z.number().int().min(1),
    tokens: z.number().int().min(1),
  }),
  base: z.strictObject({ name: z.string().max(256), root: hash, sizeBytes }),
  /** As the trainer was given it, with every default written out. */
  recipe: z.record(z.string(), z.unknown()),
  seed: z.number().int().min(0),
  /** `digest`: SHA-256 of the trainer's sources, or of its command. */
  trainer: z.strictObject({ name: z.string().max(256), version: z.string().max(64), digest: hash }),
  checkpoints: z.array(z.strictObject({ step: z.number().int().min(0), root: hash })).max(1_000),
  adapter: z.strictObject({ root: hash, sizeBytes }),
  artefact: z.strictObject({ root: hash, sizeBytes, kind: z.enum(['storage', 'keccak256']) }),
  /** Losses in nats per learned token. */
  scores: z.strictObject({
    steps: z.number().int().min(0),
    loss: z.number(),
    heldOutLoss: z.number().optional(),
    heldOutLossBefore: z.number().optional(),
    heldOutExamples: z.number().int().min(0).optional(),
    learnedTokens: z.number().int().min(0),
  }),
  /** Seconds since 1970. */
  finishedAtS: z.number().int().min(0),
  /** The provider's signer. */
  signer: hex(20),
})

export type Lineage = z.output<typeof lineageSchema>

const signedSchema = z.strictObject({ record: lineageSchema, signature: hex(65) })

/** A record with its signature. The storage root of `encodeLineage(it)` names it. */
export type SignedLineage = z.output<typeof signedSchema>

/** JSON with sorted keys and no spaces: the same record is the same bytes everywhere. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined)
    entries.sort(([a], [b]) => (a < b ? -1 : 1))
    return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(',')}}`
  }
  return JSON.stringify(value)
}

/** Signs a record: `personal_sign` over the keccak-256 of its canonical JSON. */
export async function signLineage({ record, signer }: { record: Lineage; signer: MessageSigner }) {
  const checked = check(lineageSchema, record)
  return { record: checked, signature: await signer.signMessage({ message: { raw: lineageHash(checked) } }) }
}

/** The bytes that are stored. */
export function encodeLineage(lineage: SignedLineage): Uint8Array {
  return new TextEncoder().encode(`${canonicalJson(lineage)}\n`)
}

/**
 * Reads a record and checks its signature: who `record.signer` is, is for the caller to compare with the chain.
 *
 * @throws FineTuningFormatError `LINEAGE_FORMAT`, `LINEAGE_SIGNATURE`
 */
export function decodeLineage(bytes: Uint8Array): SignedLineage {
  if (bytes.length > MAX_LINEAGE_BYTES) throw notOne(`it has more than ${MAX_LINEAGE_BYTES} bytes`)
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw notOne('it is not JSON', cause)
  }
  const lineage = check(signedSchema, value)
  const { record, signature } = lineage
  try {
    const digest = personalDigest(keccak_256(new TextEncoder().encode(canonicalJson(record))))
    if (sameAddress(recoverSigner({ digest, signature }), record.signer)) return lineage
  } catch {
    // No signature at all is told in the same words.
  }
  throw new FineTuningFormatError({
    code: 'LINEAGE_SIGNATURE',
    message: `the record is not signed by ${record.signer}`,
    fix: 'do not trust it',
    details: { signer: record.signer },
  })
}

function lineageHash(record: Lineage): Hash {
  return toHex(keccak_256(new TextEncoder().encode(canonicalJson(record))))
}

function check<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw notOne(`${issue?.path.join('.') || 'record'}: ${issue?.message}`)
}

function notOne(why: string, cause?: unknown): FineTuningFormatError {
  return new FineTuningFormatError({
    code: 'LINEAGE_FORMAT',
    message: `this is no record of a model's lineage: ${why}`,
    fix: 'give the root of a lineage record (weightless finetune prints it)',
    cause,
  })
}
