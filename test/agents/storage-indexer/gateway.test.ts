import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import fc from 'fast-check'
import { encodeDirectory } from '#protocol/storage/directory.ts'
import type { RunningIndexer } from '#storage/indexer/main.ts'
import { type FakeFile, type FakeNode, fakeFile, patternBytes, startFakeNode } from './fake-node.ts'
import { startTestIndexer } from './start.ts'

const UNKNOWN: `0x${string}` = `0x${'cd'.repeat(32)}`
const SIZE = 3 * 262_144 + 12_345

describe('the file gateway', () => {
  let file: FakeFile
  let second: FakeFile
  let directory: FakeFile
  let unfinished: FakeFile
  let even: FakeNode
  let odd: FakeNode
  let indexer: RunningIndexer

  before(async () => {
    file = await fakeFile({ data: patternBytes(SIZE), txSeq: 0 })
    second = await fakeFile({ data: patternBytes(1_000), txSeq: 1, startSector: 8192 })
    unfinished = await fakeFile({ data: patternBytes(2_000), txSeq: 3, startSector: 16_384 })
    const description = encodeDirectory({
      type: 'directory',
      name: '/',
      entries: [
        { type: 'file', name: 'read me.txt', sizeBytes: 1_000, roots: [second.root] },
        { type: 'file', name: 'empty.json', sizeBytes: 0, roots: [] },
        { type: 'symbolic', name: 'link', link: '../../etc/passwd' },
        {
          type: 'directory',
          name: 'größe',
          entries: [{ type: 'file', name: 'large.bin', sizeBytes: SIZE + 1_000, roots: [file.root, second.root] }],
        },
        { type: 'file', name: 'lost', sizeBytes: 5, roots: [UNKNOWN] },
      ],
    })
    directory = await fakeFile({ data: description, txSeq: 2, startSector: 12_288 })
    const files = [file, second, directory]
    even = await startFakeNode({ shard: { shardId: 0, numShard: 2 }, files: [...files, unfinished] })
    odd = await startFakeNode({ shard: { shardId: 1, numShard: 2 }, files })
    indexer = await startTestIndexer({ nodes: [even.url, odd.url] })
  })

  after(() => Promise.all([indexer.close(), even.close(), odd.close()]))

  const get = (path: string, init?: RequestInit) => fetch(`${indexer.url}${path}`, init)
  const envelope = async (response: Response) => {
    const { code, message, data } = (await response.json()) as { code: number; message: string; data: unknown }
    return { status: response.status, code, message, data }
  }
  const bytes = async (response: Response) => Buffer.from(await response.arrayBuffer())

  test('a file comes whole by root and by sequence number, with the headers a browser needs', async () => {
    for (const query of [`root=${file.root}`, `root=${file.root.toUpperCase().replace('0X', '0x')}`, 'txSeq=0']) {
      const response = await get(`/file?${query}&name=${encodeURIComponent('bücher.pdf')}`)
      assert.equal(response.status, 200)
      assert.equal(Buffer.compare(await bytes(response), file.data), 0)
      const header = (name: string) => response.headers.get(name)
      assert.equal(header('content-type'), 'application/pdf')
      assert.equal(header('content-length'), String(SIZE))
      assert.equal(header('content-disposition'), `attachment; filename="b_cher.pdf"; filename*=UTF-8''b%C3%BCcher.pdf`)
      assert.equal(header('etag'), `"${file.root}"`)
      assert.equal(header('accept-ranges'), 'bytes')
      assert.equal(header('x-content-type-options'), 'nosniff')
      assert.equal(header('access-control-allow-origin'), '*')
    }
    const unnamed = await get(`/file?root=${second.root}`)
    assert.equal(unnamed.headers.get('content-disposition'), `attachment; filename="${second.root}"`)
    assert.equal(unnamed.headers.get('content-type'), 'application/octet-stream')
    await unnamed.body?.cancel()
  })

  test('HEAD tells the same headers and sends nothing', async () => {
    const response = await get(`/file?root=${file.root}&name=a.txt`, { method: 'HEAD' })
    assert.equal(response.status, 200)
    assert.equal(response.headers.get('content-length'), String(SIZE))
    assert.equal(response.headers.get('content-type'), 'text/plain; charset=utf-8')
    assert.equal((await response.arrayBuffer()).byteLength, 0)
    assert.equal((await get(`/file?root=${UNKNOWN}`, { method: 'HEAD' })).status, 404)
  })

  test('any range gives exactly the bytes asked for, also across segments and fragments', async () => {
    const whole = Buffer.concat([file.data, second.data])
    const large = `/file/${directory.root}/${encodeURIComponent('größe')}/large.bin`
    const size = whole.length
    const position = fc.oneof(fc.nat(size), fc.constantFrom(0, 262_143, 262_144, SIZE - 1, SIZE, size - 1))
    await fc.assert(
      fc.asyncProperty(
        position,
        fc.oneof(fc.nat(600), fc.nat(size)),
        fc.constantFrom('from-to', 'from', 'suffix'),
        async (start, length, form) => {
          const end = Math.min(start + length, size - 1)
          const range =
            form === 'from-to' ? `bytes=${start}-${end}` : form === 'from' ? `bytes=${start}-` : `bytes=-${length}`
          const response = await get(large, { headers: { range } })
          if ((form === 'suffix' && length === 0) || (form !== 'suffix' && start >= size)) {
            assert.equal(response.status, 416)
            assert.equal(response.headers.get('content-range'), `bytes */${size}`)
            await response.body?.cancel()
            return
          }
          const [from, to] =
            form === 'from-to' ? [start, end + 1] : form === 'from' ? [start, size] : [Math.max(0, size - length), size]
          assert.equal(response.status, 206)
          assert.equal(response.headers.get('content-range'), `bytes ${from}-${to - 1}/${size}`)
          assert.equal(response.headers.get('content-length'), String(to - from))
          assert.equal(Buffer.compare(await bytes(response), whole.subarray(from, to)), 0)
        },
      ),
      { numRuns: 60 },
    )
  })

  test('unchanged content is not sent again; a range of changed content becomes the whole', async () => {
    const etag = `"${second.root}"`
    const cached = await get(`/file?root=${second.root}`, { headers: { 'if-none-match': etag } })
    assert.equal(cached.status, 304)
    assert.equal((await cached.arrayBuffer()).byteLength, 0)
    const stale = await get(`/file?root=${second.root}`, { headers: { range: 'bytes=0-9', 'if-range': '"other"' } })
    assert.equal(stale.status, 200)
    assert.equal((await bytes(stale)).length, 1_000)
    const fresh = await get(`/file?root=${second.root}`, { headers: { range: 'bytes=0-9', 'if-range': etag } })
    assert.equal(fresh.status, 206)
    assert.equal((await bytes(fresh)).length, 10)
  })

  test('a directory lists its entries; what is in it is found by path', async () => {
    for (const path of [`/file/${directory.root}/`, '/file/2/', '/file/2/./']) {
      const { status, code, data } = await envelope(await get(path))
      assert.deepEqual([status, code], [200, 0])
      assert.deepEqual(data, [
        { name: 'empty.json', type: 'file', size: 0 },
        { name: 'größe', type: 'directory', size: 0 },
        { name: 'link', type: 'symbolic', size: 0 },
        { name: 'lost', type: 'file', size: 5 },
        { name: 'read me.txt', type: 'file', size: 1_000 },
      ])
    }
    const text = await get('/file/2/read%20me.txt')
    assert.equal(text.headers.get('content-type'), 'text/plain; charset=utf-8')
    assert.equal(text.headers.get('content-disposition'), 'attachment; filename="read me.txt"')
    assert.equal(Buffer.compare(await bytes(text), second.data), 0)
    const empty = await get('/file/2/empty.json')
    assert.deepEqual([empty.status, (await bytes(empty)).length], [200, 0])
    assert.equal(empty.headers.get('content-length'), '0')
    const { data: link } = await envelope(await get('/file/2/link'))
    assert.deepEqual(link, { name: 'link', type: 'symbolic', size: 0, link: '../../etc/passwd' })
  })

  test('every refusal has the status HTTP means and the code clients know', async () => {
    const cases: [path: string, status: number, code: number][] = [
      ['/file', 400, 1],
      ['/file?root=0x12', 400, 1],
      ['/file?txSeq=-1', 400, 1],
      [`/file?root=${UNKNOWN}`, 404, 101],
      ['/file?txSeq=99', 404, 101],
      [`/file?root=${unfinished.root}`, 409, 103],
      ['/file/2/no/such', 404, 104],
      ['/file/2/read me.txt/deeper', 404, 104],
      ['/file/2/lost', 404, 101],
      [`/file/${file.root}/x`, 415, 106],
      ['/file/nonsense/x', 400, 1],
      [`/file/${UNKNOWN}/x`, 404, 101],
      ['/file/2/a%2f..%2fb', 400, 1],
      ['/file/info/nonsense', 400, 1],
      [`/file/info/${UNKNOWN}`, 404, 101],
      ['/files/info', 400, 1],
      [`/files/info?${Array.from({ length: 101 }, () => 'cid=0').join('&')}`, 400, 1],
    ]
    for (const [path, status, code] of cases) {
      const answer = await envelope(await get(path))
      assert.deepEqual([answer.status, answer.code], [status, code], `${path}: ${JSON.stringify(answer)}`)
      assert.equal(typeof answer.message, 'string')
    }
  })

  test('file info by root and by sequence number says finalized only of files that are wholly there', async () => {
    for (const cid of [file.root, '0']) {
      const { status, data } = await envelope(await get(`/file/info/${cid}`))
      const info = data as { tx: { dataMerkleRoot: string; size: number; merkleNodes: unknown[] }; finalized: boolean }
      assert.equal(status, 200)
      assert.equal(info.tx.dataMerkleRoot, file.root)
      assert.equal(info.tx.size, SIZE)
      assert.equal(info.tx.merkleNodes.length, file.tree.nodes.length)
      assert.equal(info.finalized, true)
    }
    const { data } = await envelope(await get(`/file/info/${unfinished.root}`))
    assert.equal((data as { finalized: boolean }).finalized, false)
    const many = await envelope(await get(`/files/info?cid=${second.root}&cid=${UNKNOWN}&cid=bad&cid=2`))
    const [known, unknown, bad, seq] = many.data as [{ tx: { size: number } }, null, string, { tx: { seq: number } }]
    assert.equal(known.tx.size, 1_000)
    assert.equal(unknown, null)
    assert.match(bad, /64 hex digits/)
    assert.equal(seq.tx.seq, 2)
  })

  test('the status of the nodes is the worst of them', async () => {
    const { status, data } = await envelope(await get('/node/status'))
    assert.equal(status, 200)
    assert.equal((data as { nextTxSeq: number }).nextTxSeq, 3)
  })

  test('one segment can be uploaded for the nodes that own it', async () => {
    const proof = file.tree.proof(1)
    const data = Buffer.from(file.data.subarray(262_144, 524_288)).toString('base64')
    const post = async (body: unknown) =>
      envelope(
        await get('/file/segment', {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(body),
        }),
      )
    even.uploads.length = 0
    odd.uploads.length = 0
    const answer = await post({ root: file.root, data, index: 1, proof })
    assert.deepEqual(answer, { status: 200, code: 0, message: 'Success', data: 'Succeeded to upload segment' })
    assert.deepEqual((await post({ txSeq: 0, data, index: 1, proof, expectedReplica: 1 })).code, 0)
    // The file begins at global segment 1, so local segment 1 belongs to the even shard.
    assert.deepEqual([even.uploads.length, odd.uploads.length], [2, 0])
    even.uploadError = { code: -32602, message: 'Invalid params: root', data: 'already uploaded and finalized' }
    assert.equal((await post({ root: file.root, data, index: 1, proof })).code, 0)
    even.uploadError = { code: -32602, message: 'Invalid params: proof', data: 'validation failed' }
    assert.deepEqual(await post({ root: file.root, data, index: 1, proof }), {
      status: 400,
      code: 1,
      message: 'Invalid parameter',
      data: 'validation failed',
    })
    even.uploadError = undefined
    const refusals: [body: unknown, status: number, code: number][] = [
      [{ data, index: 1, proof }, 400, 1],
      [{ root: file.root, index: 1, proof }, 400, 1],
      [{ root: file.root, data, index: -1, proof }, 400, 1],
      [{ root: UNKNOWN, data, index: 1, proof }, 404, 101],
      [{ root: second.root, txSeq: 0, data, index: 1, proof }, 400, 1],
      [{ root: file.root, data, index: 1, proof, expectedReplica: 2 }, 503, 2],
      [{ root: file.root, data: 'A'.repeat(400_000), index: 1, proof }, 400, 1],
      [{ root: file.root, data: 'A'.repeat(1_200_000), index: 1, proof }, 413, 105],
    ]
    for (const [body, status, code] of refusals) {
      const refused = await post(body)
      assert.deepEqual([refused.status, refused.code], [status, code], JSON.stringify(refused))
    }
    const garbage = await envelope(
      await get('/file/segment', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{' }),
    )
    assert.deepEqual([garbage.status, garbage.code], [400, 1])
  })

  test('a page of another origin may ask and read', async () => {
    const response = await get('/file/segment', {
      method: 'OPTIONS',
      headers: {
        origin: 'http://example.org',
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'content-type',
      },
    })
    assert.equal(response.status, 204)
    assert.equal(response.headers.get('access-control-allow-origin'), '*')
  })

  test('metrics count what was served', async () => {
    const text = await (await get('/metrics')).text()
    assert.match(text, /weightless_indexer_segment_reads_total\{outcome="ok"\} [1-9]/)
    assert.match(text, /weightless_indexer_gateway_bytes_total [1-9]/)
    assert.match(text, /weightless_indexer_nodes_usable\{kind="trusted"\} 2/)
    assert.match(text, /weightless_indexer_file_lookups_total\{source="cache"\} [1-9]/)
  })
})

test('a client that takes nothing is cut off, and what it held is given back', async (t) => {
  const file = await fakeFile({ data: patternBytes(64 * 262_144) })
  const node = await startFakeNode({ files: [file] })
  const indexer = await startTestIndexer({ nodes: [node.url], gateway: { stallMs: 200, maxDownloads: 1 } })
  t.after(() => Promise.all([indexer.close(), node.close()]))
  const stalled = await fetch(`${indexer.url}/file?root=${file.root}`)
  assert.equal(stalled.status, 200)
  // The only place is taken by a client that does not read; the next one gets it once that one is cut off.
  const next = await fetch(`${indexer.url}/file?root=${file.root}`)
  assert.equal(next.status, 200)
  assert.equal((await next.arrayBuffer()).byteLength, file.data.length)
  await assert.rejects(async () => await stalled.arrayBuffer())
})

test('files above the limit are refused with both figures', async (t) => {
  const file = await fakeFile({ data: patternBytes(5_000) })
  const node = await startFakeNode({ files: [file] })
  const indexer = await startTestIndexer({ nodes: [node.url], gateway: { maxFileBytes: 4_999 } })
  t.after(() => Promise.all([indexer.close(), node.close()]))
  const response = await fetch(`${indexer.url}/file?root=${file.root}`)
  assert.equal(response.status, 413)
  assert.deepEqual(await response.json(), {
    code: 105,
    message: 'File size too large',
    data: { actual: 5_000, max: 4_999 },
  })
})
