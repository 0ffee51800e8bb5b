import { parentPort, workerData } from 'node:worker_threads'
import { PIECE_BYTES, seal } from '#kernels/seal.ts'
import { WeightlessError } from '#protocol/error.ts'
import { fromHex } from '#protocol/hex.ts'
import { SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import { reasonOf } from '../error.ts'
import { verifyFlowSegment } from '../fetch/segment-tree.ts'
import { ExtentFiles } from '../store/extent-files.ts'
import type { FromSealWorker, SealJob, SealWorkerStart, ToSealWorker } from './seal-job.ts'

// A thread that seals: verifies each segment against the flow root, seals it, writes it with its own file handles.

const { sealedDir } = workerData as SealWorkerStart
const files = new ExtentFiles({ dir: sealedDir, writable: true })
const SECTORS_PER_SEAL = 16

parentPort?.on('message', ({ id, job }: ToSealWorker) => {
  try {
    work(job)
    tell({ type: 'sealed', id })
  } catch (error) {
    const code = error instanceof WeightlessError ? error.code : 'MINER_SEALED'
    tell({ type: 'failed', id, code, message: reasonOf(error) })
  }
})
tell({ type: 'ready' })

function work({ chunk, segment, flowRoot, minerId, runs }: SealJob): void {
  verifyFlowSegment(segment, flowRoot)
  const start = segment.segment * SEGMENT_SECTORS
  for (const { from, to, digest } of runs) {
    const data = segment.data.subarray(from * PIECE_BYTES, to * PIECE_BYTES)
    const positionSectors = start + from * SECTORS_PER_SEAL
    seal({ data, target: data, minerId, contextDigest: fromHex(digest), positionSectors })
  }
  files.write(chunk, segment.data)
}

function tell(message: FromSealWorker): void {
  parentPort?.postMessage(message)
}
