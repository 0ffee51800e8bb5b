import assert from 'node:assert/strict'
import { open as openFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { RunningNode } from '#storage/node/main.ts'
import { type BulkDisk, localDisk, SLOT_BYTES, type SlotRef } from '#storage/node/store/slot-files.ts'
import {
  allSegments,
  download,
  fileInfo,
  finalized,
  framesOf,
  logged,
  makeFile,
  openNode,
  postFrames,
  rpc,
  rpcError,
  segmentJson,
  temporaryFolder,
  until,
  useTestNet,
} from './harness.ts'

const { net } = useTestNet()

/** The real disk with room for so many bytes. */
function smallDisk(quotaBytes: number): BulkDisk & { quotaBytes: number; syncFails: boolean } {
  let written = 0
  const disk = {
    quotaBytes,
    syncFails: false,
    freeBytes: async () => 2 ** 40,
    async open(path: string) {
      const file = await localDisk.open(path)
      return {
        async write(data: Uint8Array, offset: number, length: number, position: number) {
          // Half of a write may fit: what is left behind must not count as a segment.
          const room = Math.max(0, Math.min(length, disk.quotaBytes - written))
          written += room === length ? room : 0
          await file.write(data, offset, room, position)
          if (room < length) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
          return { bytesWritten: length }
        },
        read: file.read.bind(file),
        datasync: async () => {
          if (disk.syncFails) throw Object.assign(new Error('i/o error'), { code: 'EIO' })
          await file.datasync()
        },
        close: file.close.bind(file),
      }
    },
  }
  return disk
}

async function withNode(
  parameters: Omit<Parameters<typeof openNode>[0], 'net' | 'dataDir'>,
  run: (node: RunningNode, dataDir: string) => Promise<void>,
): Promise<void> {
  const folder = await temporaryFolder()
  const node = await openNode({ ...parameters, net, dataDir: folder.path })
  try {
    await run(node, folder.path)
  } finally {
    await node.close()
    await folder.remove()
  }
}

// A full disk refuses the segment with a typed error, keeps nothing half-written, and does not stop the node; once
// there is room again the upload completes.
test('survives a full disk', async () => {
  const disk = smallDisk(3 * 262_144 + 1_000)
  await withNode({ disk }, async (node) => {
    const file = await makeFile(6 * 262_144)
    const seq = await net.submit(file)
    await logged(node.url, seq)
    const answer = await postFrames(node.url, seq, framesOf(file, allSegments(file)))
    assert.deepEqual([answer.status, answer.code], [507, 'DISK_FULL'])
    assert.equal(answer.details?.stored, 3)
    const error = await rpcError(node.url, 'zgs_uploadSegmentsByTxSeq', [segmentJson(file, 5)], seq)
    assert.deepEqual([error.code, error.message], [-32000, 'the data disk is full: the segment was not stored'])
    assert.equal(node.store.objects.storedPieces, 3)
    for (const index of node.store.objects.indexes(node.store.transactions.get(seq)?.objectId ?? -1)) {
      assert.deepEqual(await rpc(node.url, 'zgs_downloadSegmentWithProofByTxSeq', seq, index), segmentJson(file, index))
    }
    disk.quotaBytes = 2 ** 40
    assert.equal((await postFrames(node.url, seq, framesOf(file, allSegments(file)))).stored, 3)
    await finalized(node.url, seq)
    assert.deepEqual(await download(node.url, seq, file.tree.sizeBytes), Buffer.from(file.bytes))
  })
})

// Segments are refused before the disk is truly full, and the health report says so.
test('keeps the free space it was told to keep', async () => {
  const free = { bytes: 1_000_000 }
  const disk: BulkDisk = { open: localDisk.open, freeBytes: async () => free.bytes }
  await withNode({ disk, config: { data: { minFreeBytes: 900_000 } } }, async (node) => {
    const file = await makeFile(262_144)
    const seq = await net.submit(file)
    await logged(node.url, seq)
    const answer = await postFrames(node.url, seq, framesOf(file, [0]))
    assert.deepEqual([answer.status, answer.code], [507, 'DISK_FULL'])
    free.bytes = 800_000
    const health = await until('health notices', async () => {
      const report = (await (await fetch(`${node.url}/healthz`)).json()) as {
        status: string
        checks: { disk: { spareBytes: number } }
      }
      return report.status === 'degraded' && report
    })
    assert.equal(health.checks.disk.spareBytes, -100_000)
    free.bytes = 10_000_000
    await until('room is noticed', async () => (await postFrames(node.url, seq, framesOf(file, [0]))).status === 200)
  })
})

// When data cannot be made durable, no segment of that moment is acknowledged or counted.
test('acknowledges nothing that could not be synced', async () => {
  const disk = smallDisk(2 ** 40)
  await withNode({ disk }, async (node) => {
    const file = await makeFile(4 * 262_144)
    const seq = await net.submit(file)
    await logged(node.url, seq)
    disk.syncFails = true
    const answer = await postFrames(node.url, seq, framesOf(file, allSegments(file)))
    assert.deepEqual([answer.status, answer.code, answer.details?.stored], [500, 'DISK_FAILURE', 0])
    assert.equal((await fileInfo(node.url, seq))?.uploadedSegNum, 0)
    assert.equal(node.store.objects.storedPieces, 0)
    disk.syncFails = false
    assert.equal((await postFrames(node.url, seq, framesOf(file, allSegments(file)))).finalized, true)
  })
})

async function flipByte(dataDir: string, ref: SlotRef, at: number): Promise<void> {
  const bytes = SLOT_BYTES[ref.slotClass] ?? 0
  const folder = join(dataDir, 'data', `${bytes / 1024}k`)
  const [name] = await readdir(folder)
  const file = await openFile(join(folder, name ?? ''), 'r+')
  const byte = Buffer.alloc(1)
  const position = ref.slot * bytes + at
  await file.read(byte, 0, 1, position)
  byte[0] = (byte[0] ?? 0) ^ 0x40
  await file.write(byte, 0, 1, position)
  await file.close()
}

// One flipped bit in a stored segment is never served: the segment is set aside, the file is no longer finalized, and
// the same segment can be stored again, elsewhere.
test('notices damage when a segment is served', async () => {
  await withNode({}, async (node, dataDir) => {
    const file = await makeFile(900_000)
    const seq = await net.submit(file)
    await logged(node.url, seq)
    await postFrames(node.url, seq, framesOf(file, allSegments(file)))
    await finalized(node.url, seq)
    const objectId = node.store.transactions.get(seq)?.objectId ?? -1
    const row = node.store.objects.pieceRow(objectId, 1)
    assert.ok(row)
    await flipByte(dataDir, row, 123_456)
    assert.equal(await rpc(node.url, 'zgs_downloadSegmentByTxSeq', seq, 1024, 2048), null)
    const info = await fileInfo(node.url, seq)
    assert.deepEqual([info?.finalized, info?.uploadedSegNum], [false, 1])
    assert.equal((await fetch(`${node.url}/v1/files/${seq}/data`)).status, 404)
    const health = (await (await fetch(`${node.url}/healthz`)).json()) as {
      checks: { disk: { damagedSegments: number } }
    }
    assert.equal(health.checks.disk.damagedSegments, 1)
    assert.equal(await rpc(node.url, 'zgs_uploadSegmentsByTxSeq', [segmentJson(file, 1)], seq), 1)
    await finalized(node.url, seq)
    assert.notDeepEqual(node.store.objects.pieceRow(objectId, 1), row)
    assert.deepEqual([node.store.objects.missingDamagedPieces, node.store.objects.quarantinedPieces], [0, 1])
    assert.deepEqual(await download(node.url, seq, 900_000), Buffer.from(file.bytes))
  })
})

// Damage nobody reads is found by the scrubber; even damage that the checksum agrees with fails against the root.
test('notices damage by scrubbing', async () => {
  await withNode({}, async (node, dataDir) => {
    const file = await makeFile(700_000)
    const seq = await net.submit(file)
    await logged(node.url, seq)
    await postFrames(node.url, seq, framesOf(file, allSegments(file)))
    await finalized(node.url, seq)
    while (await node.scrubber.step());
    assert.equal((await fileInfo(node.url, seq))?.finalized, true)
    const objectId = node.store.transactions.get(seq)?.objectId ?? -1
    const first = node.store.objects.pieceRow(objectId, 0)
    assert.ok(first)
    await flipByte(dataDir, first, 5)
    const { crc32 } = await import('node:zlib')
    const second = node.store.objects.pieceRow(objectId, 1)
    assert.ok(second)
    await flipByte(dataDir, second, 7)
    const changed = await node.store.files.read(second, second.bytes)
    node.store.database.run('update piece set crc = ? where object = ? and idx = 1', crc32(changed), objectId)
    while (await node.scrubber.step());
    assert.deepEqual(node.store.objects.indexes(objectId), [2])
    assert.equal((await fileInfo(node.url, seq))?.finalized, false)
    assert.equal(node.store.objects.quarantinedPieces, 2)
  })
})

// When the database cannot grow, segments and submissions are refused as a whole; with room again both go on.
test('survives a database that cannot grow', async () => {
  await withNode({ config: { chain: { pollIntervalMs: 20 } } }, async (node) => {
    const file = await makeFile(48 * 262_144)
    const seq = await net.submit(file)
    await logged(node.url, seq)
    const { database } = node.store
    const pages = database.get<{ page_count: number }>('pragma page_count')?.page_count ?? 0
    database.exec(`pragma max_page_count = ${pages}`)
    const answer = await postFrames(node.url, seq, framesOf(file, allSegments(file)))
    assert.deepEqual([answer.status, answer.code], [507, 'DISK_FULL'])
    const objectId = node.store.transactions.get(seq)?.objectId ?? -1
    assert.equal(node.store.objects.storedPieces, node.store.objects.indexes(objectId).length)
    database.exec('pragma max_page_count = 1073741823')
    database.exec("create trigger no_room before insert on tx begin select raise(abort, 'no room for the log'); end")
    const late = await net.submit(await makeFile(1_000))
    await until('the log sync reports it', async () => {
      const report = (await (await fetch(`${node.url}/healthz`)).json()) as { checks: { log: { lastError: string } } }
      return /no room/.test(report.checks.log.lastError ?? '')
    })
    database.exec('drop trigger no_room')
    await logged(node.url, late)
    await postFrames(node.url, seq, framesOf(file, allSegments(file)))
    await finalized(node.url, seq)
  })
})
