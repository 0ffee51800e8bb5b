import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { keccak256 } from '#kernels/keccak.ts'
import { foldRoots, leafHashes } from '#kernels/merkle.ts'
import { CHUNK_BYTES, CHUNK_SEALS, PoraKernel, recallChunk } from '#kernels/pora.ts'
import { padSeedTwin, recallChunkTwin, scratchpadTwin, sealHashTwin, sealTwin } from '#kernels/pora-twin.ts'
import { PIECE_BYTES, seal, unseal } from '#kernels/seal.ts'
import { readVectors, seededBytes } from '../protocol/vectors.ts'

interface PoraVectors {
  common: { minerId: string; nonce: string; subtaskDigest: string; sealedContextDigest: string }
  cases: PoraCase[]
}

interface PoraCase {
  range: { startPosition: string; mineLength: string; shardId: string; shardMask: string }
  rangeDigest: string
  padSeed: string
  scratchPadFirst64: string
  scratchPadLast64: string
  scratchPadKeccak: string
  recallSeed: string
  loadPosition: string
  sealOffset: number
  recallPosition: string
  plainRule: string
  plainKeccak: string
  sealedKeccak: string
  sealedFirst64: string
  sealedLast32: string
  mixedKeccak: string
  sealSubtreeRoot: string
  quality: string
}

const { common, cases } = readVectors<PoraVectors>('storage-pora')
const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex.slice(2), 'hex'))
const hex = (value: Uint8Array) => `0x${Buffer.from(value).toString('hex')}`
const minerId = bytes(common.minerId)
const contextDigest = bytes(common.sealedContextDigest)

/** Plain data of a case, by the rule its vector names. */
function plainOf(rule: string): Uint8Array {
  const rules: Record<string, (i: number) => number> = {
    'i&255': (i) => i,
    '(i*7+3)&255': (i) => i * 7 + 3,
    '0': () => 0,
    '(i>>8)&255': (i) => i >> 8,
  }
  const of = rules[rule]
  assert.ok(of, rule)
  return Uint8Array.from({ length: PIECE_BYTES }, (_, i) => of(i) & 255)
}

describe('PoRA kernels', () => {
  // Every vector in every lane: the attempt under test stands among three others.
  for (const [i, wanted] of cases.entries()) {
    it(`agree with vector ${i} in all four lanes`, () => {
      const pora = new PoraKernel()
      const plain = plainOf(wanted.plainRule)
      const positionSectors = Number(wanted.recallPosition)
      const sealed = seal({ data: plain, minerId, contextDigest, positionSectors })
      assert.equal(hex(keccak256(plain)), wanted.plainKeccak)
      assert.equal(hex(keccak256(sealed)), wanted.sealedKeccak)
      assert.equal(hex(sealed.subarray(0, 64)), wanted.sealedFirst64)
      assert.equal(hex(sealed.subarray(-32)), wanted.sealedLast32)
      assert.equal(hex(foldRoots(leafHashes(plain, 16))), wanted.sealSubtreeRoot)

      pora.chunk.set(seededBytes(CHUNK_BYTES, i))
      pora.chunk.set(sealed, wanted.sealOffset * PIECE_BYTES)
      for (let lane = 0; lane < 4; lane++) {
        const nonces = [0, 1, 2, 3].map((n) => (n === lane ? bytes(common.nonce) : seededBytes(32, n)))
        pora.prepare({
          minerId,
          subtaskDigest: bytes(common.subtaskDigest),
          rangeDigest: bytes(wanted.rangeDigest),
          nonces,
        })
        assert.equal(hex(pora.padSeed(lane)), wanted.padSeed)
        const pad = pora.scratchpad(lane)
        assert.equal(hex(pad.subarray(0, 64)), wanted.scratchPadFirst64)
        assert.equal(hex(pad.subarray(-64)), wanted.scratchPadLast64)
        assert.equal(hex(keccak256(Uint8Array.from(pad))), wanted.scratchPadKeccak)
        assert.equal(hex(pora.recallSeed(lane)), wanted.recallSeed)
        const chunk = recallChunk({
          recallSeed: pora.recallSeed(lane),
          mineLengthSectors: Number(wanted.range.mineLength),
          shardId: BigInt(wanted.range.shardId),
          shardMask: BigInt(wanted.range.shardMask),
        })
        const load = BigInt(wanted.range.startPosition) + chunk * 1024n
        assert.equal(load, BigInt(wanted.loadPosition))
        assert.equal(load + BigInt(wanted.sealOffset) * 16n, BigInt(wanted.recallPosition))
        const quarter = pad.subarray((wanted.sealOffset % 4) * PIECE_BYTES)
        assert.equal(hex(keccak256(sealed.map((byte, at) => byte ^ (quarter[at] ?? 0)))), wanted.mixedKeccak)
        const hashes = pora.sealHashes(lane)
        assert.equal(hex(hashes.subarray(32 * wanted.sealOffset, 32 * wanted.sealOffset + 32)), wanted.quality)
      }
    })
  }

  it('knows all four cases of the vectors', () => {
    assert.equal(cases.length, 4)
  })

  // Batches of any size, and every seal of a chunk, agree with the plain twin.
  it('agree with the twin for batches of any size', () => {
    const pora = new PoraKernel({ attempts: 7 })
    const task = { minerId, subtaskDigest: seededBytes(32, 90), rangeDigest: seededBytes(32, 91) }
    pora.chunk.set(seededBytes(CHUNK_BYTES, 92))
    for (let count = 1; count <= 7; count += 2) {
      const nonces = Array.from({ length: count }, (_, i) => seededBytes(32, 100 + i + count))
      pora.prepare({ ...task, nonces })
      for (const [i, nonce] of nonces.entries()) {
        const seed = padSeedTwin(Buffer.concat([task.minerId, nonce, task.subtaskDigest, task.rangeDigest]))
        assert.equal(hex(pora.padSeed(i)), hex(seed))
        const { pad, recallSeed } = scratchpadTwin(seed)
        assert.equal(hex(pora.recallSeed(i)), hex(recallSeed))
        assert.ok(Buffer.from(pora.scratchpad(i)).equals(pad))
      }
    }
    const padSeed = Uint8Array.from(pora.padSeed(6))
    const pad = Uint8Array.from(pora.scratchpad(6))
    const hashes = pora.sealHashes(6)
    for (let n = 0; n < CHUNK_SEALS; n++) {
      const sealed = pora.chunk.slice(n * PIECE_BYTES, (n + 1) * PIECE_BYTES)
      const wanted = sealHashTwin({ sealed, seal: n, pad, padSeed })
      assert.equal(hex(hashes.subarray(32 * n, 32 * n + 32)), hex(wanted), `seal ${n}`)
    }
  })

  it('recall the chunk that 256-bit arithmetic gives', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.oneof(fc.integer({ min: 1, max: 2 ** 31 - 1 }), fc.constantFrom(1, 2 ** 37, 2 ** 37 - 1)),
        fc.nat({ max: 8 }),
        (recallSeed, chunks, bits) => {
          const shardMask = (2n ** 64n - 1n) ^ (2n ** BigInt(bits) - 1n)
          const shardId = 2n ** BigInt(bits) - 1n
          const wanted = recallChunkTwin({ recallSeed, chunks, shardId, shardMask })
          assert.equal(recallChunk({ recallSeed, mineLengthSectors: chunks * 1024, shardId, shardMask }), wanted)
        },
      ),
    )
  })

  it('refuse what is out of range', () => {
    const refused = { code: 'KERNEL_INPUT' }
    const pora = new PoraKernel({ attempts: 2 })
    const task = { minerId, subtaskDigest: minerId, rangeDigest: minerId }
    assert.throws(() => new PoraKernel({ attempts: 0 }), refused)
    assert.throws(() => pora.sealHashes(0), refused)
    assert.throws(() => pora.prepare({ ...task, nonces: [] }), refused)
    assert.throws(() => pora.prepare({ ...task, nonces: [minerId, minerId, minerId] }), refused)
    assert.throws(() => pora.prepare({ ...task, nonces: [new Uint8Array(31)] }), refused)
    pora.prepare({ ...task, nonces: [minerId] })
    assert.throws(() => pora.recallSeed(1), refused)
    const range = { recallSeed: minerId, shardId: 0n, shardMask: 0n }
    for (const mineLengthSectors of [0, 1023, 1.5, 2 ** 48]) {
      assert.throws(() => recallChunk({ ...range, mineLengthSectors }), refused)
    }
  })
})

