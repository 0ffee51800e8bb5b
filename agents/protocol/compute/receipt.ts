import { keccak_256 } from '@noble/hashes/sha3.js'
import { hashTypedData } from 'viem'
import { WeightlessError } from '../error.ts'
import { fromHex, type Hash, type Hex, toHex } from '../hex.ts'
import { type DigestSigner, recoverSigner, sameAddress, signDigest } from './signature.ts'
import { NO_TOKENS, tokenRoot } from './token-root.ts'

/** The request header with 32 random bytes in 0x hex that the sampling seed is made of (verifiable-inference §B.1). */
export const RANDOMNESS_HEADER = 'X-Weightless-Randomness'

/** A receipt that is malformed, forged or does not fit. See {@link verifyReceipt} for the codes. */
export class ReceiptError extends WeightlessError {}

/** How the output was sampled, in numbers that a verifier can repeat. */
export interface ReceiptSettings {
  /** Temperature × 65,536; 0 is greedy. */
  readonly temperatureQ16: number
  /** The cut −T·ln(minP) in logits × 65,536; 0 for none. */
  readonly cutQ16: number
  /** Of the counter-based generator: {@link receiptSeed}, or the `seed` of the request. */
  readonly seed: bigint
  readonly maxTokens: number
  /** Hash over the list of stop tokens; zero for none beyond the model's own. */
  readonly stopIds: Hash
  /** Hash over the list of logit biases; zero for none. */
  readonly bias: Hash
}

/** Why the output ended there. */
export const STOP_REASONS = ['stop', 'length', 'stop-sequence', 'tool-calls', 'cancelled', 'error'] as const
export type StopReason = (typeof STOP_REASONS)[number]

/** How the sampler can be repeated. `none`: it cannot. */
export const PROFILES = ['none', 'greedy', 'gumbel-philox-1', 'vllm-seeded'] as const
export type Profile = (typeof PROFILES)[number]

/**
 * What a provider signs for one answer (verifiable-inference §F.1, with the engine added): this model gave this output
 * for this request at this price.
 */
export interface Receipt {
  /** Storage root of the weights; zero where the model has no name of that kind. */
  readonly modelId: Hash
  /** {@link engineHash} of the engine and its build. */
  readonly engine: Hash
  readonly user: Hex
  readonly provider: Hex
  /** keccak-256 of the request body, byte for byte as the user sent it. */
  readonly requestHash: Hash
  /** {@link tokenRoot} of the prompt; zero where the engine does not tell its tokens. */
  readonly promptRoot: Hash
  /** Prompt tokens billed. */
  readonly promptLen: number
  readonly outputRoot: Hash
  /** Output tokens billed. */
  readonly outputLen: number
  readonly settings: ReceiptSettings
  readonly stopReason: StopReason
  /** Of the ladder in verifiable-inference §A.2: 1 signed, 2 can be audited, 3 can be disputed. */
  readonly level: number
  readonly profile: Profile
  /** Seconds since 1970. */
  readonly issuedAtS: number
  readonly feeWei: bigint
  /** What the provider's stake pays if the answer is proven wrong; 0 below level 3. */
  readonly coverageWei: bigint
  /** Storage root of the plaintext of a public receipt; zero for a private one. */
  readonly plaintextRoot: Hash
  /** Never used twice by a provider. */
  readonly nonce: bigint
}

/** Zero, for hashes of a receipt that are left out. */
export const ZERO_HASH: Hash = NO_TOKENS

