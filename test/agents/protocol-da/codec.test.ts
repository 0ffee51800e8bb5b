import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import type { Worker } from 'node:worker_threads'
import { BlobCodec, type EncodedBlob } from '#protocol/da/blob-codec.ts'
import { type BlobCommitment, blobCommitment } from '#protocol/da/commitment.ts'
import { DATA_ROWS, MAX_BLOB_BYTES, TOTAL_ROWS } from '#protocol/da/constants.ts'
import type { InvalidRowError } from '#protocol/da/error.ts'
import type { RowSlice } from '#protocol/da/slice.ts'
import { toHex } from '#protocol/hex.ts'
import { commitTwin, encodeBlobTwin, sha256, type TwinBlob, vectorPayload } from './blob-twin.ts'

interface Vector {
  sizeBytes: number
  rowBytes: number
  rowRoot: string
  rlcRoot: string
  dataRoot: string
  rlcSha256: string
  rows: { index: number; sha256: string; pathHashes: number; pathSha256: string }[]
}

const file = new URL('../../vectors/da-codec.json', import.meta.url)
const { vectors }: { vectors: Vector[] } = JSON.parse(readFileSync(file, 'utf8'))

const ALL = Array.from({ length: TOTAL_ROWS }, (_, i) => i)

/** Row numbers in an order that the seed decides. */
function shuffled(seed: number): number[] {
  let state = seed | 1
  const keys = ALL.map((index) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) | 0
    return { index, key: state }
  })
  return keys.sort((a, b) => a.key - b.key).map(({ index }) => index)
}

/** Copies, because views end with the blob. */
function slicesOf(blob: EncodedBlob, indexes: readonly number[]): RowSlice[] {
  return indexes.map((index) => ({ ...blob.slice(index), data: new Uint8Array(blob.row(index)) }))
}

function changed(bytes: Uint8Array, at: number): Uint8Array {
  const copy = new Uint8Array(bytes)
  copy[at] = (copy[at] ?? 0) ^ 1
  return copy
}

