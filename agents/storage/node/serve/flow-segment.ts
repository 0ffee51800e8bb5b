import { hashPair, ZERO_ROOTS } from '#kernels/merkle.ts'
import { type Hash, toHex } from '#protocol/hex.ts'
import {
  HASH_BYTES,
  SECTOR_BYTES,
  SEGMENT_BYTES,
  SEGMENT_HEIGHT,
  SEGMENT_SECTORS,
} from '#protocol/storage/constants.ts'
import { segmentCount } from '#protocol/storage/padding.ts'
import { NodeError } from '../error.ts'
import type { FlowCover, FlowSegment } from '../http/flow-frame.ts'
import type { NodeStore } from '../store/node-store.ts'
import type { Piece } from '../store/object-store.ts'
import type { FileTransaction } from '../store/transaction-record.ts'

const SEAL_SECTORS = 16
const SEALS = SEGMENT_SECTORS / SEAL_SECTORS

export interface ReadFlowSegmentParameters {
  store: NodeStore
  /** Global number. */
  segment: number
  /** The flow as it was at this length; sectors from there on are empty. */
  lengthSectors: number
  /** Leave the proof out. */
  bare?: boolean | undefined
}

/**
 * A segment of the flow with what is here of it and its proof against the flow root at that length; undefined when
 * nothing of it can be mined here.
 */
export async function readFlowSegment(parameters: ReadFlowSegmentParameters): Promise<FlowSegment | undefined> {
  const { store, segment, lengthSectors, bare = false } = parameters
  const start = segment * SEGMENT_SECTORS
  if (start >= lengthSectors) return undefined
  const data = new Uint8Array(SEGMENT_BYTES)
  const missing = new Uint8Array(SEGMENT_SECTORS)
  // Sector 0 of the flow is no data: its leaf is a literal, not a hash.
  const covers: FlowCover[] = segment === 0 ? [{ sector: 0, height: 0, hash: new Uint8Array(32) }] : []
  if (segment === 0) missing[0] = 1

  let above: Uint8Array | undefined
  for (const tx of submissionsIn(store, { start, end: Math.min(start + SEGMENT_SECTORS, lengthSectors) })) {
    const part = await readPart(store, tx, start)
    const at = Math.max(tx.startSector - start, 0)
    if (part) {
      data.set(part.data, at * SECTOR_BYTES)
      above = part.siblings
      continue
    }
    const own = coversOf(tx, start)
    if (!own) return undefined
    for (const { sector, height } of own) missing.fill(1, sector, sector + 2 ** height)
    covers.push(...own)
  }

  let held = 0n
  for (let seal = 0; seal < SEALS; seal++) {
    const sectors = missing.subarray(seal * SEAL_SECTORS, (seal + 1) * SEAL_SECTORS)
    if (!sectors.includes(1)) held |= 1n << BigInt(seal)
  }
  if (held === 0n) return undefined
  const siblings = bare ? [] : siblingsOf({ store, start, lengthSectors, above })
  return siblings && { segment, held, covers, siblings, data }
}

/** Siblings from a segment's root up to the flow root; undefined when they cannot be told from what is here. */
function siblingsOf({ store, start, lengthSectors, above }: SiblingsParameters): Uint8Array[] | undefined {
  const unit = store.flow.unitAt(start, lengthSectors)
  if (!unit || unit.level <= SEGMENT_HEIGHT) {
    const whole = { level: SEGMENT_HEIGHT, startSector: start, hash: new Uint8Array() }
    return store.flow.proveUnit({ unit: whole, lengthSectors }).siblings
  }
  // Inside one subtree of the flow: a file's own proof leads up to its root, and a gap is zeros at every level.
  const inside: Uint8Array[] = []
  for (let level = SEGMENT_HEIGHT; level < unit.level; level++) {
    const at = (level - SEGMENT_HEIGHT) * HASH_BYTES
    const sibling = above ? above.slice(at, at + HASH_BYTES) : ZERO_ROOTS[level]
    if (sibling?.length !== HASH_BYTES) return undefined
    inside.push(sibling)
  }
  return [...inside, ...store.flow.proveUnit({ unit, lengthSectors }).siblings]
}

