import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { RunningSigner } from '#da/signer/main.ts'
import { combineTwin } from '#kernels/reed-solomon-twin.ts'
import type { EncodedBlob } from '#protocol/da/blob-codec.ts'
import { blobCommitment, combinationCoefficients } from '#protocol/da/commitment.ts'
import { leafHash, nodeHash, rowLeaf, treeRoot } from '#protocol/da/row-proof.ts'
import { fromHex, toHex } from '#protocol/hex.ts'
import { seededRandom, testSeed } from '../client-da/fault-proxy.ts'
import { type DaNet, openNet, rejectsWith, seededBytes, until } from './harness.ts'
import { post, range, uploadBody } from './raw-upload.ts'

const seed = testSeed()
const random = seededRandom(seed)
console.log(`DA_TEST_SEED=${seed}`)

let net: DaNet
let first: RunningSigner
/** A blob that is paid for, and the address of its rows at the first signer. */
let paid: { blob: EncodedBlob; epoch: number; path: string }
const blobs: EncodedBlob[] = []

async function encode(data: Uint8Array): Promise<EncodedBlob> {
  const blob = await net.codec.encode(data)
  blobs.push(blob)
  return blob
}

async function pay(blob: EncodedBlob): Promise<{ blob: EncodedBlob; epoch: number; path: string }> {
  const [submission] = await net.client().submitBlobs({ blobs: [blob.commitment] })
  assert.ok(submission)
  const { dataRoot, epoch } = submission
  await until('the signers to see the payment', () =>
    net.signers.every(({ store }) => store.submission({ dataRoot, epoch, quorumId: 0 }) !== undefined),
  )
  return { blob, epoch, path: `/v1/blobs/${dataRoot}/rows?epoch=${epoch}&quorum=0` }
}

before(async () => {
  net = await openNet()
  const [signer] = net.signers
  assert.ok(signer)
  first = signer
  paid = await pay(await encode(seededBytes(seed, 5_000)))
})

after(async () => {
  for (const blob of blobs) blob.release()
  await net?.close()
})

function nothingHeld(): void {
  for (const { store } of net.signers) assert.equal(store.held.totals().blobs, 0)
}

// Uploads that are not exactly this signer's rows of a paid blob are refused with a code that says why; nothing stays.
test('wrong uploads are refused by name and leave nothing behind', async () => {
  const { blob, epoch, path } = paid
  const { count, first: from } = first.status().rows ?? { count: 0, first: 0 }
  const own = range(from, count)
  const good = uploadBody(blob, own)
  const unpaid = await encode(seededBytes(seed + 1, 300))
  const other = await encode(seededBytes(seed + 2, 5_000))
  const swapped = [...own.slice(1, 2), ...own.slice(0, 1), ...own.slice(2)]
  const doubled = [...own.slice(0, -1), ...own.slice(-2, -1)]
  const foreignRow = uploadBody(blob, own)
  foreignRow.set(other.row(own[5] ?? 0), good.length - (count - 5) * (10 + blob.commitment.header.rowBytes + 384) + 9)

  const cases: [name: string, path: string, body: Uint8Array, status: number, code: string][] = [
    [
      'unpaid',
      `/v1/blobs/${unpaid.commitment.dataRoot}/rows?epoch=${epoch}`,
      uploadBody(unpaid, own),
      404,
      'BLOB_NOT_PAID',
    ],
    ['another epoch', path.replace(`epoch=${epoch}`, `epoch=${epoch + 1}`), good, 404, 'BLOB_NOT_PAID'],
    ['another quorum', path.replace('quorum=0', 'quorum=1'), good, 404, 'BLOB_NOT_PAID'],
    ['no root', '/v1/blobs/0x12/rows?epoch=1', good, 400, 'WIRE_INVALID'],
    ['no epoch', path.replace(/\?.*/, ''), good, 400, 'REQUEST_INVALID'],
    ['empty', path, new Uint8Array(0), 400, 'BODY_INVALID'],
    ['a wrong size', path, uploadBody(blob, own, { sizeBytes: 5_001 }), 400, 'BLOB_SIZE'],
    ['no size', path, uploadBody(blob, own, { sizeBytes: 0 }), 400, 'BLOB_SIZE'],
    ['the roots of another blob', path, uploadBody(other, own), 400, 'BLOB_ROOT'],
    ['too few rows', path, uploadBody(blob, own.slice(1)), 400, 'BODY_INVALID'],
    ['the rows of another signer', path, uploadBody(blob, range(count, count)), 400, 'ROW_INDEX'],
    ['rows out of order', path, uploadBody(blob, swapped), 400, 'ROW_INDEX'],
    ['a row twice', path, uploadBody(blob, doubled), 400, 'ROW_INDEX'],
    ['a row of another blob', path, foreignRow, 400, 'ROW_PATH'],
    ['a byte too many', path, Buffer.concat([good, Buffer.alloc(1)]), 400, 'BODY_INVALID'],
  ]
  for (const [name, at, body, status, code] of cases) {
    const answer = await post(first.url, at, body)
    assert.deepEqual([answer.status, answer.code], [status, code], name)
  }
  const huge = await post(first.url, path, new Uint8Array(10), { lengthBytes: 2 ** 30, end: false })
  assert.deepEqual([huge.status, huge.code], [413, 'BODY_TOO_LARGE'])
  nothingHeld()
})

