import { bn254 } from '@noble/curves/bn254.js'
import { fromHex, type Hash, type Hex, toHex } from '../hex.ts'
import { BlsError } from './bls-error.ts'

/** A point of G1, affine. (0, 0) is the point at infinity. */
export type G1 = { X: bigint; Y: bigint }

/**
 * A point of G2, affine, the real part of each coordinate first: X = [c0, c1]. That is the order of `SignerDetail.pkG2`
 * and of everything in this project's TypeScript. The aggregate key of a commit root (`aggPkG2`) has the order of
 * EIP-197, imaginary part first: {@link toEip197}.
 */
export type G2 = { X: [bigint, bigint]; Y: [bigint, bigint] }

/** A signer's keys. `secret` is below the order of the group and not 0. */
export interface BlsKey {
  secret: bigint
  pk1: G1
  pk2: G2
}

const { Fp, Fp2, Fp12, Fr } = bn254.fields
const G1Curve = bn254.G1.Point
const G2Curve = bn254.G2.Point

type G2Point = InstanceType<typeof G2Curve>

/**
 * Points that were found to be in the group, by their coordinates. That check is a multiplication in G2, dearer than the
 * rest of a sum of keys, and a quorum's keys are summed for every blob.
 */
const knownKeys = new Map<string, G2Point>()
const MAX_KNOWN_KEYS = 1_024

/** Bytes of an encoded point of G1: a signature. */
export const G1_BYTES = 64

/**
 * The keys of a secret of 32 bytes (big-endian).
 *
 * @throws BlsError `BLS_SECRET` if it is 0 or not below the order of the group.
 */
export function blsKeyFromSecret(secret: Uint8Array | Hex): BlsKey {
  const bytes = typeof secret === 'string' ? fromHex(secret, { byteLength: 32, field: 'secret' }) : secret
  const scalar = bytes.length === 32 ? BigInt(toHex(bytes)) : 0n
  if (scalar === 0n || scalar >= Fr.ORDER) {
    throw new BlsError({ code: 'BLS_SECRET', message: 'not a secret of BN254', fix: 'give 32 bytes of another secret' })
  }
  return {
    secret: scalar,
    pk1: fromG1(G1Curve.BASE.multiply(scalar)),
    pk2: fromG2(G2Curve.BASE.multiply(scalar)),
  }
}

/**
 * Maps a digest to G1 (da.md A6): the first x at or after it for which x³ + 3 has a root, and the root that raising to
 * (p + 1) / 4 gives. Not constant in time and not RFC 9380: digests are public.
 */
export function hashToG1(digest: Hash): G1 {
  let x = Fp.create(BigInt(toHex(fromHex(digest, { byteLength: 32, field: 'digest' }))))
  // Every second x has a root, on average: that all of 256 have none is as likely as guessing a hash.
  for (let i = 0; i < 256; i++) {
    const square = Fp.add(Fp.mul(Fp.sqr(x), x), 3n)
    const y = Fp.pow(square, (Fp.ORDER + 1n) / 4n)
    if (Fp.eql(Fp.sqr(y), square)) return { X: x, Y: y }
    x = Fp.add(x, Fp.ONE)
  }
  throw new BlsError({ code: 'BLS_POINT', message: 'no point of G1 within 256 of the digest' })
}

/** Signs a digest: the point it maps to, times the secret. */
export function sign({ secret, digest }: { secret: bigint; digest: Hash }): G1 {
  return fromG1(toG1(hashToG1(digest), 'hash').multiply(secret))
}

/**
 * Whether `signature` is that of `digest` by the key `pk2`. Points that are not in their groups give `false`.
 * Some 25 ms on one core.
 */
export function verify({ pk2, digest, signature }: { pk2: G2; digest: Hash; signature: G1 }): boolean {
  return isValid({ key: () => toG2(pk2, 'pk2'), digest, signature })
}

function isValid({ key, digest, signature }: { key: () => G2Point; digest: Hash; signature: G1 }): boolean {
  try {
    const [g2, point] = [key(), toG1(signature, 'signature')]
    if (g2.is0() || point.is0()) return false
    const product = bn254.pairingBatch([
      { g1: point.negate(), g2: G2Curve.BASE },
      { g1: toG1(hashToG1(digest), 'hash'), g2 },
    ])
    return Fp12.eql(product, Fp12.ONE)
  } catch (error) {
    if (error instanceof BlsError) return false
    throw error
  }
}

