import { z } from 'zod'
import type { Hash, Hex } from '../hex.ts'
import { PROFILES, ReceiptError, type SignedReceipt, STOP_REASONS } from './receipt.ts'
import { MAX_TOKENS } from './token-root.ts'

const hex = (byteLength: number) =>
  z
    .string()
    .regex(new RegExp(`^0x[0-9a-fA-F]{${2 * byteLength}}$`))
    .transform((text) => text.toLowerCase() as Hex)
const hash = hex(32) as z.ZodType<Hash>
const address = hex(20)
const decimal = (bits: number) =>
  z
    .string()
    .regex(/^\d{1,78}$/)
    .transform(BigInt)
    .refine((value) => value < 2n ** BigInt(bits))
const u32 = z.number().int().min(0).max(0xffff_ffff)
const tokens = z.array(u32).max(MAX_TOKENS).nullish()

const schema = z.looseObject({
  receipt: z.object({
    ...{ modelId: hash, engine: hash, user: address, provider: address, requestHash: hash },
    ...{ promptRoot: hash, promptLen: u32, outputRoot: hash, outputLen: u32 },
    settings: z.object({
      ...{ temperatureQ16: u32, cutQ16: u32, seed: decimal(64), maxTokens: u32, stopIds: hash, bias: hash },
    }),
    stopReason: z.enum(STOP_REASONS),
    level: z.number().int().min(0).max(255),
    profile: z.enum(PROFILES),
    issuedAt: z.number().int().min(0),
    ...{ fee: decimal(128), coverage: decimal(128), plaintextRoot: hash, nonce: decimal(256) },
  }),
  signature: hex(65),
  engine: z.string().max(256),
  promptTokens: tokens,
  outputTokens: tokens,
})

/** A receipt as JSON: amounts, seed and nonce as decimal strings, reasons and profiles by name. */
export type ReceiptJson = z.input<typeof schema>

/** What `GET /v1/receipts/{chatId}` answers. Fields beside these may be added; {@link decodeReceipt} skips them. */
export function encodeReceipt(signed: SignedReceipt): ReceiptJson {
  const { issuedAtS, feeWei, coverageWei, nonce, settings, ...same } = signed.receipt
  return {
    receipt: {
      ...same,
      settings: { ...settings, seed: String(settings.seed) },
      issuedAt: issuedAtS,
      fee: String(feeWei),
      coverage: String(coverageWei),
      nonce: String(nonce),
    },
    signature: signed.signature,
    engine: signed.engine,
    promptTokens: signed.promptTokens === undefined ? null : [...signed.promptTokens],
    outputTokens: signed.outputTokens === undefined ? null : [...signed.outputTokens],
  }
}

/**
 * Reads a receipt from JSON. Nothing is verified: see `verifyReceipt`.
 *
 * @throws ReceiptError `RECEIPT_FORMAT`
 */
export function decodeReceipt(json: unknown): SignedReceipt {
  const parsed = schema.safeParse(json)
  if (!parsed.success) {
    const field = parsed.error.issues[0]?.path.join('.') ?? ''
    throw new ReceiptError({
      code: 'RECEIPT_FORMAT',
      message: `the receipt's ${field || 'body'} is malformed`,
      fix: 'ask the provider again, or use another one',
      details: { field },
      cause: parsed.error,
    })
  }
  const { receipt, signature, engine, promptTokens, outputTokens } = parsed.data
  const { issuedAt, fee, coverage, ...same } = receipt
  return {
    receipt: { ...same, issuedAtS: issuedAt, feeWei: fee, coverageWei: coverage },
    ...{ signature, engine },
    promptTokens: promptTokens ?? undefined,
    outputTokens: outputTokens ?? undefined,
  }
}
