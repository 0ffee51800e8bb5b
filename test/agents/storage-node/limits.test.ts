import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { RunningNode } from '#storage/node/main.ts'
import {
  allSegments,
  finalized,
  framesOf,
  logged,
  makeFile,
  nodeConfig,
  postFrames,
  rawRpc,
  segmentJson,
  type TestFile,
  temporaryFolder,
  until,
  useTestNet,
} from './harness.ts'

const { net, open } = useTestNet()
let node: RunningNode

before(async () => {
  const rpc = {
    maxUploads: 4,
    stallTimeoutMs: 400,
    maxRequestBodyBytes: 2 ** 20,
    maxBodyMemoryBytes: 2 ** 20,
    hashThreads: 0,
  }
  node = await open({ config: { rpc } })
})

async function submitted(file: TestFile): Promise<number> {
  const seq = await net.submit(file)
  await logged(node.url, seq)
  return seq
}

/** Sends the head and a part of an upload, then nothing; gives the answer. */
async function stall(seq: number, body: Buffer, announced: number): Promise<string> {
  const { hostname, port } = new URL(node.url)
  const socket = connect(Number(port), hostname)
  socket.write(
    `POST /v1/files/${seq}/segments HTTP/1.1\r\nhost: ${hostname}\r\ncontent-type: application/octet-stream\r\ncontent-length: ${announced}\r\n\r\n`,
  )
  socket.write(body)
  let answer = ''
  socket.on('data', (data) => {
    answer += String(data)
  })
  socket.on('error', () => {})
  await until('an answer to a stalled upload', () => answer.includes('\r\n\r\n') && answer.includes('}'))
  socket.destroy()
  return answer
}

// Uploads that stall are cut off with a reason, keep what they brought whole, and do not keep others out for good.
test('cuts off uploads that stall', async () => {
  const file = await makeFile(600_000)
  const seq = await submitted(file)
  const good = framesOf(file, [0])
  const body = Buffer.concat([good, framesOf(file, [1]).subarray(0, 5_000)])
  const stalled = Promise.all(Array.from({ length: 8 }, () => stall(seq, body, 1_000_000)))
  const answer = await postFrames(node.url, seq, framesOf(file, [2]))
  assert.deepEqual([answer.status, answer.stored], [200, 1])
  const answers = await stalled
  for (const text of answers) assert.match(text, /^HTTP\/1\.1 408 [\s\S]*REQUEST_STALLED/)
  assert.equal((await postFrames(node.url, seq, framesOf(file, [0, 1, 2]))).finalized, true)
})

// A caller that goes away in the middle leaves nothing behind but the segments it brought whole.
test('bears callers that hang up', async () => {
  const file = await makeFile(2_000_000)
  const seq = await submitted(file)
  const body = framesOf(file, allSegments(file))
  for (let cut = 1; cut <= 12; cut++) {
    const { hostname, port } = new URL(node.url)
    const upload = httpRequest({
      hostname,
      port,
      method: 'POST',
      path: `/v1/files/${seq}/segments`,
      headers: { 'content-type': 'application/octet-stream', 'content-length': body.length },
    })
    upload.on('error', () => {})
    const closed = new Promise((resolve) => upload.once('close', resolve))
    upload.write(body.subarray(0, Math.floor((body.length * cut) / 13)), () => upload.destroy())
    await closed
  }
  for (let i = 0; i < 6; i++) {
    const download = await fetch(`${node.url}/v1/files/${seq}/segments`)
    await download.body?.cancel()
  }
  const answer = await postFrames(node.url, seq, body)
  assert.deepEqual([answer.status, answer.finalized], [200, true])
  const frames = Buffer.from(await (await fetch(`${node.url}/v1/files/${seq}/segments`)).arrayBuffer())
  assert.ok(frames.equals(body), 'the frames differ')
})

// More than a request may bring is refused by name, on either path; large bodies wait their turn rather than fail.
test('bounds requests', async () => {
  const file = await makeFile(700_000)
  const seq = await submitted(file)
  const { hostname, port } = new URL(node.url)
  const huge = httpRequest({
    hostname,
    port,
    method: 'POST',
    path: `/v1/files/${seq}/segments`,
    headers: { 'content-type': 'application/octet-stream', 'content-length': 65 * 2 ** 20 },
  })
  huge.on('error', () => {})
  huge.write(framesOf(file, [0]))
  const [answer] = await once(huge, 'response')
  assert.equal(answer.statusCode, 413)
  huge.destroy()
  const large = await rawRpc(node.url, {
    jsonrpc: '2.0',
    id: 1,
    method: 'zgs_getStatus',
    params: ['x'.repeat(2 ** 20)],
  })
  assert.equal(large.error?.code, -32701)
  const results = await Promise.all(
    Array.from({ length: 24 }, (_, i) =>
      rawRpc(node.url, {
        jsonrpc: '2.0',
        id: i,
        method: 'zgs_uploadSegmentsByTxSeq',
        params: [[segmentJson(file, i % 3)], seq],
      }),
    ),
  )
  for (const { error } of results)
    assert.ok(!error || error.data === 'already uploaded and finalized', JSON.stringify(error))
  await finalized(node.url, seq)
})

// Pages in a browser may use the binary path as well.
test('lets browsers read segments', async () => {
  const file = await makeFile(10)
  const seq = await submitted(file)
  await postFrames(node.url, seq, framesOf(file, [0]))
  const response = await fetch(`${node.url}/v1/files/${seq}/data`, { headers: { origin: 'https://app.example' } })
  assert.equal(response.headers.get('access-control-allow-origin'), '*')
  assert.equal((await response.arrayBuffer()).byteLength, 10)
})

// Memory stays flat while data goes in: 128 MiB over four connections leaves the process below 300 MB.
test('keeps its memory flat', { skip: process.platform !== 'linux' && 'reads /proc' }, async () => {
  const other = await temporaryFolder()
  const { data, chain } = nodeConfig({ net, dataDir: other.path })
  const config = {
    data: { dir: data.dir },
    chain,
    rpc: { listen: '127.0.0.1:0', listenAdmin: '127.0.0.1:0', hashThreads: 0 },
  }
  const script = fileURLToPath(new URL('run-node.ts', import.meta.url))
  const child = spawn(process.execPath, [script, JSON.stringify(config)], { stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    const [line] = await once(child.stdout, 'data')
    const { url } = JSON.parse(String(line)) as { url: string }
    const file = await makeFile(128 * 2 ** 20)
    const seq = await net.submit(file)
    await logged(url, seq)
    const queue = Array.from({ length: 32 }, (_, i) => Array.from({ length: 16 }, (__, k) => i * 16 + k))
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        for (let some = queue.shift(); some; some = queue.shift()) {
          assert.equal((await postFrames(url, seq, framesOf(file, some))).status, 200)
        }
      }),
    )
    await finalized(url, seq)
    const status = await readFile(`/proc/${child.pid}/status`, 'utf8')
    const peakMb = (Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) * 1_024) / 1e6
    assert.ok(peakMb < 300, `the node took ${Math.round(peakMb)} MB`)
  } finally {
    child.kill('SIGTERM')
    await once(child, 'exit')
    await other.remove()
  }
})
