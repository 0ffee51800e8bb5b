import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { rm } from 'node:fs/promises'
import http from 'node:http'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { fileSource } from '#kit/files.ts'
import type { BenchContext } from './context.ts'
import { MIB, rate, type StorageSetup, startStorageSetup, writeNoise } from './storage-setup.ts'

const SERVER = fileURLToPath(new URL('storage-file-server.ts', import.meta.url))

/**
 * `download.throughput`: a file from a storage node in a process of its own to a file here, every segment verified
 * against the root. The peer is the same file over plain HTTP from a Node.js file server, written to disk unverified.
 * Both in turns, the best run of each counts.
 */
export async function bench(context: BenchContext): Promise<void> {
  const setup = await startStorageSetup(context)
  try {
    await throughput(setup, context)
  } finally {
    await setup.stop()
  }
}

async function throughput({ client, dir }: StorageSetup, { quick, signal, report, note }: BenchContext): Promise<void> {
  const sizeBytes = (quick ? 64 : 256) * MIB
  const path = join(dir, 'original')
  const to = join(dir, 'copy')
  await writeNoise({ path, sizeBytes, label: 'download' })
  await using source = await fileSource(path)
  const { root } = await client.storage.upload({ source, signal })
  const server = spawn(process.execPath, [SERVER, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    const [port] = (await once(server.stdout, 'data')) as [Buffer]
    const url = `http://127.0.0.1:${port.toString().trim()}/`
    let bestMs = Number.POSITIVE_INFINITY
    let peerMs = Number.POSITIVE_INFINITY
    // The first round of each meets cold code and is not counted.
    for (let round = 0; round < (quick ? 3 : 5); round++) {
      const ours = await timed(() => client.storage.download({ root, to, signal }))
      await rm(to)
      const peer = await timed(() => plainDownload({ url, to, signal }))
      await rm(to)
      if (round === 0) continue
      bestMs = Math.min(bestMs, ours)
      peerMs = Math.min(peerMs, peer)
      note(`${rate(sizeBytes, ours).toFixed(0)} MiB/s, plain HTTP ${rate(sizeBytes, peer).toFixed(0)} MiB/s`)
    }
    report({
      name: 'download.throughput',
      value: rate(sizeBytes, bestMs),
      unit: 'MiB/s',
      peer: 'plain HTTP, not verified',
      peerValue: rate(sizeBytes, peerMs),
      ratio: peerMs / bestMs,
      detail: { sizeBytes },
    })
  } finally {
    server.kill()
  }
}

async function timed(run: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await run()
  return performance.now() - start
}

async function plainDownload({ url, to, signal }: { url: string; to: string; signal: AbortSignal }): Promise<void> {
  const request = http.get(url, { signal })
  const [response] = (await once(request, 'response')) as [http.IncomingMessage]
  await pipeline(response, createWriteStream(to), { signal })
}
