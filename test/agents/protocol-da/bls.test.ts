import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { bn254 } from '@noble/curves/bn254.js'
import fc from 'fast-check'
import {
  aggregateG1,
  aggregateG2,
  blsKeyFromSecret,
  decodeG1,
  encodeG1,
  hashToG1,
  sign,
  toEip197,
  verify,
  verifyAggregate,
} from '#protocol/da/bls.ts'
import { BlsError } from '#protocol/da/bls-error.ts'
import { type Hash, type Hex, toHex } from '#protocol/hex.ts'

const P = 21888242871839275222246405745257275088696311157297823662689037894645226208583n
const R = 21888242871839275222246405745257275088548364400416034343698204186575808495617n
const DIGEST: Hash = `0x${'c3'.repeat(32)}`
const KEYS = [3n, 5n, 7n].map((secret) => blsKeyFromSecret(word(secret)))

describe('BLS keys', () => {
  // The generators are public constants of EIP-196 and EIP-197; the real part comes first here.
  it('of the secret 1 are the generators', () => {
    const { pk1, pk2 } = blsKeyFromSecret(word(1n))
    assert.deepEqual(pk1, { X: 1n, Y: 2n })
    assert.equal(pk2.X[0], 10857046999023057135944570762232829481370756359578518086990519993285655852781n)
    assert.equal(pk2.X[1], 11559732032986387107991004021392285783925812861821192530917403151452391805634n)
    assert.equal(pk2.Y[0], 8495653923123431417604973247489272438418190587263600148770280649306958101930n)
    assert.equal(pk2.Y[1], 4082367875863433681332203403145435568316851327593401208105741076214120093531n)
    assert.deepEqual(toEip197(toEip197(pk2)), pk2)
    assert.equal(toEip197(pk2).X[0], pk2.X[1])
  })

  it('need a secret below the order of the group', () => {
    for (const secret of [0n, R, R + 1n, 2n ** 256n - 1n]) {
      assert.throws(() => blsKeyFromSecret(word(secret)), isBlsError('BLS_SECRET'), `${secret}`)
    }
    assert.throws(() => blsKeyFromSecret(new Uint8Array(31).fill(1)), isBlsError('BLS_SECRET'))
    assert.equal(blsKeyFromSecret(word(R - 1n)).pk1.X, 1n)
  })
})

describe('hashToG1', () => {
  // x is the first one at or after the digest, modulo p, that has a root: 1 + 3 = 4 has one, 0 + 3 has none.
  it('takes the first x that has a root', () => {
    assert.deepEqual(hashToG1(word(0n)).X, 1n)
    assert.deepEqual(hashToG1(word(P)), hashToG1(word(0n)))
    assert.deepEqual(hashToG1(word(1n)), hashToG1(word(0n)))
    const { X, Y } = hashToG1(word(1n))
    assert.equal(Y === 2n || Y === P - 2n, true)
    assert.equal(X, 1n)
  })

  // Whatever the digest: a point of the curve, never below the digest, with the root that is a square itself.
  it('gives a point of the curve for any digest', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        const { X, Y } = hashToG1(toHex(bytes))
        assert.equal((Y * Y) % P, (X ** 3n + 3n) % P)
        assert.equal(bn254.fields.Fp.pow(Y, (P - 1n) / 2n), 1n)
        assert.ok((X - (BigInt(toHex(bytes)) % P) + P) % P < 64n)
      }),
      { numRuns: 30 },
    )
  })
})