const TYPES = {
  Receipt: [
    { name: 'modelId', type: 'bytes32' },
    { name: 'engine', type: 'bytes32' },
    { name: 'user', type: 'address' },
    { name: 'provider', type: 'address' },
    { name: 'requestHash', type: 'bytes32' },
    { name: 'promptRoot', type: 'bytes32' },
    { name: 'promptLen', type: 'uint32' },
    { name: 'outputRoot', type: 'bytes32' },
    { name: 'outputLen', type: 'uint32' },
    { name: 'settings', type: 'Settings' },
    { name: 'stopReason', type: 'uint8' },
    { name: 'level', type: 'uint8' },
    { name: 'profile', type: 'uint8' },
    { name: 'issuedAt', type: 'uint64' },
    { name: 'fee', type: 'uint128' },
    { name: 'coverage', type: 'uint128' },
    { name: 'plaintextRoot', type: 'bytes32' },
    { name: 'nonce', type: 'uint256' },
  ],
  Settings: [
    { name: 'temperatureQ16', type: 'uint32' },
    { name: 'cutQ16', type: 'uint32' },
    { name: 'seed', type: 'uint64' },
    { name: 'maxTokens', type: 'uint32' },
    { name: 'stopIds', type: 'bytes32' },
    { name: 'bias', type: 'bytes32' },
  ],
} as const

/** Where a receipt is good. */
export interface ReceiptDomain {
  chainId: number
  /** InferenceServing. */
  contract: Hex
}

/** EIP-712 typed data of a receipt. */
export function receiptTypedData({ chainId, contract, receipt }: ReceiptDomain & { receipt: Receipt }) {
  const { stopReason, profile, issuedAtS, feeWei, coverageWei, ...same } = receipt
  return {
    domain: { name: 'Weightless Receipts', version: '1', chainId, verifyingContract: contract },
    types: TYPES,
    primaryType: 'Receipt',
    message: {
      ...same,
      stopReason: STOP_REASONS.indexOf(stopReason),
      profile: PROFILES.indexOf(profile),
      issuedAt: BigInt(issuedAtS),
      fee: feeWei,
      coverage: coverageWei,
    },
  } as const
}

/** What the provider signs. It also names the receipt. */
export function receiptDigest(parameters: ReceiptDomain & { receipt: Receipt }): Hash {
  return hashTypedData(receiptTypedData(parameters))
}

/** The provider's signature of a receipt. */
export async function signReceipt({
  signer,
  ...parameters
}: ReceiptDomain & { receipt: Receipt; signer: DigestSigner }): Promise<Hex> {
  return await signDigest({ signer, digest: receiptDigest(parameters) })
}

/** keccak-256 of a request body. */
export function requestHash(body: Uint8Array): Hash {
  return toHex(keccak_256(body))
}

/**
 * What `engine` of a receipt is the hash of: the kind of engine, a space, its build; `llama b7342-cpu`.
 */
export function engineHash(engine: string): Hash {
  return toHex(keccak_256(new TextEncoder().encode(engine)))
}

/**
 * The sampling seed of a request (verifiable-inference §B.1): the first 8 bytes, big-endian, of keccak(requestHash ‖ u),
 * where u are the 32 bytes of {@link RANDOMNESS_HEADER}. The user chose both, so the provider has nothing to try. A
 * `seed` in the request body takes its place. Without either there is no such seed: such an answer has profile `none`
 * unless it is greedy.
 */
export function receiptSeed({ requestHash: hash, randomness }: { requestHash: Hash; randomness: Hex }): bigint {
  const input = new Uint8Array(64)
  input.set(fromHex(hash, { byteLength: 32, field: 'requestHash' }))
  input.set(fromHex(randomness, { byteLength: 32, field: RANDOMNESS_HEADER }), 32)
  return new DataView(keccak_256(input).buffer).getBigUint64(0)
}

/** A receipt with everything needed to check it: what `GET /v1/receipts/{chatId}` answers, read. */
export interface SignedReceipt {
  readonly receipt: Receipt
  readonly signature: Hex
  /** The text behind `receipt.engine`. */
  readonly engine: string
  /** Undefined where the engine does not tell its tokens. */
  readonly promptTokens: readonly number[] | undefined
  readonly outputTokens: readonly number[] | undefined
}

