import { fromHex, type Hash, toHex } from '#protocol/hex.ts'
import type { SubmissionNode } from '#protocol/storage/submission.ts'

/** `pending`: data of the own shard is missing. `finalized`: all of it is here. `pruned`: it was given up. */
export type FileStatus = 'pending' | 'finalized' | 'pruned'

/** A submission of the flow as this node knows it. */
export interface FileTransaction {
  /** Place in the flow: the submission index. */
  seq: number
  /** Content it names; undefined when the nodes are not those of a file, so that there is no data to hold. */
  objectId: number | undefined
  root: Hash
  sizeBytes: number
  /** First sector in the flow. */
  startSector: number
  /** Sectors in the flow, padded. */
  sectors: number
  nodes: SubmissionNode[]
  status: FileStatus
  /** Segments of the own shard; kept only while pending. */
  needed: number
  /** Of these, durable here; kept only while pending. */
  held: number
  /** Block that logged it. */
  block: number
  /** When this node logged it, ms since 1970. */
  loggedAtMs: number
}

export interface TxRow {
  seq: number
  object: number | null
  root: Uint8Array
  size: number
  start_sector: number
  sectors: number
  nodes: Uint8Array
  status: number
  needed: number
  held: number
  block: number
  logged_at: number
}

export const PENDING = 0
export const FINALIZED = 1
export const PRUNED = 2

const STATUSES: readonly FileStatus[] = ['pending', 'finalized', 'pruned']

export function readTransaction(row: TxRow): FileTransaction {
  return {
    seq: row.seq,
    objectId: row.object ?? undefined,
    root: toHex(row.root),
    sizeBytes: row.size,
    startSector: row.start_sector,
    sectors: row.sectors,
    nodes: decodeNodes(row.nodes),
    status: STATUSES[row.status] ?? 'pending',
    needed: row.needed,
    held: row.held,
    block: row.block,
    loggedAtMs: row.logged_at,
  }
}

/** One byte of height and 32 of root for each node. */
export function encodeNodes(nodes: readonly SubmissionNode[]): Uint8Array {
  const bytes = new Uint8Array(nodes.length * 33)
  for (const [i, { root, height }] of nodes.entries()) {
    bytes[i * 33] = height
    bytes.set(fromHex(root, { byteLength: 32 }), i * 33 + 1)
  }
  return bytes
}

function decodeNodes(bytes: Uint8Array): SubmissionNode[] {
  const nodes: SubmissionNode[] = []
  for (let at = 0; at < bytes.length; at += 33) {
    nodes.push({ height: bytes[at] ?? 0, root: toHex(bytes.subarray(at + 1, at + 33)) })
  }
  return nodes
}
