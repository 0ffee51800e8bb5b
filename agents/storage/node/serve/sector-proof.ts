import { foldRoots, hashPair, leafHashes, ZERO_ROOTS } from '#kernels/merkle.ts'
import { type Hash, toHex } from '#protocol/hex.ts'
import { HASH_BYTES, SEGMENT_HEIGHT, SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import { segmentCount, segmentPaddedSectors } from '#protocol/storage/padding.ts'
import type { SegmentProof } from '#protocol/storage/segment-proof.ts'
import { NodeError } from '../error.ts'
import type { FlowUnit } from '../store/flow-store.ts'
import type { NodeStore } from '../store/node-store.ts'
import type { PieceRow } from '../store/object-store.ts'
import type { FileTransaction } from '../store/transaction-record.ts'

interface Steps {
  leaf: Uint8Array
  siblings: Uint8Array[]
}

/**
 * Proof of one sector of the flow against a flow root: the present one, or any the flow had after a submission.
 * `lemma` = sector hash, siblings bottom first, flow root; undefined when the sector's data is not here.
 *
 * @throws NodeError `FLOW_ROOT_UNKNOWN`, `RANGE_INVALID` past the end of that flow
 */
export async function proveSector({
  store,
  sector,
  flowRoot,
}: {
  store: NodeStore
  sector: number
  flowRoot: Hash | undefined
}): Promise<SegmentProof | undefined> {
  const lengthSectors = flowRoot === undefined ? store.flow.lengthSectors : lengthAt(store, flowRoot)
  const unit = store.flow.unitAt(sector, lengthSectors)
  if (!unit) {
    throw new NodeError({
      code: 'RANGE_INVALID',
      message: `sector ${sector} is past the end of the flow`,
      fix: `the flow has ${lengthSectors} sectors`,
      details: { sector, limit: lengthSectors },
    })
  }
  const root = store.flow.root(lengthSectors)
  const above = store.flow.proveUnit({ unit, lengthSectors })
  const inside = await stepsInUnit({ store, sector, unit })
  if (!inside) return undefined
  const path = inside.siblings.map((_, level) => Math.floor((sector - unit.startSector) / 2 ** level) % 2 === 0)
  const lemma = [inside.leaf, ...inside.siblings, ...above.siblings, root]
  return { lemma: lemma.map(toHex), path: [...path, ...above.path] }
}

function lengthAt(store: NodeStore, flowRoot: Hash): number {
  if (flowRoot === toHex(store.flow.root())) return store.flow.lengthSectors
  if (flowRoot === `0x${'00'.repeat(HASH_BYTES)}`) return 1
  const length = store.transactions.lengthAtFlowRoot(flowRoot)
  if (length !== undefined) return length
  throw new NodeError({
    code: 'FLOW_ROOT_UNKNOWN',
    message: `the flow never had the root ${flowRoot}`,
    fix: 'give a root from zgs_getFlowContext or getFlowRootByTxSeq, or null for the present one',
    details: { flowRoot },
  })
}

async function stepsInUnit({
  store,
  sector,
  unit,
}: {
  store: NodeStore
  sector: number
  unit: FlowUnit
}): Promise<Steps | undefined> {
  const tx = store.transactions.atSector(sector)
  if (tx) return stepsInFile({ store, tx, sector, unit })
  // A gap, or the reserved sector 0, which is a unit of its own.
  const leaf = unit.level === 0 ? unit.hash : zeroRoot(0)
  return { leaf, siblings: Array.from({ length: unit.level }, (_, level) => zeroRoot(level)) }
}

async function stepsInFile({
  store,
  tx,
  sector,
  unit,
}: {
  store: NodeStore
  tx: FileTransaction
  sector: number
  unit: FlowUnit
}): Promise<Steps | undefined> {
  const inFile = sector - tx.startSector
  const index = Math.floor(inFile / SEGMENT_SECTORS)
  const inSegment = inFile % SEGMENT_SECTORS
  if (tx.objectId === undefined || tx.status === 'pruned') return undefined
  if (index >= segmentCount(tx.sizeBytes)) return stepsInPadding({ store, tx, index, unit })
  const piece = await store.objects.readPiece(tx.objectId, index)
  if (!piece) return undefined
  const leaves = leafHashes(piece.data, segmentPaddedSectors(tx.sizeBytes, index))
  const leaf = leaves.slice(inSegment * HASH_BYTES, (inSegment + 1) * HASH_BYTES)
  const siblings: Uint8Array[] = []
  for (let level = 0; level < Math.min(unit.level, SEGMENT_HEIGHT); level++) {
    const position = Math.floor(inSegment / 2 ** level)
    const start = (position % 2 === 0 ? position + 1 : position - 1) * 2 ** level * HASH_BYTES
    siblings.push(foldRoots(leaves.slice(start, start + 2 ** level * HASH_BYTES)))
  }
  // A unit higher than a segment is a perfect subtree of the file's tree: the segment's own proof leads up to its root.
  for (let level = SEGMENT_HEIGHT; level < unit.level; level++) {
    const at = (level - SEGMENT_HEIGHT) * HASH_BYTES
    siblings.push(piece.siblings.slice(at, at + HASH_BYTES))
  }
  return { leaf, siblings }
}

/** A segment of a large file's padding is zeros; what lies beside it is told by the pieces that are here. */
function stepsInPadding({ store, tx, index, unit }: PaddingParameters): Steps | undefined {
  const inside = Array.from({ length: Math.min(unit.level, SEGMENT_HEIGHT) }, (_, level) => zeroRoot(level))
  const above = paddingSiblings({ store, tx, index, unit })
  return above && { leaf: zeroRoot(0), siblings: [...inside, ...above] }
}

/**
 * Siblings from the root of a padding segment up to the root of its unit, bottom first; undefined when no piece that is
 * here tells one of them.
 */
export function paddingSiblings({ store, tx, index, unit }: PaddingParameters): Uint8Array[] | undefined {
  const { objectId } = tx
  if (objectId === undefined) return undefined
  const dataSegments = segmentCount(tx.sizeBytes)
  const unitSegment = (unit.startSector - tx.startSector) / SEGMENT_SECTORS
  const siblings: Uint8Array[] = []
  for (let level = SEGMENT_HEIGHT; level < unit.level; level++) {
    const step = level - SEGMENT_HEIGHT
    const width = 2 ** step
    const own = Math.floor((index - unitSegment) / width)
    const beside = own % 2 === 0 ? own + 1 : own - 1
    const first = unitSegment + beside * width
    if (first >= dataSegments) {
      siblings.push(zeroRoot(level))
      continue
    }
    // A piece of the sibling subtree leads up to its root; a piece of the own subtree has that root as its sibling.
    const inside = store.objects.firstPieceIn(objectId, { from: first, to: first + width })
    const near = store.objects.firstPieceIn(objectId, {
      from: unitSegment + own * width,
      to: unitSegment + (own + 1) * width,
    })
    const sibling = inside ? climb(inside, { unitSegment, steps: step }) : near && siblingAt(near.siblings, step)
    if (!sibling) return undefined
    siblings.push(sibling)
  }
  return siblings
}

/** Root of the subtree so many steps above a piece. */
function climb(piece: PieceRow, { unitSegment, steps }: { unitSegment: number; steps: number }): Uint8Array {
  let node = piece.root
  for (let step = 0; step < steps; step++) {
    const isLeft = Math.floor((piece.index - unitSegment) / 2 ** step) % 2 === 0
    const sibling = siblingAt(piece.siblings, step)
    node = isLeft ? hashPair(node, sibling) : hashPair(sibling, node)
  }
  return node
}

function siblingAt(siblings: Uint8Array, step: number): Uint8Array {
  return siblings.slice(step * HASH_BYTES, (step + 1) * HASH_BYTES)
}

interface PaddingParameters {
  store: NodeStore
  tx: FileTransaction
  /** Local number of the segment. */
  index: number
  unit: FlowUnit
}

function zeroRoot(level: number): Uint8Array {
  const root = ZERO_ROOTS[level]
  if (root) return root
  throw new RangeError(`no zero subtree of level ${level}`)
}