describe('seal kernels', () => {
  const place = { minerId, contextDigest, positionSectors: 1024 * 77 }

  // Any number of pieces, four side by side or fewer, seal as the plain twin does, and come back.
  it('agree with the twin and are undone', () => {
    for (const pieces of [0, 1, 2, 3, 4, 5, 63, 64, 65, 130]) {
      const data = seededBytes(pieces * PIECE_BYTES, pieces)
      const sealed = seal({ data, ...place })
      assert.ok(Buffer.from(sealed).equals(sealTwin({ data, ...place, undo: false })), `${pieces} pieces`)
      assert.ok(Buffer.from(unseal({ data: sealed, ...place })).equals(data), `${pieces} pieces`)
    }
  })

  it('depend on miner, context and place', () => {
    const data = seededBytes(PIECE_BYTES)
    const sealed = hex(seal({ data, ...place }))
    assert.notEqual(hex(seal({ data, ...place, minerId: contextDigest })), sealed)
    assert.notEqual(hex(seal({ data, ...place, contextDigest: minerId })), sealed)
    assert.notEqual(hex(seal({ data, ...place, positionSectors: place.positionSectors + 16 })), sealed)
  })

  it('can work in place', () => {
    const data = seededBytes(5 * PIECE_BYTES)
    const wanted = seal({ data, ...place })
    const target = Uint8Array.from(data)
    seal({ data: target, ...place, target })
    assert.deepEqual(target, wanted)
    unseal({ data: target, ...place, target })
    assert.deepEqual(target, data)
  })

  it('refuse what are no pieces', () => {
    const data = new Uint8Array(PIECE_BYTES)
    const refused = { code: 'KERNEL_INPUT' }
    assert.throws(() => seal({ ...place, data: data.subarray(1) }), refused)
    assert.throws(() => seal({ ...place, data, minerId: new Uint8Array(31) }), refused)
    assert.throws(() => seal({ ...place, data, positionSectors: 8 }), refused)
    assert.throws(() => seal({ ...place, data, positionSectors: -16 }), refused)
    assert.throws(() => seal({ ...place, data, target: new Uint8Array(1) }), refused)
  })
})
