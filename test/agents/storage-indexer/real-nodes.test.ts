import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { createWalletClient, http, publicActions } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { silentLog } from '#kit/log.ts'
import { flowAbi } from '#protocol/abi/flow.ts'
import { encodeDirectory } from '#protocol/storage/directory.ts'
import { buildFileTree, type FileTree, memorySource } from '#protocol/storage/file-tree.ts'
import { segmentCount, segmentDataBytes } from '#protocol/storage/padding.ts'
import { decodeSegmentFrames, encodeSegmentFrame } from '#protocol/storage/segment-frame.ts'
import { submissionSectors } from '#protocol/storage/submission.ts'
import type { RunningIndexer } from '#storage/indexer/main.ts'
import { nodeConfigSchema, type RunningNode, startNode } from '#storage/node/main.ts'
import { type Anvil, DEV_ACCOUNTS, startAnvil } from '../../chain.ts'
import { deployStorageContracts, type StorageContracts } from '../../storage-contracts.ts'
import { patternBytes } from './fake-node.ts'
import { eventually, rpc, startTestIndexer } from './start.ts'

interface StoredFile {
  data: Uint8Array
  tree: FileTree
  txSeq: number
}

/** The indexer on a real chain, with real nodes: two shards twice over. */
describe('an indexer of real nodes', () => {
  let anvil: Anvil
  let contracts: StorageContracts
  let folder: string
  let nodes: RunningNode[]
  let indexer: RunningIndexer

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'weightless-indexer-'))
    anvil = await startAnvil()
    contracts = await deployStorageContracts({ url: anvil.url })
    nodes = []
    for (const shard of ['0/2', '1/2', '0/2', '1/2']) nodes.push(await openNode(shard))
    indexer = await startTestIndexer({ nodes: nodes.map(({ url }) => url), segmentTimeoutMs: 5_000 })
  })

  after(async () => {
    await indexer.close()
    for (const node of nodes) await node.close()
    await anvil.stop()
    await rm(folder, { recursive: true, force: true })
  })

  function openNode(shard: string): Promise<RunningNode> {
    const config = nodeConfigSchema.parse({
      data: { dir: join(folder, `node-${nodes.length}`), shard },
      chain: {
        rpcUrls: [anvil.url],
        flow: contracts.flow,
        startBlock: contracts.block,
        confirmations: 0,
        pollIntervalMs: 50,
      },
      rpc: { listen: '127.0.0.1:0', listenAdmin: '127.0.0.1:0', hashThreads: 0 },
      sync: { auto: false, peers: nodes.map(({ url }) => url), peerRefreshMs: 200 },
    })
    return startNode(config, { log: silentLog() })
  }

  /** Puts a submission on the chain and waits until the front knows it. */
  async function submit(data: Uint8Array): Promise<StoredFile> {
    const tree = await buildFileTree({ source: memorySource(data) })
    const [key] = DEV_ACCOUNTS
    assert.ok(key)
    const account = privateKeyToAccount(key.privateKey)
    const wallet = createWalletClient({ account, transport: http(anvil.url), pollingInterval: 20 }).extend(
      publicActions,
    )
    const hash = await wallet.writeContract({
      address: contracts.flow,
      abi: flowAbi,
      functionName: 'submit',
      args: [
        {
          data: {
            length: BigInt(tree.sizeBytes),
            tags: '0x',
            nodes: tree.nodes.map(({ root, height }) => ({ root, height: BigInt(height) })),
          },
          submitter: account.address,
        },
      ],
      value: BigInt(submissionSectors(tree.nodes)) * contracts.pricePerSector,
      chain: null,
    })
    await wallet.waitForTransactionReceipt({ hash, timeout: 10_000 })
    let txSeq = -1
    await eventually('the submission is logged', async () => {
      const { result } = await rpc(indexer.frontUrl, 'zgs_getFileInfo', [tree.root, true])
      if (result !== null && result !== undefined) txSeq = (result as { tx: { seq: number } }).tx.seq
      return txSeq >= 0
    })
    return { data, tree, txSeq }
  }

  function frame({ data, tree }: StoredFile, index: number): Uint8Array {
    const bytes = new Uint8Array(segmentDataBytes(data.length, index))
    bytes.set(data.subarray(index * 262_144, (index + 1) * 262_144))
    return Buffer.concat(encodeSegmentFrame({ index, proof: tree.proof(index), data: bytes }))
  }

  async function post({
    file,
    body,
    front = indexer.frontUrl,
  }: {
    file: StoredFile
    body: Uint8Array
    front?: string
  }) {
    const response = await fetch(`${front}/v1/files/${file.txSeq}/segments`, {
      method: 'POST',
      headers: { 'content-type': 'application/octet-stream' },
      body: body as Uint8Array<ArrayBuffer>,
    })
    return {
      status: response.status,
      ...((await response.json()) as { stored?: number; finalized?: boolean; code?: string }),
    }
  }

  const all = (file: StoredFile) =>
    Buffer.concat(Array.from({ length: segmentCount(file.data.length) }, (_, i) => frame(file, i)))

  async function store(data: Uint8Array, fronts = [indexer.frontUrl]): Promise<StoredFile> {
    const file = await submit(data)
    for (const front of fronts) {
      const answer = await post({ file, body: all(file), front })
      assert.deepEqual(answer, { status: 200, stored: segmentCount(data.length), finalized: true })
    }
    return file
  }

  test('frames sent to the front end at the shards that own them; what is missing is told and can be sent later', async () => {
    const file = await submit(patternBytes(9 * 262_144 + 100))
    const missing = async () => await (await fetch(`${indexer.frontUrl}/v1/files/${file.txSeq}/missing`)).json()
    assert.deepEqual(await missing(), { segments: [[0, 10]], total: 10 })
    const some = Buffer.concat([0, 1, 4, 9].map((index) => frame(file, index)))
    assert.deepEqual(await post({ file, body: some }), { status: 200, stored: 4, finalized: false })
    assert.deepEqual(await missing(), {
      segments: [
        [2, 4],
        [5, 9],
      ],
      total: 6,
    })
    const forged = Buffer.from(frame(file, 2))
    forged[forged.length - 1] = (forged[forged.length - 1] ?? 0) ^ 1
    const refused = await post({ file, body: forged })
    assert.ok(refused.status >= 400 && refused.status < 500, `status ${refused.status}`)
    assert.equal(refused.code, 'SEGMENT_PROOF')
    const { result: early } = await rpc(indexer.url, 'indexer_getFileLocations', [file.tree.root])
    assert.deepEqual(early, [])
    const rest = Buffer.concat([2, 3, 5, 6, 7, 8].map((index) => frame(file, index)))
    assert.deepEqual(await post({ file, body: rest }), { status: 200, stored: 6, finalized: true })
    assert.deepEqual(await missing(), { segments: [], total: 0 })

    const { result } = await rpc(indexer.url, 'indexer_getFileLocations', [file.tree.root])
    assert.deepEqual(
      (result as { url: string }[]).map(({ url }) => url),
      nodes.slice(0, 2).map(({ url }) => url),
    )
    const raw = Buffer.from(await (await fetch(`${indexer.frontUrl}/v1/files/${file.txSeq}/data`)).arrayBuffer())
    assert.equal(Buffer.compare(raw, file.data), 0)
    const frames = await fetch(`${indexer.frontUrl}/v1/files/${file.txSeq}/segments?from=3&to=6`)
    assert.deepEqual(
      decodeSegmentFrames(new Uint8Array(await frames.arrayBuffer())).map(({ index }) => index),
      [3, 4, 5],
    )
  })

  test('the gateway serves files and directories that lie on shards', async () => {
    const file = await store(patternBytes(700_000))
    const { root } = file.tree
    const description = encodeDirectory({
      type: 'directory',
      name: '/',
      entries: [{ type: 'file', name: 'photo.jpg', sizeBytes: 700_000, roots: [root] }],
    })
    const directory = await store(description)
    const whole = await fetch(`${indexer.url}/file/${directory.tree.root}/photo.jpg`)
    assert.equal(whole.headers.get('content-type'), 'image/jpeg')
    assert.equal(Buffer.compare(Buffer.from(await whole.arrayBuffer()), file.data), 0)
    const part = await fetch(`${indexer.url}/file?root=${root}`, { headers: { range: 'bytes=262000-530000' } })
    assert.equal(part.status, 206)
    assert.equal(Buffer.compare(Buffer.from(await part.arrayBuffer()), file.data.subarray(262_000, 530_001)), 0)
  })

  test('segments posted to the gateway one by one make a file', async () => {
    const file = await submit(patternBytes(2 * 262_144 + 5))
    for (const index of [2, 0, 1]) {
      const data = new Uint8Array(segmentDataBytes(file.data.length, index))
      data.set(file.data.subarray(index * 262_144, (index + 1) * 262_144))
      const response = await fetch(`${indexer.url}/file/segment`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          root: file.tree.root,
          data: Buffer.from(data).toString('base64'),
          index,
          proof: file.tree.proof(index),
          expectedReplica: 2,
        }),
      })
      assert.deepEqual(await response.json(), { code: 0, message: 'Success', data: 'Succeeded to upload segment' })
    }
    const { result } = await rpc(indexer.url, 'indexer_getFileLocations', [file.tree.root])
    assert.equal((result as unknown[]).length, 4)
  })

  test('peers of a node are discovered through its admin port', async (t) => {
    const [first, ...others] = nodes
    const last = nodes.at(-1)
    assert.ok(first && last)
    const finder = await startTestIndexer({
      nodes: [last.url],
      discovery: { adminUrl: last.adminUrl, allowPrivate: true, intervalMs: 200 },
    })
    t.after(() => finder.close())
    await eventually('the other nodes are found', async () => {
      const { result } = await rpc(finder.url, 'indexer_getShardedNodes')
      const found = (result as { discovered: { url: string }[] }).discovered.map(({ url }) => url)
      return [first, ...others.slice(0, -1)].every(({ url }) => found.includes(url))
    })
    // One trusted half and the discovered other half: what they hold together is found.
    const file = await store(patternBytes(300_000))
    const { result } = await rpc(finder.url, 'indexer_getFileLocations', [file.tree.root])
    assert.deepEqual(
      (result as { url: string }[]).map(({ url }) => url).sort(),
      nodes
        .slice(0, 2)
        .map(({ url }) => url)
        .sort(),
    )
  })

  test('a download goes on when the nodes it reads from die, as long as each shard has one left', async () => {
    const file = await store(patternBytes(40 * 262_144), [indexer.frontUrl, `${indexer.frontUrl}/1`])
    const response = await fetch(`${indexer.url}/file?root=${file.tree.root}`)
    const reader = response.body?.getReader()
    const parts: Uint8Array[] = []
    let killed = false
    for (let part = await reader?.read(); part?.value !== undefined; part = await reader?.read()) {
      parts.push(part.value)
      if (killed) continue
      killed = true
      await Promise.all([nodes[0]?.close(), nodes[3]?.close()])
    }
    assert.equal(Buffer.compare(Buffer.concat(parts), file.data), 0)
    await eventually('the dead nodes are no longer listed', async () => {
      const { result } = await rpc(indexer.url, 'indexer_getShardedNodes')
      return (result as { trusted: unknown[] }).trusted.length === 3
    })
    assert.equal(indexer.health().status, 'degraded')
    const again = await fetch(`${indexer.frontUrl}/v1/files/${file.txSeq}/data`)
    assert.equal(Buffer.compare(Buffer.from(await again.arrayBuffer()), file.data), 0)
  })
})
