import { setTimeout as delay } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { ChunkMap } from '../store/chunk-map.ts'
import { ExtentFiles } from '../store/extent-files.ts'
import { AttemptRunner } from './attempts.ts'
import {
  COUNTERS,
  type FromMiningWorker,
  type MiningTask,
  type MiningWorkerStart,
  type ToMiningWorker,
} from './mining-task.ts'

// A thread that mines: its own kernels and file handles, a loop of batches, and messages only when there is a hit.

/** A rest shorter than this is put off, because timers are coarse. */
const MIN_REST_MS = 5

const { sealedDir, map, counters, cpuPercent } = workerData as MiningWorkerStart
const files = new ExtentFiles({ dir: sealedDir })
const chunks = new ChunkMap(map)
const counts = new BigUint64Array(counters)
const runner = new AttemptRunner({ held: (chunk) => chunks.held(chunk), read })
let task: MiningTask | undefined
let wake: (() => void) | undefined
let owedMs = 0

parentPort?.on('message', (message: ToMiningWorker) => {
  task = message.task
  wake?.()
})
tell({ type: 'ready' })

for (;;) {
  if (task === undefined) {
    await new Promise<void>((resolve) => {
      wake = resolve
    })
    wake = undefined
    continue
  }
  const start = performance.now()
  const result = runner.run(task)
  for (const [i, name] of COUNTERS.entries()) {
    const value = result[name]
    Atomics.add(counts, i, BigInt(typeof value === 'number' ? value : value.length))
  }
  for (const hit of result.hits) tell({ type: 'hit', hit })
  for (const chunk of result.unreadable) {
    chunks.set(chunk, 0n)
    tell({ type: 'unreadable', chunk, reason: 'the sealed chunk is not all there' })
  }
  owedMs += ((performance.now() - start) / cpuPercent) * (100 - cpuPercent)
  if (owedMs < MIN_REST_MS) await new Promise((resolve) => setImmediate(resolve))
  else {
    const rest = owedMs
    owedMs = 0
    await delay(rest)
  }
}

function read(chunk: number, target: Uint8Array): boolean {
  try {
    return files.read(chunk, target)
  } catch {
    return false
  }
}

function tell(message: FromMiningWorker): void {
  parentPort?.postMessage(message)
}