describe('signatures', () => {
  it('are good for their digest and key alone', () => {
    const [alice, bob] = KEYS
    assert.ok(alice && bob)
    const signature = sign({ secret: alice.secret, digest: DIGEST })
    assert.equal(verify({ pk2: alice.pk2, digest: DIGEST, signature }), true)
    assert.equal(verify({ pk2: bob.pk2, digest: DIGEST, signature }), false)
    assert.equal(verify({ pk2: alice.pk2, digest: word(1n), signature }), false)
    assert.equal(verify({ pk2: alice.pk2, digest: DIGEST, signature: { ...signature, Y: P - signature.Y } }), false)
  })

  // Points at infinity, off the curve or out of range never verify, and never throw.
  it('of points that are none are false', () => {
    const [alice] = KEYS
    assert.ok(alice)
    const signature = sign({ secret: alice.secret, digest: DIGEST })
    const zero = { X: 0n, Y: 0n }
    assert.equal(verify({ pk2: alice.pk2, digest: DIGEST, signature: zero }), false)
    assert.equal(verify({ pk2: { X: [0n, 0n], Y: [0n, 0n] }, digest: DIGEST, signature: zero }), false)
    assert.equal(verify({ pk2: alice.pk2, digest: DIGEST, signature: { X: 1n, Y: 1n } }), false)
    assert.equal(verify({ pk2: alice.pk2, digest: DIGEST, signature: { X: signature.X + P, Y: signature.Y } }), false)
    assert.equal(verify({ pk2: toEip197(alice.pk2), digest: DIGEST, signature }), false)
  })

  it('add up to the signature of the keys together', () => {
    const signatures = KEYS.map(({ secret }) => sign({ secret, digest: DIGEST }))
    const keys = KEYS.map(({ pk2 }) => pk2)
    assert.equal(verifyAggregate({ keys, digest: DIGEST, signature: aggregateG1(signatures) }), true)
    assert.equal(verifyAggregate({ keys: keys.slice(1), digest: DIGEST, signature: aggregateG1(signatures) }), false)
    assert.equal(verifyAggregate({ keys, digest: DIGEST, signature: aggregateG1(signatures.slice(1)) }), false)
    assert.equal(verifyAggregate({ keys: [], digest: DIGEST, signature: { X: 0n, Y: 0n } }), false)
    // 3 + 5 + 7 = 15.
    assert.deepEqual(aggregateG2(keys), blsKeyFromSecret(word(15n)).pk2)
    assert.deepEqual(aggregateG1(KEYS.map(({ pk1 }) => pk1)), blsKeyFromSecret(word(15n)).pk1)
    assert.deepEqual(aggregateG1([]), { X: 0n, Y: 0n })
  })

  it('name a point that cannot be added', () => {
    assert.throws(() => aggregateG1([{ X: 1n, Y: 1n }]), isBlsError('BLS_POINT'))
    assert.throws(() => aggregateG2([{ X: [1n, 1n], Y: [1n, 1n] }]), isBlsError('BLS_POINT'))
    assert.throws(() => aggregateG2([{ X: [P, 1n], Y: [1n, 1n] }]), isBlsError('BLS_POINT'))
  })
})

describe('encoded points', () => {
  it('come back as they were, in 64 bytes', () => {
    for (const point of [...KEYS.map(({ pk1 }) => pk1), { X: 0n, Y: 0n }]) {
      const bytes = encodeG1(point)
      assert.equal(bytes.length, 64)
      assert.deepEqual(decodeG1(bytes), point)
    }
  })

  // Foreign bytes: a point or a typed error, nothing else.
  it('of any bytes are a point or a BlsError', () => {
    assert.throws(() => decodeG1(new Uint8Array(63)), isBlsError('BLS_POINT'))
    assert.throws(() => decodeG1(new Uint8Array(64).fill(0xff)), isBlsError('BLS_POINT'))
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 70 }), (bytes) => {
        if (bytes.every((byte) => byte === 0) && bytes.length === 64) return
        assert.throws(() => decodeG1(bytes), isBlsError('BLS_POINT'))
      }),
    )
  })
})

function word(value: bigint): Hex {
  return `0x${value.toString(16).padStart(64, '0')}`
}

function isBlsError(code: string) {
  return (error: unknown) => error instanceof BlsError && error.code === code
}
