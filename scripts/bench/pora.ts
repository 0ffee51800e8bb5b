import { createHash, randomFillSync } from 'node:crypto'
import { closeSync, openSync, writeSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CHUNK_BYTES, CHUNK_SEALS } from '#kernels/pora.ts'
import { padSeedTwin, recallChunkTwin, scratchpadTwin, sealHashTwin } from '#kernels/pora-twin.ts'
import { AttemptRunner, BATCH_ATTEMPTS } from '#storage/miner/mine/attempts.ts'
import type { MiningTask } from '#storage/miner/mine/mining-task.ts'
import { ExtentFiles } from '#storage/miner/store/extent-files.ts'
import { extentPath } from '#storage/miner/store/layout.ts'
import { bestOf } from './best-of.ts'
import type { BenchContext } from './context.ts'

/** Native hashing in one call: its length must not matter, and it must not be interrupted often. */
const BULK_BYTES = 1 << 20
/** Bytes that one permutation of sha3-256, and one compression of Blake2b, take in. */
const SHA3_BLOCK_BYTES = 136
const BLAKE2B_BLOCK_BYTES = 128
/** Of one attempt: 512 cells and the recall seed; the pad seed and 64 seals of 33 blocks. */
const PERMUTATIONS = 513
const COMPRESSIONS = 1 + CHUNK_SEALS * 33

/**
 * `pora.attempts`: whole attempts per second on one core (scratchpad, recall, a 256 KiB chunk by pread from the page
 * cache, 64 mixed seal hashes), as the mining threads run them. The peer is what node:crypto could do at best: the
 * same number of permutations and compressions at the speed of one long sha3-256 and one long blake2b512 call.
 */
export async function bench({ quick, signal, report, note }: BenchContext): Promise<void> {
  const chunks = quick ? 256 : 1024
  const folder = await mkdtemp(join(tmpdir(), 'weightless-pora-'))
  const files = new ExtentFiles({ dir: folder })
  try {
    writeChunks(extentPath(folder, 0), chunks)
    const all = 2n ** 64n - 1n
    const runner = new AttemptRunner({ held: () => all, read: (chunk, target) => files.read(chunk, target) })
    const task = makeTask(chunks)
    const bulk = randomFillSync(Buffer.alloc(BULK_BYTES))
    let reads = 0
    let attempts = 0
    const best = await bestOf({
      ...{ rounds: quick ? 60 : 300, signal },
      jobs: {
        ours: () => {
          const result = runner.run(task)
          reads += result.reads
          attempts += result.attempts
        },
        sha3: () => void createHash('sha3-256').update(bulk).digest(),
        blake2b: () => void createHash('blake2b512').update(bulk).digest(),
      },
    })
    const twin = await bestOf({ rounds: quick ? 3 : 8, signal, jobs: { twin: () => attemptTwin(task, bulk) } })
    const perSecond = (ms: number, count: number) => (count / ms) * 1000
    const boundMs =
      (best.sha3 * PERMUTATIONS * SHA3_BLOCK_BYTES + best.blake2b * COMPRESSIONS * BLAKE2B_BLOCK_BYTES) / BULK_BYTES
    const value = perSecond(best.ours, BATCH_ATTEMPTS)
    const plain = perSecond(twin.twin, 1)
    note(`${value.toFixed(0)} attempts/s, native bound ${perSecond(boundMs, 1).toFixed(0)}, plain ${plain.toFixed(0)}`)
    report({
      name: 'pora.attempts',
      value,
      unit: 'attempts/s',
      peer: 'node:crypto bound (sha3-256 and blake2b512 in bulk)',
      peerValue: perSecond(boundMs, 1),
      ratio: value / perSecond(boundMs, 1),
      detail: {
        hashesPerSecond: Math.round(value * CHUNK_SEALS),
        batch: BATCH_ATTEMPTS,
        chunks,
        readsPerAttempt: Math.round((reads / attempts) * 1000) / 1000,
        plainTypeScriptPerSecond: Math.round(plain),
        againstPlainTypeScript: Math.round((value / plain) * 10) / 10,
      },
    })
  } finally {
    files.close()
    await rm(folder, { recursive: true, force: true })
  }
}

function makeTask(chunks: number): MiningTask {
  return {
    id: 1,
    minerId: randomFillSync(new Uint8Array(32)),
    subtaskDigest: randomFillSync(new Uint8Array(32)),
    rangeDigest: randomFillSync(new Uint8Array(32)),
    target: new Uint8Array(32),
    mineLength: chunks * 1024,
    shardId: 0n,
    shardMask: 2n ** 64n - 1n,
    numShard: 1,
  }
}

/** Chunks of noise: what is hashed does not matter, only that it is read. */
function writeChunks(path: string, chunks: number): void {
  const file = openSync(path, 'wx')
  const chunk = randomFillSync(Buffer.alloc(CHUNK_BYTES))
  for (let i = 0; i < chunks; i++) {
    chunk.writeUInt32LE(i)
    writeSync(file, chunk)
  }
  closeSync(file)
}

/** One attempt in plain TypeScript, its data in memory. */
function attemptTwin(
  { minerId, subtaskDigest, rangeDigest, mineLength, shardId, shardMask }: MiningTask,
  data: Buffer,
) {
  const nonce = randomFillSync(new Uint8Array(32))
  const padSeed = padSeedTwin(Uint8Array.from(Buffer.concat([minerId, nonce, subtaskDigest, rangeDigest])))
  const { pad, recallSeed } = scratchpadTwin(padSeed)
  recallChunkTwin({ recallSeed, chunks: mineLength / 1024, shardId, shardMask })
  for (let seal = 0; seal < CHUNK_SEALS; seal++) {
    sealHashTwin({ sealed: data.subarray(seal * 4096, (seal + 1) * 4096), seal, pad, padSeed })
  }
}