interface SiblingsParameters {
  store: NodeStore
  start: number
  lengthSectors: number
  /** Of the file's piece in the segment, hash by hash, bottom first. */
  above: Uint8Array | undefined
}

/**
 * Length of the flow when it had this root.
 *
 * @throws NodeError `FLOW_ROOT_UNKNOWN`
 */
export function lengthAtRoot(store: NodeStore, flowRoot: Hash): number {
  const length =
    flowRoot === toHex(store.flow.root()) ? store.flow.lengthSectors : store.transactions.lengthAtFlowRoot(flowRoot)
  if (length !== undefined) return length
  throw new NodeError({
    code: 'FLOW_ROOT_UNKNOWN',
    message: `the flow never had the root ${flowRoot}, as far as this node has read the chain`,
    fix: 'wait until the node has read the block, or give a root from zgs_getFlowContext',
    details: { flowRoot, nextTxSeq: store.transactions.nextSeq },
  })
}

/** Submissions with sectors in `[start, end)`, in order. */
function* submissionsIn(store: NodeStore, { start, end }: { start: number; end: number }): Generator<FileTransaction> {
  const sql = 'select seq from tx where start_sector <= ? order by start_sector desc limit 1'
  const first = store.database.get<{ seq: number }>(sql, start)?.seq ?? 0
  for (let seq = first; ; seq++) {
    const tx = store.transactions.get(seq)
    if (!tx || tx.startSector >= end) return
    if (tx.startSector + tx.sectors > start) yield tx
  }
}

/** What is stored of a submission in the segment that begins at `start`; undefined when it is not here. */
async function readPart(store: NodeStore, tx: FileTransaction, start: number): Promise<Part | undefined> {
  if (tx.objectId === undefined || tx.status === 'pruned') return undefined
  const index = Math.max(start - tx.startSector, 0) / SEGMENT_SECTORS
  const last = segmentCount(tx.sizeBytes) - 1
  const piece = await store.objects.readPiece(tx.objectId, Math.min(index, last))
  if (!piece) return undefined
  // Larger files are padded with whole segments of zeros, which nothing is kept of: the last piece tells their proof.
  if (index > last) return { data: new Uint8Array(), siblings: paddingSiblings({ piece, last, index }) }
  return { data: piece.data, siblings: piece.siblings }
}

/** Of a submission in one segment: bytes, and siblings of its proof from the segment's root up, bottom first. */
interface Part {
  data: Uint8Array
  siblings: Uint8Array
}

/**
 * Siblings of a segment of padding at `index`, from those of the `last` segment with data: to the right of that all is
 * zeros; a subtree that holds it follows from its own proof; and above the two everything is common to both. A file's
 * submission nodes are aligned to their size in the file, so that positions in the file serve as positions in the node.
 */
function paddingSiblings({ piece, last, index }: { piece: Piece; last: number; index: number }): Uint8Array {
  const levels = piece.siblings.length / HASH_BYTES
  const siblings = new Uint8Array(piece.siblings.length)
  let node = piece.root
  for (let level = 0; level < levels; level++) {
    const own = piece.siblings.subarray(level * HASH_BYTES, (level + 1) * HASH_BYTES)
    const [dataAt, at] = [last >> level, index >> level]
    const beside = at ^ 1
    const zeros = ZERO_ROOTS[SEGMENT_HEIGHT + level] ?? new Uint8Array(HASH_BYTES)
    const sibling = dataAt === at ? own : beside === dataAt ? node : zeros
    siblings.set(sibling, level * HASH_BYTES)
    node = dataAt % 2 === 0 ? hashPair(node, own) : hashPair(own, node)
  }
  return siblings
}

/** The submission's nodes in the segment, or undefined when one of them covers all of it. */
function coversOf(tx: FileTransaction, start: number): FlowCover[] | undefined {
  const covers: FlowCover[] = []
  let at = tx.startSector
  for (const { root, height } of tx.nodes) {
    const end = at + 2 ** height
    if (end > start && at < start + SEGMENT_SECTORS) {
      if (height >= SEGMENT_HEIGHT) return undefined
      covers.push({ sector: at - start, height, hash: Uint8Array.from(Buffer.from(root.slice(2), 'hex')) })
    }
    at = end
  }
  return covers
}
