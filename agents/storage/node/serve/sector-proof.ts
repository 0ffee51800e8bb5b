import { foldRoots, leafHashes, ZERO_ROOTS } from '#kernels/merkle.ts'
import { type Hash, toHex } from '#protocol/hex.ts'
import { HASH_BYTES, SEGMENT_HEIGHT, SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import { segmentCount, segmentPaddedSectors } from '#protocol/storage/padding.ts'
import type { SegmentProof } from '#protocol/storage/segment-proof.ts'
import { NodeError } from '../error.ts'
import type { FlowUnit } from '../store/flow-store.ts'
import type { NodeStore } from '../store/node-store.ts'
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
  if (index >= segmentCount(tx.sizeBytes)) return undefined
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

function zeroRoot(level: number): Uint8Array {
  const root = ZERO_ROOTS[level]
  if (root) return root
  throw new RangeError(`no zero subtree of level ${level}`)
}
