import { secp256k1 } from '@noble/curves/secp256k1.js'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { domainSeparator } from 'viem'
import { type SignedVoucher, verifyVoucher, voucherTypedData } from '#protocol/compute/voucher.ts'
import { fromHex, type Hex } from '#protocol/hex.ts'

const { Point } = secp256k1
type CurvePoint = InstanceType<typeof Point>

/** Users whose public key is kept ready; each takes about 150 KB. */
const MAX_KEYS = 128
/** A key is made ready for users who send more than so many vouchers. */
const FEW_VOUCHERS = 2
const HALF_ORDER = Point.Fn.ORDER / 2n
const TYPE_HASH = keccak_256(
  new TextEncoder().encode(
    'Voucher(address user,address provider,uint128 cumulativeFee,uint64 expiry,uint64 generation)',
  ),
)

/**
 * Checks vouchers as `verifyVoucher` does, faster where a user sends many: recovering a key costs three times as much as
 * checking a signature against one that is known and prepared. The first ones go the long way, and so does every one
 * that does not hold, so that errors are the same.
 */
export class VoucherCheck {
  readonly #domain: { chainId: number; contract: Hex }
  readonly #separator: Uint8Array
  readonly #seen = new Map<Hex, number>()
  readonly #keys = new Map<Hex, CurvePoint>()

  constructor(domain: { chainId: number; contract: Hex }) {
    this.#domain = domain
    const anything: Hex = `0x${'00'.repeat(20)}`
    const voucher = { user: anything, provider: anything, cumulativeFeeWei: 0n, expiresAtS: 0, generation: 0 }
    const data = voucherTypedData({ ...domain, voucher })
    this.#separator = fromHex(domainSeparator({ domain: data.domain }), { byteLength: 32, field: 'domain' })
  }

  /** @throws VoucherError `VOUCHER_SIGNATURE`, `VOUCHER_EXPIRED` */
  async verify(signed: SignedVoucher, nowMs: number): Promise<void> {
    const { user, expiresAtS } = signed.voucher
    const key = this.#keys.get(user)
    if (key !== undefined && expiresAtS * 1000 > nowMs && this.#holds(key, signed)) return
    await verifyVoucher({ ...signed, ...this.#domain, nowMs })
    this.#learn(signed)
  }

  /** EIP-712 digest of a voucher: the domain is hashed once. */
  digest({ voucher }: SignedVoucher): Uint8Array {
    const { user, provider, cumulativeFeeWei, expiresAtS, generation } = voucher
    const struct = new Uint8Array(6 * 32)
    struct.set(TYPE_HASH)
    struct.set(fromHex(user, { byteLength: 20, field: 'user' }), 44)
    struct.set(fromHex(provider, { byteLength: 20, field: 'provider' }), 76)
    const view = new DataView(struct.buffer)
    view.setBigUint64(112, cumulativeFeeWei >> 64n)
    view.setBigUint64(120, BigInt.asUintN(64, cumulativeFeeWei))
    view.setBigUint64(152, BigInt(expiresAtS))
    view.setBigUint64(184, BigInt(generation))
    const whole = new Uint8Array(66)
    whole.set([0x19, 0x01])
    whole.set(this.#separator, 2)
    whole.set(keccak_256(struct), 34)
    return keccak_256(whole)
  }

  /** ECDSA against a known key, with the two rules of the contract: s in the lower half, v that fits. */
  #holds(key: CurvePoint, signed: SignedVoucher): boolean {
    const { Fn } = Point
    const bytes = fromHex(signed.signature, { byteLength: 65, field: 'signature' })
    const view = new DataView(bytes.buffer, bytes.byteOffset)
    const r = readUint256(view, 0)
    const s = readUint256(view, 32)
    if (r === 0n || r >= Fn.ORDER || s === 0n || s > HALF_ORDER) return false
    const digest = this.digest(signed)
    const z = Fn.create(readUint256(new DataView(digest.buffer, digest.byteOffset), 0))
    const inverse = Fn.inv(s)
    const point = Point.BASE.multiplyUnsafe(Fn.mul(z, inverse)).add(key.multiplyUnsafe(Fn.mul(r, inverse)))
    if (point.is0()) return false
    const { x, y } = point.toAffine()
    return Fn.create(x) === r && x < Fn.ORDER && bytes[64] === 27 + Number(y & 1n)
  }

  /** Prepares the key of a user who has sent a few good vouchers. */
  #learn(signed: SignedVoucher): void {
    const { user } = signed.voucher
    const seen = (this.#seen.get(user) ?? 0) + 1
    if (this.#seen.size > 100_000) this.#seen.clear()
    this.#seen.set(user, seen)
    if (seen <= FEW_VOUCHERS || this.#keys.has(user)) return
    const bytes = fromHex(signed.signature, { byteLength: 65, field: 'signature' })
    const signature = secp256k1.Signature.fromBytes(bytes.subarray(0, 64), 'compact')
    const key = signature.addRecoveryBit((bytes[64] ?? 27) - 27).recoverPublicKey(this.digest(signed))
    const [oldest] = this.#keys.size >= MAX_KEYS ? this.#keys.keys() : []
    if (oldest !== undefined) this.#keys.delete(oldest)
    this.#keys.set(user, key.precompute(5, false))
  }
}

function readUint256(view: DataView, at: number): bigint {
  let value = 0n
  for (let word = 0; word < 4; word += 1) value = (value << 64n) | view.getBigUint64(at + 8 * word)
  return value
}