/**
 * Whether `signature` is the sum of everybody's signatures of the same digest. Sound only for keys whose possession was
 * proved, as `DASigners` does at registration.
 */
export function verifyAggregate({ keys, digest, signature }: VerifyAggregateParameters): boolean {
  return keys.length > 0 && isValid({ key: () => sumG2(keys), digest, signature })
}

export interface VerifyAggregateParameters {
  keys: readonly G2[]
  digest: Hash
  signature: G1
}

/** @throws BlsError `BLS_POINT` if one of the points is not on the curve. */
export function aggregateG1(points: readonly G1[]): G1 {
  let sum = G1Curve.ZERO
  for (const point of points) sum = sum.add(toG1(point, 'point'))
  return fromG1(sum)
}

/** @throws BlsError `BLS_POINT` if one of the points is not in the group. */
export function aggregateG2(points: readonly G2[]): G2 {
  return fromG2(sumG2(points))
}

function sumG2(points: readonly G2[]): G2Point {
  let sum = G2Curve.ZERO
  for (const point of points) sum = sum.add(toG2(point, 'point'))
  return sum
}

/** Turns round the parts of the coordinates: from the order of {@link G2} to that of EIP-197 (`aggPkG2`), and back. */
export function toEip197({ X, Y }: G2): G2 {
  return { X: [X[1], X[0]], Y: [Y[1], Y[0]] }
}

/** 64 bytes: X and Y, big-endian. */
export function encodeG1({ X, Y }: G1): Uint8Array {
  return fromHex(`0x${digits(X)}${digits(Y)}`, { byteLength: G1_BYTES })
}

/** @throws BlsError `BLS_POINT` unless these are the 64 bytes of a point on the curve (infinity included). */
export function decodeG1(bytes: Uint8Array): G1 {
  if (bytes.length !== G1_BYTES) throw notAPoint('point', `it has ${bytes.length} bytes`)
  const point = { X: BigInt(toHex(bytes.subarray(0, 32))), Y: BigInt(toHex(bytes.subarray(32))) }
  toG1(point, 'point')
  return point
}

function digits(coordinate: bigint): string {
  return coordinate.toString(16).padStart(64, '0')
}

function toG1({ X, Y }: G1, field: string) {
  if (X === 0n && Y === 0n) return G1Curve.ZERO
  if (!Fp.isValid(X) || !Fp.isValid(Y)) throw notAPoint(field, 'a coordinate is out of range')
  const point = G1Curve.fromAffine({ x: X, y: Y })
  try {
    // G1 has no cofactor: every point of the curve is in the group.
    point.assertValidity()
  } catch (cause) {
    throw notAPoint(field, 'it is not on the curve', cause)
  }
  return point
}

function toG2({ X, Y }: G2, field: string): G2Point {
  const parts = [...X, ...Y]
  const name = parts.join()
  const known = knownKeys.get(name)
  if (known !== undefined) return known
  if (parts.every((part) => part === 0n)) return G2Curve.ZERO
  if (!parts.every((part) => Fp.isValid(part))) throw notAPoint(field, 'a coordinate is out of range')
  const point = G2Curve.fromAffine({ x: Fp2.create({ c0: X[0], c1: X[1] }), y: Fp2.create({ c0: Y[0], c1: Y[1] }) })
  try {
    point.assertValidity()
  } catch (cause) {
    throw notAPoint(field, 'it is not in the group', cause)
  }
  if (knownKeys.size >= MAX_KNOWN_KEYS) knownKeys.clear()
  knownKeys.set(name, point)
  return point
}

function fromG1(point: InstanceType<typeof G1Curve>): G1 {
  if (point.is0()) return { X: 0n, Y: 0n }
  const { x, y } = point.toAffine()
  return { X: x, Y: y }
}

function fromG2(point: InstanceType<typeof G2Curve>): G2 {
  if (point.is0()) return { X: [0n, 0n], Y: [0n, 0n] }
  const { x, y } = point.toAffine()
  return { X: [x.c0, x.c1], Y: [y.c0, y.c1] }
}

function notAPoint(field: string, reason: string, cause?: unknown): BlsError {
  return new BlsError({
    code: 'BLS_POINT',
    message: `${field} is not a point of BN254: ${reason}`,
    details: { field },
    cause,
  })
}
