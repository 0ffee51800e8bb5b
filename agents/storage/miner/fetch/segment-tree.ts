import { foldLevel, hashPair, leafHashes, segmentRoot } from '#kernels/merkle.ts'
import { bytesEqual, type Hash, toHex } from '#protocol/hex.ts'
import { HASH_BYTES, SEGMENT_HEIGHT, SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import type { FlowSegment } from '#storage/node/http/flow-frame.ts'
import { MinerError } from '../error.ts'

/**
 * Checks a segment against a flow root of the chain: the data, with the covers in place of what is not here, must hash
 * to it, and nothing may be called held that a cover stands for.
 *
 * @throws MinerError `MINER_SEGMENT`
 */
export function verifyFlowSegment(given: FlowSegment, flowRoot: Hash): void {
  const { segment, covers, held } = given
  for (const { sector, height } of covers) {
    const first = Math.floor(sector / 16)
    const last = Math.floor((sector + 2 ** height - 1) / 16)
    for (let seal = first; seal <= last; seal++) {
      if ((held >> BigInt(seal)) & 1n) throw falseSegment(segment, `seal ${seal} is called held and is not`)
    }
  }
  const isFirst = segment === 0
  const coversFirst = covers.some(({ sector, height }) => sector === 0 && height === 0)
  if (isFirst && !coversFirst) throw falseSegment(segment, 'the reserved sector is given as data')
  const root = covers.length === 0 ? segmentRoot(given.data, SEGMENT_SECTORS) : rootOf(treeLevels(given))
  if (!bytesEqual(climb(given, root), fromHash(flowRoot))) {
    throw falseSegment(segment, `its data and proof do not lead to the flow root ${flowRoot}`)
  }
}

/**
 * Siblings of a seal from its own subtree (level 4) up to the flow root, as the contract wants them.
 *
 * @throws MinerError `MINER_SEGMENT` when the segment is not one of that flow
 */
export function proveSeal(given: FlowSegment, seal: number, flowRoot: Hash): Hash[] {
  verifyFlowSegment(given, flowRoot)
  const levels = treeLevels(given)
  const inside: Hash[] = []
  for (let level = 4; level < SEGMENT_HEIGHT; level++) {
    const sibling = (seal >> (level - 4)) ^ 1
    const hashes = levels[level] ?? new Uint8Array()
    inside.push(toHex(hashes.subarray(sibling * HASH_BYTES, (sibling + 1) * HASH_BYTES)))
  }
  return [...inside, ...given.siblings.map(toHex)]
}

/** Hashes of every level of the segment's tree, leaves first, covers put in. */
function treeLevels({ data, covers }: FlowSegment): Uint8Array[] {
  const levels: Uint8Array[] = []
  let hashes = leafHashes(data, SEGMENT_SECTORS)
  for (let level = 0; level <= SEGMENT_HEIGHT; level++) {
    for (const { sector, height, hash } of covers) {
      if (height === level) hashes.set(hash, (sector / 2 ** height) * HASH_BYTES)
    }
    levels.push(hashes)
    if (level < SEGMENT_HEIGHT) hashes = foldLevel(hashes)
  }
  return levels
}

function rootOf(levels: readonly Uint8Array[]): Uint8Array {
  return levels[SEGMENT_HEIGHT] ?? new Uint8Array()
}

function climb({ segment, siblings }: FlowSegment, root: Uint8Array): Uint8Array {
  let node = root
  let position = segment
  for (const sibling of siblings) {
    node = position % 2 === 0 ? hashPair(node, sibling) : hashPair(sibling, node)
    position = Math.floor(position / 2)
  }
  // A proof that ends below the root would prove another place.
  return position === 0 ? node : new Uint8Array()
}

function fromHash(hash: Hash): Uint8Array {
  return Uint8Array.from(Buffer.from(hash.slice(2), 'hex'))
}

function falseSegment(segment: number, what: string): MinerError {
  return new MinerError({
    code: 'MINER_SEGMENT',
    message: `segment ${segment} of the flow: ${what}`,
    fix: 'the storage node is at fault, or follows another chain: use another one',
    details: { segment },
  })
}
