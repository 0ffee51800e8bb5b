import { padSeedTwin, recallChunkTwin, scratchpadTwin, sealHashTwin, sealTwin } from '#kernels/pora-twin.ts'
import { bytesEqual, fromHex, type Hash, toHex } from '#protocol/hex.ts'
import { SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import type { FlowSegment } from '#storage/node/http/flow-frame.ts'
import { MinerError } from '../error.ts'
import { proveSeal } from '../fetch/segment-tree.ts'
import type { Hit } from '../mine/mining-task.ts'
import { type RecallRange, rangeDigest, SEAL_SECTORS } from '../puzzle.ts'

/** The contract's argument (storage-contracts §5.1). */
export interface PoraAnswer {
  contextDigest: Hash
  nonce: Hash
  minerId: Hash
  range: { startPosition: bigint; mineLength: bigint; shardId: bigint; shardMask: bigint }
  recallPosition: bigint
  sealOffset: bigint
  sealedContextDigest: Hash
  sealedData: Hash[]
  merkleProof: Hash[]
}

export interface BuildAnswerParameters {
  hit: Hit
  minerId: Hash
  contextDigest: Hash
  flowRoot: Hash
  subtaskDigest: Hash
  range: RecallRange
  target: bigint
  /** Of the epoch in which the seal's last sector came. */
  sealedContextDigest: Hash
  /** The plain segment from a storage node, not yet trusted. */
  segment: FlowSegment
}

const SEAL_BYTES = 4096
const WORD_BYTES = 32

/**
 * The answer for a hit, after everything the contract will check was checked here with the plain twins: that the nonce
 * recalls the place, that the sealed bytes unseal to the data under the flow root, that the hash is under the target.
 *
 * @throws MinerError `MINER_SEALED` when the sealed copy is not what it should be, `MINER_SEGMENT` when the node's data
 * is not that of the flow
 */
export function buildAnswer(parameters: BuildAnswerParameters): PoraAnswer {
  const { hit, minerId, contextDigest, flowRoot, range, sealedContextDigest, segment } = parameters
  const { seal, sealed } = hit
  const recallPosition = hit.segment * SEGMENT_SECTORS + seal * SEAL_SECTORS
  const merkleProof = proveSeal(segment, seal, flowRoot)

  const plain = sealTwin({
    data: sealed,
    minerId: fromHex(minerId),
    contextDigest: fromHex(sealedContextDigest),
    positionSectors: recallPosition,
    undo: true,
  })
  if (!bytesEqual(plain, segment.data.subarray(seal * SEAL_BYTES, (seal + 1) * SEAL_BYTES))) {
    throw wrong(`seal ${seal} of segment ${hit.segment} does not unseal to the data of the flow`, { recallPosition })
  }
  checkHash(parameters)
  return {
    contextDigest,
    nonce: toHex(hit.nonce),
    minerId,
    range: {
      startPosition: BigInt(range.startPosition),
      mineLength: BigInt(range.mineLength),
      shardId: range.shardId,
      shardMask: range.shardMask,
    },
    recallPosition: BigInt(recallPosition),
    sealOffset: BigInt(seal),
    sealedContextDigest,
    sealedData: Array.from({ length: SEAL_BYTES / WORD_BYTES }, (_, i) =>
      toHex(sealed.subarray(i * WORD_BYTES, (i + 1) * WORD_BYTES)),
    ),
    merkleProof,
  }
}

/** Repeats the attempt with the plain twins: where it recalls, and what it hashes to. */
function checkHash({ hit, minerId, subtaskDigest, range, target }: BuildAnswerParameters): void {
  const parts = [fromHex(minerId), hit.nonce, fromHex(subtaskDigest), rangeDigest(range)]
  const padSeed = padSeedTwin(Uint8Array.from(Buffer.concat(parts)))
  const { pad, recallSeed } = scratchpadTwin(padSeed)
  const { mineLength, shardId, shardMask, startPosition } = range
  const chunk = recallChunkTwin({ recallSeed, chunks: mineLength / SEGMENT_SECTORS, shardId, shardMask })
  const recalled = startPosition / SEGMENT_SECTORS + Number(chunk)
  if (recalled !== hit.segment || recalled * SEGMENT_SECTORS >= startPosition + mineLength) {
    throw wrong(`the nonce recalls segment ${recalled}, not ${hit.segment}`, { recalled, segment: hit.segment })
  }
  const hash = sealHashTwin({ sealed: hit.sealed, seal: hit.seal, pad, padSeed })
  if (!bytesEqual(hash, hit.hash)) throw wrong('the hash of the hit cannot be repeated', { segment: hit.segment })
  if (BigInt(toHex(hash)) > target) throw wrong('the hash is above the target', { hash: toHex(hash) })
}

function wrong(message: string, details: Record<string, unknown>): MinerError {
  return new MinerError({
    code: 'MINER_SEALED',
    message,
    fix: 'the chunk is sealed again; if it happens often, check the disk and the memory of this machine',
    details,
  })
}
