import type { Hash } from '#protocol/hex.ts'
import type { FlowSegment } from '#storage/node/http/flow-frame.ts'
import type { SealRun } from '../store/miner-store.ts'

/** A segment to be verified, sealed and written. */
export interface SealJob {
  chunk: number
  segment: FlowSegment
  flowRoot: Hash
  minerId: Uint8Array
  runs: SealRun[]
}

/** What a sealing thread is started with. */
export interface SealWorkerStart {
  sealedDir: string
}

export type ToSealWorker = { id: number; job: SealJob }

export type FromSealWorker =
  | { type: 'ready' }
  | { type: 'sealed'; id: number }
  | { type: 'failed'; id: number; code: string; message: string }
