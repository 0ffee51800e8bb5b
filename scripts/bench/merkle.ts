import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ZgFile } from '@0gfoundation/0g-ts-sdk'
import { MerklePool } from '#kernels/merkle-pool.ts'
import { kernelModules } from '#kernels/wasm.ts'
import { fileSource } from '#kit/files.ts'
import { WeightlessError } from '#protocol/error.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import type { BenchContext } from './context.ts'

const MIB = 1 << 20

/** The two implementations did not agree, so that no figure means anything. */
export class MerkleBenchError extends WeightlessError {}

/**
 * `merkle.root`: MiB/s of the Merkle root of one file, in the page cache, on all cores; the peer is the same file
 * through `ZgFile.merkleTree()` of 0g-ts-sdk. Both run in turns and the best run of each counts, because other work on
 * the machine can only make a run slower.
 */
export async function bench({ quick, signal, report, note }: BenchContext): Promise<void> {
  const sizeBytes = (quick ? 16 : 64) * MIB
  const rounds = quick ? 2 : 4
  const folder = await mkdtemp(join(tmpdir(), 'weightless-merkle-'))
  const pool = await MerklePool.create()
  try {
    const path = join(folder, 'file')
    await writeNoise(path, sizeBytes)
    await pool.warm()
    const ours = await timeOurs({ path, pool, signal }) // meets the optimising compiler; not counted
    let bestMs = Number.POSITIVE_INFINITY
    let peerBestMs = Number.POSITIVE_INFINITY
    let coreMs = Number.POSITIVE_INFINITY
    for (let round = 0; round < rounds; round++) {
      signal.throwIfAborted()
      for (let i = 0; i < 5; i++) bestMs = Math.min(bestMs, (await timeOurs({ path, pool, signal })).ms)
      coreMs = Math.min(coreMs, (await timeOurs({ path, pool: 'this-thread', signal })).ms)
      const peer = await timePeer(path)
      peerBestMs = Math.min(peerBestMs, peer.ms)
      if (peer.root !== ours.root) {
        throw new MerkleBenchError({
          code: 'BENCH_MISMATCH',
          message: 'the two roots of the same file differ',
          details: { ours: ours.root, peer: peer.root },
        })
      }
      note(`round ${round + 1} of ${rounds}: best ${bestMs.toFixed(0)} ms, peer ${peerBestMs.toFixed(0)} ms`)
    }
    const rate = (ms: number) => sizeBytes / MIB / (ms / 1000)
    report({
      name: 'merkle.root',
      value: rate(bestMs),
      unit: 'MiB/s',
      peer: '@0gfoundation/0g-ts-sdk 1.2.8',
      peerValue: rate(peerBestMs),
      ratio: peerBestMs / bestMs,
      detail: {
        sizeBytes,
        rounds,
        workers: pool.workers,
        oneThreadMiBPerSecond: Math.round(rate(coreMs)),
        wideKernels: kernelModules().length > 1,
      },
    })
  } finally {
    await pool.close()
    await rm(folder, { recursive: true, force: true })
  }
}

interface OursParameters {
  path: string
  pool: MerklePool | 'this-thread'
  signal: AbortSignal
}

async function timeOurs({ path, pool, signal }: OursParameters): Promise<{ ms: number; root: string }> {
  await using source = await fileSource(path)
  const start = performance.now()
  const { root } = await buildFileTree({ source, hasher: pool, signal })
  return { ms: performance.now() - start, root }
}

async function timePeer(path: string): Promise<{ ms: number; root: string | null | undefined }> {
  const file = await ZgFile.fromFilePath(path)
  try {
    const start = performance.now()
    const [tree] = await file.merkleTree()
    return { ms: performance.now() - start, root: tree?.rootHash() }
  } finally {
    await file.close()
  }
}

/** A file of bytes that do not repeat. */
async function writeNoise(path: string, sizeBytes: number): Promise<void> {
  await using file = await open(path, 'wx')
  const words = new Uint32Array(MIB / 4)
  let state = 0x9e3779b9
  for (let written = 0; written < sizeBytes; written += MIB) {
    for (let i = 0; i < words.length; i++) {
      state ^= state << 13
      state ^= state >>> 17
      state ^= state << 5
      words[i] = state
    }
    await file.write(new Uint8Array(words.buffer))
  }
}
