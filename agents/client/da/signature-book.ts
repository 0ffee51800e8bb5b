import {
  aggregateG1,
  aggregateG2,
  decodeG1,
  type G1,
  type G2,
  toEip197,
  verify,
  verifyAggregate,
} from '#protocol/da/bls.ts'
import { BlsError } from '#protocol/da/bls-error.ts'
import { type BlobDigestParameters, blobDigest } from '#protocol/da/messages.ts'
import { encodeBitmap, type Quorum, signedStakeWei } from '#protocol/da/quorum.ts'
import { fromHex, type Hash, type Hex, toHex } from '#protocol/hex.ts'

/**
 * Signatures of one blob as they come. They are verified together, with one pairing for all; only where that fails is
 * each looked at alone, so that a false one costs its sender and nobody else.
 */
export class SignatureBook {
  readonly #quorum: Quorum
  readonly #digest: Hash
  readonly #signatures = new Map<number, Hash>()
  readonly #points = new Map<number, G1>()
  readonly #verified = new Set<number>()

  constructor({ quorum, blob }: { quorum: Quorum; blob: BlobDigestParameters }) {
    this.#quorum = quorum
    this.#digest = blobDigest(blob)
  }

  /** Signatures by place in the epoch's order. Call {@link verify} before relying on them. */
  get signatures(): ReadonlyMap<number, Hash> {
    return this.#signatures
  }

  /** Stake behind them. */
  get signedWei(): bigint {
    return signedStakeWei({ quorum: this.#quorum, signed: this.claimed() })
  }

  has(place: number): boolean {
    return this.#signatures.has(place)
  }

  claimed(): number[] {
    return [...this.#signatures.keys()]
  }

  /** Takes a signature, to be verified later. False when it is no point of the curve. */
  claim(place: number, signature: Hash): boolean {
    try {
      this.#points.set(place, decodeG1(fromHex(signature, { byteLength: 64, field: 'signature' })))
      this.#signatures.set(place, signature)
      return true
    } catch (error) {
      if (error instanceof BlsError) return false
      throw error
    }
  }

  /** Verifies what was not verified yet; false signatures are struck out, and their places returned. */
  verify(): number[] {
    const open = this.claimed().filter((place) => !this.#verified.has(place))
    const accepted =
      open.length > 0 && this.#verifyTogether(open) ? open : open.filter((place) => this.#verifyOne(place))
    for (const place of accepted) this.#verified.add(place)
    const rejected = open.filter((place) => !this.#verified.has(place))
    for (const place of rejected) {
      this.#signatures.delete(place)
      this.#points.delete(place)
    }
    return rejected
  }

  #verifyTogether(places: readonly number[]): boolean {
    const points = places.flatMap((place) => this.#points.get(place) ?? [])
    const keys = places.flatMap((place) => this.#quorum.signers[place]?.pk2 ?? [])
    return (
      keys.length === places.length && verifyAggregate({ keys, digest: this.#digest, signature: aggregateG1(points) })
    )
  }

  #verifyOne(place: number): boolean {
    const signature = this.#points.get(place)
    const pk2 = this.#quorum.signers[place]?.pk2
    return signature !== undefined && pk2 !== undefined && verify({ pk2, digest: this.#digest, signature })
  }
}

/** What the contract wants of a quorum's signatures: who signed, the sum of their keys (EIP-197 order) and signatures. */
export function aggregateCertificate({
  quorum,
  signatures,
}: {
  quorum: Quorum
  signatures: ReadonlyMap<number, Hash>
}): { quorumBitmap: Hex; aggPkG2: G2; signature: G1 } {
  const signed = [...signatures.keys()]
  return {
    quorumBitmap: toHex(encodeBitmap({ count: quorum.signers.length, signed })),
    aggPkG2: toEip197(aggregateG2(signed.flatMap((place) => quorum.signers[place]?.pk2 ?? []))),
    signature: aggregateG1([...signatures.values()].map((signature) => decodeG1(fromHex(signature)))),
  }
}
