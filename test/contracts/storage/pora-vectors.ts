import { keccak_256 } from '@noble/hashes/sha3.js'
import { expect } from 'chai'
import { hex, loadPosition, padSeed, quality, type Range, scratchpad, seal, words } from './plain-miner.ts'
import { deployStorage, vectors } from './storage-fixture.ts'

interface PoraCase {
  range: Record<keyof Range, string>
  padSeed: string
  scratchPadKeccak: string
  recallSeed: string
  loadPosition: string
  sealOffset: number
  recallPosition: string
  plainRule: string
  plainKeccak: string
  sealedKeccak: string
  merkleProof: string[]
  recoveredRoot: string
  quality: string
}
interface PoraVectors {
  common: { minerId: string; nonce: string; subtaskDigest: string; sealedContextDigest: string }
  cases: PoraCase[]
}

describe('PoRA: reference vectors', () => {
  const { common, cases } = vectors<PoraVectors>('storage-pora')

  for (const [index, vector] of cases.entries()) {
    it(`case ${index}: the contract and the plain miner give the reference's values`, async () => {
      const { mine } = await deployStorage()
      const range = {
        startPosition: BigInt(vector.range.startPosition),
        mineLength: BigInt(vector.range.mineLength),
        shardId: BigInt(vector.range.shardId),
        shardMask: BigInt(vector.range.shardMask),
      }
      const position = BigInt(vector.recallPosition)
      const data = plain(vector)
      const seed = padSeed({ ...common, range })
      expect(hex(seed), 'pad seed').to.equal(vector.padSeed)
      const { pad, recallSeed } = scratchpad(seed)
      expect(hex(keccak_256(pad)), 'scratchpad').to.equal(vector.scratchPadKeccak)
      expect(hex(recallSeed), 'recall seed').to.equal(vector.recallSeed)
      expect(loadPosition(range, recallSeed), 'load position').to.equal(BigInt(vector.loadPosition))
      const { minerId, sealedContextDigest } = common
      const sealed = seal({ data, minerId, contextDigest: sealedContextDigest, position })
      expect(hex(keccak_256(sealed)), 'sealed').to.equal(vector.sealedKeccak)
      expect(quality({ sealOffset: vector.sealOffset, seed, pad, sealed }), 'quality').to.equal(BigInt(vector.quality))

      const answer = {
        contextDigest: `0x${'00'.repeat(32)}`,
        nonce: common.nonce,
        minerId,
        range,
        recallPosition: position,
        sealOffset: vector.sealOffset,
        sealedContextDigest,
        sealedData: words(sealed),
        merkleProof: vector.merkleProof,
      }
      expect(await mine.pora(answer, common.subtaskDigest), 'quality on the chain').to.equal(vector.quality)
      expect(await mine.flowRootOf(answer), 'root on the chain').to.equal(vector.recoveredRoot)
    })
  }
})

/** The case's 4096 bytes before sealing. */
function plain({ plainRule, plainKeccak }: PoraCase): Uint8Array {
  const rules: Record<string, (i: number) => number> = {
    'i&255': (i) => i & 255,
    '(i*7+3)&255': (i) => (i * 7 + 3) & 255,
    '0': () => 0,
    '(i>>8)&255': (i) => (i >> 8) & 255,
  }
  const rule = rules[plainRule]
  if (rule === undefined) throw new Error(`unknown rule ${plainRule}`)
  const data = Uint8Array.from({ length: 4096 }, (_, i) => rule(i))
  expect(hex(keccak_256(data)), 'plain data').to.equal(plainKeccak)
  return data
}
