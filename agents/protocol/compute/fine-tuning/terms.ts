import { hashTypedData } from 'viem'
import type { Hash, Hex } from '../../hex.ts'
import { type DigestSigner, signDigest } from '../signature.ts'

/** What bounds a task: see ITaskBook. */
export interface TaskTerms {
  readonly user: Hex
  readonly provider: Hex
  readonly id: string
  readonly maxFeeWei: bigint
  /** Seconds since 1970. */
  readonly deliverByS: number
}

/** EIP-712 typed data of a task's terms. `contract`: the book of tasks. */
export function termsTypedData({ chainId, contract, terms }: { chainId: number; contract: Hex; terms: TaskTerms }) {
  const { user, provider, id, maxFeeWei, deliverByS } = terms
  return {
    domain: { name: 'Weightless Fine-Tuning', version: '1', chainId, verifyingContract: contract },
    types: {
      TaskTerms: [
        { name: 'user', type: 'address' },
        { name: 'provider', type: 'address' },
        { name: 'id', type: 'string' },
        { name: 'maxFee', type: 'uint256' },
        { name: 'deliverBy', type: 'uint64' },
      ],
    },
    primaryType: 'TaskTerms',
    message: { user, provider, id, maxFee: maxFeeWei, deliverBy: BigInt(deliverByS) },
  } as const
}

export function termsDigest(parameters: Parameters<typeof termsTypedData>[0]): Hash {
  return hashTypedData(termsTypedData(parameters))
}

/** The user's signature. @throws InvalidSignatureError `SIGNATURE_SIGNER` */
export async function signTerms({
  signer,
  ...parameters
}: Parameters<typeof termsTypedData>[0] & { signer: DigestSigner }): Promise<Hex> {
  return await signDigest({ signer, digest: termsDigest(parameters) })
}