export interface VerifyReceiptParameters extends ReceiptDomain, SignedReceipt {
  /** Who may sign: the provider's wallet, the signer its service names. */
  signers: readonly Hex[]
  /** What the reader knows; each that is given must match. */
  expected?: {
    user?: Hex | undefined
    provider?: Hex | undefined
    requestHash?: Hash | undefined
    modelId?: Hash | undefined
    /** Seed that the request and its random bytes give; compared where the profile is seeded. */
    seed?: bigint | undefined
    maxFeeWei?: bigint | undefined
  }
}

/**
 * Checks a receipt: signature, signer, token lists against their roots and lengths, engine against its hash, and
 * whatever the reader knows. Returns who signed.
 *
 * @throws ReceiptError `RECEIPT_SIGNATURE`, `RECEIPT_TOKENS`, `RECEIPT_ENGINE`, `RECEIPT_USER`, `RECEIPT_PROVIDER`,
 * `RECEIPT_REQUEST`, `RECEIPT_MODEL`, `RECEIPT_SEED`, `RECEIPT_FEE`; `details.field` names the field
 */
export function verifyReceipt(parameters: VerifyReceiptParameters): { signer: Hex; digest: Hash } {
  const { receipt, signature, signers, expected = {}, chainId, contract } = parameters
  const digest = receiptDigest({ chainId, contract, receipt })
  let signer: Hex
  try {
    signer = recoverSigner({ digest, signature })
  } catch (cause) {
    throw wrong('RECEIPT_SIGNATURE', 'signature', 'the receipt is not signed', cause)
  }
  if (!signers.some((allowed) => sameAddress(allowed, signer))) {
    throw wrong('RECEIPT_SIGNATURE', 'signature', `the receipt is signed by ${signer}, not by ${signers.join(' or ')}`)
  }
  checkTokens(parameters.promptTokens, receipt.promptRoot, receipt.promptLen, 'promptTokens')
  checkTokens(parameters.outputTokens, receipt.outputRoot, receipt.outputLen, 'outputTokens')
  if (engineHash(parameters.engine) !== receipt.engine) {
    throw wrong('RECEIPT_ENGINE', 'engine', `"${parameters.engine.slice(0, 100)}" is not the engine signed for`)
  }
  const addresses = [
    ['RECEIPT_USER', 'user'],
    ['RECEIPT_PROVIDER', 'provider'],
  ] as const
  for (const [code, field] of addresses) {
    const want = expected[field]
    if (want === undefined || sameAddress(want, receipt[field])) continue
    throw wrong(code, field, `the receipt is for ${field} ${receipt[field]}, not ${want}`)
  }
  if (expected.requestHash !== undefined && expected.requestHash !== receipt.requestHash) {
    throw wrong('RECEIPT_REQUEST', 'requestHash', 'the receipt is for another request')
  }
  if (expected.modelId !== undefined && expected.modelId !== receipt.modelId) {
    throw wrong('RECEIPT_MODEL', 'modelId', `the receipt is for model ${receipt.modelId}, not ${expected.modelId}`)
  }
  const seeded = receipt.profile === 'gumbel-philox-1' || receipt.profile === 'vllm-seeded'
  if (seeded && expected.seed !== undefined && expected.seed !== receipt.settings.seed) {
    throw wrong('RECEIPT_SEED', 'settings.seed', 'the seed is not the one the request gives')
  }
  if (expected.maxFeeWei !== undefined && receipt.feeWei > expected.maxFeeWei) {
    throw wrong('RECEIPT_FEE', 'fee', `the fee is ${receipt.feeWei} wei, ${expected.maxFeeWei} was the most`)
  }
  return { signer, digest }
}

function checkTokens(ids: readonly number[] | undefined, root: Hash, length: number, field: string): void {
  if (root === NO_TOKENS && ids === undefined) return
  if (ids?.length === length && tokenRoot(ids) === root) return
  throw wrong('RECEIPT_TOKENS', field, `the ${field} given are not those signed for`)
}

function wrong(code: string, field: string, message: string, cause?: unknown): ReceiptError {
  return new ReceiptError({
    code,
    message,
    fix: 'do not rely on this answer; use another provider',
    details: { field },
    cause,
  })
}
