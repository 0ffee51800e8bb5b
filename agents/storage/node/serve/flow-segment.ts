import { type Hash, toHex } from '#protocol/hex.ts'
import { SECTOR_BYTES, SEGMENT_BYTES, SEGMENT_HEIGHT, SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import { segmentCount } from '#protocol/storage/padding.ts'
import { NodeError } from '../error.ts'
import type { FlowCover, FlowSegment } from '../http/flow-frame.ts'
import type { NodeStore } from '../store/node-store.ts'
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

  for (const tx of submissionsIn(store, { start, end: Math.min(start + SEGMENT_SECTORS, lengthSectors) })) {
    const piece = await readPiece(store, tx, start)
    const at = Math.max(tx.startSector - start, 0)
    if (piece) {
      data.set(piece, at * SECTOR_BYTES)
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
  const unit = { level: SEGMENT_HEIGHT, startSector: start, hash: new Uint8Array() }
  const siblings = bare ? [] : store.flow.proveUnit({ unit, lengthSectors }).siblings
  return { segment, held, covers, siblings, data }
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

/** The bytes of a submission in the segment that begins at `start`; undefined when they are not here. */
async function readPiece(store: NodeStore, tx: FileTransaction, start: number): Promise<Uint8Array | undefined> {
  if (tx.objectId === undefined || tx.status === 'pruned') return undefined
  const index = Math.max(start - tx.startSector, 0) / SEGMENT_SECTORS
  // Large files are padded with whole segments of zeros.
  if (index >= segmentCount(tx.sizeBytes)) return new Uint8Array()
  return (await store.objects.readPiece(tx.objectId, index))?.data
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