// Whatever single bit of an upload is turned, the signer refuses it: no bad row is ever stored or signed.
test('an upload with one bit changed is never stored', async () => {
  const { blob, path } = paid
  const { count, first: from } = first.status().rows ?? { count: 0, first: 0 }
  const good = uploadBody(blob, range(from, count))
  for (let round = 0; round < 40; round++) {
    const body = Buffer.from(good)
    // Half of the tries hit the head, whose bytes are few.
    const at = Math.floor(random() * (round % 2 === 0 ? 16_456 : body.length))
    body[at] = (body[at] ?? 0) ^ (1 << Math.floor(random() * 8))
    const answer = await post(first.url, path, body)
    assert.equal(answer.status, 400, `byte ${at}: ${JSON.stringify(answer)}`)
    assert.equal(answer.signature, undefined)
  }
  nothingHeld()
})

// A matrix that is no code word finds no quorum: the signers that get its false rows see it and refuse.
test('a disperser that sends inconsistent rows gets no certificate', async () => {
  const honest = await encode(seededBytes(seed + 3, 2_000))
  const { header } = honest.commitment
  const rows = range(0, 3_072).map((index) => Uint8Array.from(honest.row(index)))
  // The last two signers' rows are false; the tree over them is right.
  for (let row = 1_600; row < 3_072; row += 7) rows[row]?.set([row & 255], 3)
  const levels = [rows.map(rowLeaf)]
  for (let level = levels[0] ?? []; level.length > 1; levels.push(level)) {
    const below = level
    level = range(0, Math.ceil(below.length / 2)).map((i) => {
      const [left = new Uint8Array(), right] = below.slice(2 * i, 2 * i + 2)
      return right ? nodeHash(left, right) : left
    })
  }
  const rowRoot = toHex(levels.at(-1)?.[0] ?? new Uint8Array())
  const coefficients = new Uint16Array(combinationCoefficients({ header, rowRoot: fromHex(rowRoot) }).slice().buffer)
  const combinations = rows.slice(0, 1_024).map((row) => new Uint8Array(combineTwin(row, coefficients).buffer))
  const rlcRoot = toHex(treeRoot(combinations.map(leafHash)))
  const forged: EncodedBlob = {
    commitment: blobCommitment({ sizeBytes: header.sizeBytes, rowRoot, rlcRoot }),
    rlc: Buffer.concat(combinations),
    row: (index) => rows[index] ?? new Uint8Array(),
    slice: (index) => ({
      index,
      data: rows[index] ?? new Uint8Array(),
      path: Buffer.concat(levels.flatMap((level, height) => level[(index >> height) ^ 1] ?? []).slice(0, 12)),
    }),
    release: () => {},
  }
  const { epoch } = await pay(forged)
  const { dataRoot } = forged.commitment
  const client = net.client({ limits: { signTimeoutMs: 8_000, attempts: 2 } })
  const error = await rejectsWith(
    'QUORUM_NOT_REACHED',
    client.collectSignatures({ blob: forged, submission: { dataRoot, epoch, quorumId: 0 } }),
  )
  const failures = Reflect.get(error, 'failures') as { signer: string; code: string }[]
  assert.deepEqual(
    failures.map(({ signer, code }) => [signer, code]).sort(),
    net.signers
      .slice(2)
      .map(({ address }) => [address, 'ROW_COMBINATION'])
      .sort(),
  )
  for (const { store } of net.signers.slice(2))
    assert.equal(store.held.get({ dataRoot, epoch, quorumId: 0 }), undefined)
  // Its honest-looking half cannot be read either: there is no certificate.
  await rejectsWith('BLOB_UNKNOWN', client.retrieve({ dataRoot }))
})

// The same rows twice give the same signature, and the second upload need not be sent whole.
test('a repeated upload gives the signature that is there', async () => {
  const { blob, path } = paid
  const { count, first: from } = first.status().rows ?? { count: 0, first: 0 }
  const body = uploadBody(blob, range(from, count))
  const one = await post(first.url, path, body)
  assert.equal(one.status, 200, JSON.stringify(one))
  const two = await post(first.url, path, body.subarray(0, 100), { lengthBytes: body.length, end: false })
  assert.equal(two.signature, one.signature)
  assert.equal(first.store.held.totals().rows >= count, true)
})

// An upload to a signer that is full or busy is put off with a code, and taken later.
test('limits on space and uploads answer at once', async () => {
  await first.close()
  const small = await net.start(0, {
    data: { maxBytes: 1.25 * 2 ** 20 },
    uploads: { maxConcurrent: 1, stallTimeoutMs: 400 },
  })
  first = small
  const big = await pay(await encode(seededBytes(seed + 5, 900_000)))
  const small2 = await pay(await encode(seededBytes(seed + 6, 100)))
  const full = await post(small.url, big.path, uploadBody(big.blob, range(0, 768)))
  assert.deepEqual([full.status, full.code], [507, 'SIGNER_FULL'])
  const body = uploadBody(small2.blob, range(0, 768))
  const stalled = post(small.url, small2.path, body.subarray(0, 20_000), { lengthBytes: body.length, end: false })
  await until('the stalled upload to begin', () => small.status().uploads.running === 1)
  const busy = await post(small.url, small2.path, body)
  assert.deepEqual([busy.status, busy.code, busy.retryAfter], [503, 'SIGNER_BUSY', '1'])
  assert.equal((await stalled).code, 'REQUEST_STALLED')
  assert.equal((await post(small.url, small2.path, body)).status, 200)
})

// Rows of an epoch whose blobs can no longer be confirmed are not taken.
test('a stale epoch is refused', async () => {
  const { blob, path } = paid
  await net.nextEpoch()
  await net.nextEpoch()
  const second = net.signers[1]
  assert.ok(second)
  const { count, first: from } = second.status().rows ?? { count: 0, first: 0 }
  const answer = await post(second.url, path, uploadBody(blob, range(from, count)))
  assert.deepEqual([answer.status, answer.code], [410, 'EPOCH_STALE'])
})