describe('the blob codec', () => {
  let codec: BlobCodec
  let freeBytes: number
  before(async () => {
    codec = await BlobCodec.create({ workers: 2, memoryBytes: 110 * 1024 * 1024 })
    freeBytes = codec.freeBytes
  })
  after(() => codec.close())

  async function encoded<Result>(data: Uint8Array, use: (blob: EncodedBlob) => Promise<Result>): Promise<Result> {
    const blob = await codec.encode(data)
    try {
      return await use(blob)
    } finally {
      blob.release()
    }
  }

  // The format may never change silently: what is recorded on chains stands for bytes encoded exactly so.
  it('makes the recorded roots, rows, paths and combinations of every vector', async () => {
    for (const vector of vectors) {
      await encoded(vectorPayload(vector.sizeBytes), async ({ commitment, rlc, slice }) => {
        const { header, rowRoot, rlcRoot, dataRoot } = commitment
        const { rows, rlcSha256, ...roots } = vector
        assert.deepEqual(
          { ...roots },
          { sizeBytes: header.sizeBytes, rowBytes: header.rowBytes, rowRoot, rlcRoot, dataRoot },
        )
        assert.equal(toHex(sha256(rlc)), rlcSha256)
        for (const row of rows) {
          const { data, path } = slice(row.index)
          const got = {
            index: row.index,
            sha256: toHex(sha256(data)),
            pathHashes: path.length / 32,
            pathSha256: toHex(sha256(path)),
          }
          assert.deepEqual(got, row)
        }
      })
    }
  })

  it('agrees with the oracle on every row, for sizes around the steps of the row length', async () => {
    for (const sizeBytes of [2, 65_535, 131_072, 200_001]) {
      const data = vectorPayload(sizeBytes)
      const twin = encodeBlobTwin(data)
      await encoded(data, async ({ commitment, rlc, row }) => {
        assert.equal(commitment.dataRoot, twin.dataRoot)
        assert.deepEqual(rlc, twin.rlc)
        for (const index of ALL) assert.equal(Buffer.compare(row(index), twin.rows[index] ?? new Uint8Array()), 0)
      })
    }
  })

  it('has the payload itself in the data rows', async () => {
    const data = vectorPayload(100_000)
    await encoded(data, async ({ row, commitment }) => {
      const rows = Buffer.concat(ALL.slice(0, DATA_ROWS).map(row))
      assert.equal(Buffer.compare(rows.subarray(0, data.length), data), 0)
      assert.equal(rows.length, DATA_ROWS * commitment.header.rowBytes)
      assert.ok(rows.subarray(data.length).every((byte) => byte === 0))
    })
  })

  it('refuses sizes that no blob has', async () => {
    await assert.rejects(codec.encode(new Uint8Array()), { code: 'BLOB_SIZE' })
    await assert.rejects(codec.encode(new Uint8Array(MAX_BLOB_BYTES + 1)), { code: 'BLOB_SIZE' })
    assert.equal(codec.freeBytes, freeBytes)
  })

  // Any 1024 rows give the payload back, whichever they are.
  it('reconstructs from random rows and from the worst sets of rows', async () => {
    for (const sizeBytes of [1, 70_000, 1_050_000]) {
      const data = vectorPayload(sizeBytes)
      const { commitment, slices } = await encoded(data, async (blob) => ({
        commitment: blob.commitment,
        slices: slicesOf(blob, ALL),
      }))
      const sets = [
        ...[1, 2].map((seed) => shuffled(seed).slice(0, DATA_ROWS)),
        ALL.slice(0, DATA_ROWS),
        ALL.slice(DATA_ROWS, 2 * DATA_ROWS),
        ALL.slice(2 * DATA_ROWS),
        ALL.slice(1, DATA_ROWS + 1),
        ALL.filter((index) => index % 3 === 0),
        shuffled(3),
      ]
      for (const set of sets) {
        const rows = set.flatMap((index) => slices[index] ?? [])
        const got = await codec.reconstruct({ commitment, rows })
        assert.equal(Buffer.compare(got, data), 0)
      }
    }
    assert.equal(codec.freeBytes, freeBytes)
  })

  it('refuses to reconstruct from too few rows, also when some come twice, and from rows of a wrong shape', async () => {
    await encoded(vectorPayload(5000), async ({ commitment, slice }) => {
      const rows = ALL.slice(0, DATA_ROWS - 1).map(slice)
      const fails = (extra: { index: number; data: Uint8Array }[]) =>
        codec.reconstruct({ commitment, rows: [...rows, ...extra] })
      await assert.rejects(fails([]), { code: 'BLOB_ROWS_MISSING' })
      await assert.rejects(fails([slice(0)]), { code: 'BLOB_ROWS_MISSING' })
      await assert.rejects(fails([{ index: TOTAL_ROWS, data: slice(0).data }]), { code: 'ROW_INDEX' })
      await assert.rejects(fails([{ index: 1.5, data: slice(0).data }]), { code: 'ROW_INDEX' })
      await assert.rejects(fails([{ index: 2000, data: new Uint8Array(63) }]), { code: 'ROW_LENGTH' })
    })
  })

  // Whichever rows a reader has, a blob that is not an encoding is found out by encoding it again.
  it('finds a changed row when it reconstructs', async () => {
    const { commitment, slices } = await encoded(vectorPayload(90_000), async (blob) => ({
      commitment: blob.commitment,
      slices: slicesOf(blob, ALL.slice(500, 500 + DATA_ROWS)),
    }))
    for (const at of [0, 600, 1023]) {
      const rows = slices.map((slice, i) => (i === at ? { ...slice, data: changed(slice.data, 77) } : slice))
      await assert.rejects(codec.reconstruct({ commitment, rows }), { code: 'BLOB_INCONSISTENT' })
    }
    assert.equal(codec.freeBytes, freeBytes)
  })

  it('finds bytes planted behind the payload', async () => {
    const sizeBytes = 65_000
    const padded = new Uint8Array(65_536)
    padded.set(vectorPayload(sizeBytes))
    padded[65_535] = 1
    const twin = commitTwin({ rows: encodeBlobTwin(padded).rows, sizeBytes })
    const commitment = commitmentOf(twin, sizeBytes)
    const rows = twin.rows.map((data, index) => ({ index, data }))
    await assert.rejects(codec.reconstruct({ commitment, rows }), { code: 'BLOB_INCONSISTENT' })
    await assert.rejects(codec.reconstruct({ commitment, rows: rows.slice(1500) }), { code: 'BLOB_INCONSISTENT' })
    const verifier = await codec.verifier({ commitment, rlc: twin.rlc })
    await verifier.verify([twinSlice(twin, 0), twinSlice(twin, 2000)])
    await assert.rejects(verifier.verify([twinSlice(twin, 1023)]), { code: 'ROW_PADDING', details: { index: 1023 } })
  })

  it('refuses a commitment whose parts contradict each other', async () => {
    await encoded(vectorPayload(70_000), async ({ commitment, rlc, slice }) => {
      const { header } = commitment
      const wrong: BlobCommitment[] = [
        { ...commitment, dataRoot: commitment.rowRoot },
        { ...commitment, header: { ...header, sizeBytes: 70_001 } },
        { ...commitment, header: { ...header, rowBytes: 64 } },
        { ...commitment, rlcRoot: commitment.rowRoot },
      ]
      const rows = ALL.slice(0, DATA_ROWS).map(slice)
      for (const bad of wrong) {
        await assert.rejects(codec.verifier({ commitment: bad, rlc }), { code: 'BLOB_COMMITMENT' })
        await assert.rejects(codec.reconstruct({ commitment: bad, rows }), { code: 'BLOB_COMMITMENT' })
      }
    })
  })

  it('verifies every row of honest blobs, one by one and many at once', async () => {
    for (const sizeBytes of [1, 65_537, 1_100_000]) {
      await encoded(vectorPayload(sizeBytes), async (blob) => {
        const verifier = await codec.verifier(blob)
        await verifier.verify([])
        await verifier.verify(ALL.map(blob.slice))
        for (const index of [0, 1023, 1024, 2047, 2048, 3071]) await verifier.verify([blob.slice(index)])
        verifier.release()
        await assert.rejects(verifier.verify([blob.slice(0)]), RangeError)
      })
    }
    assert.equal(codec.freeBytes, freeBytes)
  })

  it('names the code and the row for each way in which a slice can be wrong', async () => {
    await encoded(vectorPayload(66_000), async (blob) => {
      const verifier = await codec.verifier(blob)
      const [a, b] = [blob.slice(400), blob.slice(2100)]
      const good = [3, 1500, 3070].map(blob.slice)
      const cases: [string, RowSlice[]][] = [
        ['ROW_INDEX', [{ ...a, index: -1 }]],
        ['ROW_INDEX', [{ ...a, index: TOTAL_ROWS }]],
        ['ROW_INDEX', [{ ...a, index: Number.NaN }]],
        ['ROW_INDEX', [a, b, a]],
        ['ROW_LENGTH', [{ ...a, data: a.data.subarray(1) }]],
        ['ROW_LENGTH', [{ ...a, data: new Uint8Array(a.data.length + 64) }]],
        ['ROW_PATH', [{ ...a, path: a.path.subarray(32) }]],
        ['ROW_PATH', [{ ...b, path: new Uint8Array(Buffer.concat([b.path, b.path.subarray(0, 32)])) }]],
        ['ROW_PATH', [{ ...a, data: changed(a.data, 0) }]],
        ['ROW_PATH', [{ ...b, data: changed(b.data, b.data.length - 1) }]],
        ['ROW_PATH', [{ ...a, path: changed(a.path, a.path.length - 1) }]],
        ['ROW_PATH', [{ ...b, path: changed(b.path, 5) }]],
        ['ROW_PATH', [{ ...a, index: 401 }]],
      ]
      for (const [code, wrong] of cases) {
        const index = wrong[code === 'ROW_INDEX' ? wrong.length - 1 : 0]?.index
        await assert.rejects(verifier.verify([...good, ...wrong]), (error: InvalidRowError) => {
          assert.equal(error.code, code)
          assert.ok(Object.is(error.details.index, index), `details name row ${error.details.index}`)
          return true
        })
      }
      await verifier.verify(good)
    })
    assert.equal(codec.freeBytes, freeBytes)
  })

  it('refuses combinations that are not those of the commitment', async () => {
    await encoded(vectorPayload(3000), async ({ commitment, rlc }) => {
      for (const wrong of [changed(rlc, 0), changed(rlc, rlc.length - 1), rlc.subarray(16), new Uint8Array()]) {
        await assert.rejects(codec.verifier({ commitment, rlc: wrong }), { code: 'RLC_ROOT' })
      }
    })
    assert.equal(codec.freeBytes, freeBytes)
  })

  // Rows that were put into the tree by their maker, but are of no code word, are found out row by row and without the
  // data: the parity rows of another blob, one changed row, one changed combination.
  it('finds parity rows of another blob under a commitment that is otherwise right', async () => {
    const sizeBytes = 65_536
    const mine = encodeBlobTwin(vectorPayload(sizeBytes))
    const other = encodeBlobTwin(vectorPayload(sizeBytes - 1))
    const mixed = commitTwin({ rows: [...mine.rows.slice(0, DATA_ROWS), ...other.rows.slice(DATA_ROWS)], sizeBytes })
    const commitment = commitmentOf(mixed, sizeBytes)
    const verifier = await codec.verifier({ commitment, rlc: mixed.rlc })
    await verifier.verify([0, 511, 1023].map((index) => twinSlice(mixed, index)))
    for (const index of [1024, 2047, 2048, 3071]) {
      const rows = [twinSlice(mixed, 5), twinSlice(mixed, index)]
      await assert.rejects(verifier.verify(rows), { code: 'ROW_COMBINATION', details: { index } })
    }
    const rows = mixed.rows.map((data, index) => ({ index, data }))
    for (const set of [rows, rows.slice(500), rows.slice(2048)]) {
      await assert.rejects(codec.reconstruct({ commitment, rows: set }), { code: 'BLOB_INCONSISTENT' })
    }
  })

  it('finds a single row that is not of the code, and combinations made up to fit it', async () => {
    const sizeBytes = 4096
    const honest = encodeBlobTwin(vectorPayload(sizeBytes))
    const rows = honest.rows.map((row, index) => (index === 2500 ? changed(row, 3) : row))
    const forged = commitTwin({ rows, sizeBytes })
    const verifier = await codec.verifier({ commitment: commitmentOf(forged, sizeBytes), rlc: forged.rlc })
    await verifier.verify([twinSlice(forged, 2499)])
    await assert.rejects(verifier.verify([twinSlice(forged, 2500)]), { code: 'ROW_COMBINATION' })
  })

  it('lets blobs wait for memory, and never holds more than it has', async () => {
    const sizes = Array.from({ length: 6 }, (_, i) => 20 * 1024 * 1024 + i) // 63 MiB each of 110
    const payloads = sizes.map((size) => new Uint8Array(size).fill(size & 0xff))
    let held = 0
    let most = 0
    const roots = await Promise.all(
      payloads.map(async (data) => {
        const blob = await codec.encode(data)
        held += 1
        most = Math.max(most, held)
        await new Promise((resolve) => setImmediate(resolve))
        held -= 1
        blob.release()
        return blob.commitment.dataRoot
      }),
    )
    assert.equal(most, 1)
    assert.equal(new Set(roots).size, sizes.length)
    assert.equal(codec.freeBytes, freeBytes)
  })

  it('stops when it is told to, and gives the memory back', async () => {
    const data = new Uint8Array(8 * 1024 * 1024).fill(7)
    const before = AbortSignal.abort(new Error('not now'))
    await assert.rejects(codec.encode(data, { signal: before }), /not now/)
    const abort = new AbortController()
    const running = codec.encode(data, { signal: abort.signal })
    setImmediate(() => abort.abort(new Error('no longer')))
    await assert.rejects(running, /no longer/)
    assert.equal(codec.freeBytes, freeBytes)
  })

  it('encodes, verifies and reconstructs the largest blob', async () => {
    const data = vectorPayload(MAX_BLOB_BYTES)
    const slices = await encoded(data, async (blob) => {
      const indexes = shuffled(11).slice(0, DATA_ROWS)
      return { commitment: blob.commitment, rlc: blob.rlc, rows: slicesOf(blob, indexes) }
    })
    const verifier = await codec.verifier(slices)
    await verifier.verify(slices.rows)
    const got = await codec.reconstruct({ commitment: slices.commitment, rows: slices.rows })
    assert.equal(Buffer.compare(got, data), 0)
  })

  it('does not give out rows of a blob that has been released', async () => {
    const blob = await codec.encode(vectorPayload(100))
    blob.release()
    blob.release()
    assert.throws(() => blob.row(0), RangeError)
    assert.throws(() => blob.slice(0), RangeError)
    assert.equal(codec.freeBytes, freeBytes)
  })

  // A thread that dies fails what it worked on, no more; its memory is whole again and a new thread goes on.
  it('survives the death of a thread', async () => {
    const workers: Worker[] = []
    const seen = (worker: Worker) => workers.push(worker)
    process.on('worker', seen)
    const other = await BlobCodec.create({ workers: 2, memoryBytes: 64 * 1024 * 1024 })
    process.off('worker', seen)
    try {
      const free = other.freeBytes
      const running = other.encode(new Uint8Array(16 * 1024 * 1024).fill(3))
      const died = assert.rejects(running, { code: 'KERNEL_WORKER_DIED' })
      setImmediate(() => void workers[0]?.terminate())
      await died
      assert.equal(other.freeBytes, free)
      const [vector] = vectors
      const blob = await other.encode(vectorPayload(vector?.sizeBytes ?? 0))
      assert.equal(blob.commitment.dataRoot, vector?.dataRoot)
      blob.release()
    } finally {
      await other.close()
    }
  })

  it('lets the process end while its threads are idle', () => {
    const module = new URL('../../../agents/protocol/da/blob-codec.ts', import.meta.url).href
    const script = `
      import { sharedBlobCodec } from ${JSON.stringify(module)}
      const codec = await sharedBlobCodec()
      console.log((await codec.encode(new Uint8Array(1))).commitment.header.rowBytes)`
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      timeout: 60_000,
    })
    assert.equal(status, 0, stderr)
    assert.equal(stdout.trim(), '64')
  })

  it('refuses work after it has been closed', async () => {
    const other = await BlobCodec.create({ workers: 1, memoryBytes: 1024 * 1024 })
    await other.close()
    await assert.rejects(other.encode(new Uint8Array(1)), { code: 'KERNEL_POOL_CLOSED' })
  })
})

function commitmentOf({ rowRoot, rlcRoot }: TwinBlob, sizeBytes: number): BlobCommitment {
  return blobCommitment({ sizeBytes, rowRoot, rlcRoot })
}

function twinSlice(twin: TwinBlob, index: number): RowSlice {
  return { index, data: twin.rows[index] ?? new Uint8Array(), path: twin.path(index) }
}
