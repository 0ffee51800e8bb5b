import { concatHex, hashTypedData, keccak256, pad, stringToHex, toHex } from 'viem'
import type { Hash, Hex } from '../hex.ts'
import { type DigestSigner, signDigest } from './signature.ts'

/** A batch of one user's fees that a TEE signer vouches for (compute.md §1.5). */
export interface TeeSettlement {
  readonly requestsHash: Hash
  /** Greater than the sub-account's; used up even when only part is paid. */
  readonly nonce: bigint
  readonly provider: Hex
  readonly user: Hex
  readonly totalFeeWei: bigint
}

const TYPES = {
  TEESettlement: [
    { name: 'requestsHash', type: 'bytes32' },
    { name: 'nonce', type: 'uint256' },
    { name: 'provider', type: 'address' },
    { name: 'user', type: 'address' },
    { name: 'totalFee', type: 'uint256' },
  ],
} as const

/** EIP-712 typed data of a TEE settlement. */
export function teeSettlementTypedData({
  chainId,
  contract,
  settlement,
}: {
  chainId: number
  /** InferenceServing. */
  contract: Hex
  settlement: TeeSettlement
}) {
  const { requestsHash, nonce, provider, user, totalFeeWei } = settlement
  return {
    domain: { name: '0G Inference Serving', version: '1', chainId, verifyingContract: contract },
    types: TYPES,
    primaryType: 'TEESettlement',
    message: { requestsHash, nonce, provider, user, totalFee: totalFeeWei },
  } as const
}

/** What the TEE signer signs, without any prefix. */
export function teeSettlementDigest(parameters: Parameters<typeof teeSettlementTypedData>[0]): Hash {
  return hashTypedData(teeSettlementTypedData(parameters))
}

/** The TEE signer's signature. */
export async function signTeeSettlement({
  signer,
  ...parameters
}: Parameters<typeof teeSettlementTypedData>[0] & { signer: DigestSigner }): Promise<Hex> {
  return await signDigest({ signer, digest: teeSettlementDigest(parameters) })
}

/** One request of a batch. */
export interface SettledRequest {
  readonly requestHash: Hash
  readonly user: Hex
  readonly feeWei: bigint
  readonly inputFeeWei: bigint
  readonly outputFeeWei: bigint
}

/**
 * The hash over a batch that a settlement commits to: keccak-256 of, for each request, its hash as text, the user (20
 * bytes), and fee, input fee, output fee (32 bytes each, big-endian). The contract does not look into it.
 */
export function requestsHash(requests: readonly SettledRequest[]): Hash {
  return keccak256(
    concatHex(
      requests.flatMap(({ requestHash, user, feeWei, inputFeeWei, outputFeeWei }) => [
        stringToHex(requestHash),
        user,
        ...[feeWei, inputFeeWei, outputFeeWei].map((wei) => pad(toHex(wei), { size: 32 })),
      ]),
    ),
  )
}

/** A fine-tuning deliverable's fee (compute.md §1.7). */
export interface FineTuningSettlement {
  readonly id: string
  readonly encryptedSecret: Hex
  readonly modelRootHash: Hex
  readonly nonce: bigint
  readonly taskFeeWei: bigint
  readonly user: Hex
}

/** EIP-712 typed data of a fine-tuning settlement. */
export function fineTuningSettlementTypedData({
  chainId,
  contract,
  settlement,
}: {
  chainId: number
  /** FineTuningServing. */
  contract: Hex
  settlement: FineTuningSettlement
}) {
  const { id, encryptedSecret, modelRootHash, nonce, taskFeeWei, user } = settlement
  return {
    domain: { name: '0G Fine-Tuning Serving', version: '1', chainId, verifyingContract: contract },
    types: {
      VerifierMessage: [
        { name: 'id', type: 'string' },
        { name: 'encryptedSecret', type: 'bytes' },
        { name: 'modelRootHash', type: 'bytes' },
        { name: 'nonce', type: 'uint256' },
        { name: 'taskFee', type: 'uint256' },
        { name: 'user', type: 'address' },
      ],
    },
    primaryType: 'VerifierMessage',
    message: { id, encryptedSecret, modelRootHash, nonce, taskFee: taskFeeWei, user },
  } as const
}

/** What the TEE signer of a fine-tuning provider signs. */
export function fineTuningSettlementDigest(parameters: Parameters<typeof fineTuningSettlementTypedData>[0]): Hash {
  return hashTypedData(fineTuningSettlementTypedData(parameters))
}
