import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { silentLog } from '#kit/log.ts'
import { toHex } from '#protocol/hex.ts'
import { FlowSource } from '#storage/miner/fetch/flow-source.ts'
import { proveSeal, verifyFlowSegment } from '#storage/miner/fetch/segment-tree.ts'
import { ALL_SEALS, type FlowSegment } from '#storage/node/http/flow-frame.ts'
import type { RunningNode } from '#storage/node/main.ts'
import { logged, rpc, seededRandom } from '../storage-node/harness.ts'
import { type MineNet, makeFile, openTestNode, startMineNet, store, type TestFile, temporaryFolder } from './harness.ts'

describe('segments of the flow from a node', () => {
  let net: MineNet
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  let node: RunningNode
  let halves: RunningNode[]
  let flowRoot: `0x${string}`
  let files: { start: number; file: TestFile }[]
  const signal = new AbortController().signal

  // Segment 0 holds small files, one of which nobody uploads; 1 is a gap; 2 to 5 hold a large file, its tail in the last,
  // where another that nobody uploads follows; 6 and 7 are one file.
  before(async () => {
    net = await startMineNet()
    folder = await temporaryFolder()
    node = await openTestNode(net, folder.path)
    halves = [await openTestNode(net, folder.path, '0/2'), await openTestNode(net, folder.path, '1/2')]
    const all = [node, ...halves]
    files = []
    const put = async (file: TestFile, uploaded = true): Promise<void> => {
      const seq = uploaded ? await store(net, all, file) : await net.submit(file)
      for (const each of all) {
        const { tx } = await logged(each.url, seq)
        if (each === node && uploaded) files.push({ start: tx.startEntryIndex, file })
      }
    }
    await put(await makeFile(20_000))
    await put(await makeFile(40_000), false)
    await put(await makeFile(70_000))
    await put(await makeFile(3 * 262_144 + 30_000))
    await put(await makeFile(100_000), false)
    await put(await makeFile(2 * 262_144))
    const [root] = await rpc<[`0x${string}`, number]>(node.url, 'zgs_getFlowContext')
    flowRoot = root
  })
  after(async () => {
    await Promise.all([node, ...(halves ?? [])].map((each) => each?.close()))
    await net?.close()
    await folder.remove()
  })

  const sourceOf = (...nodes: { url: string }[]): FlowSource =>
    new FlowSource({ urls: nodes.map(({ url }) => url), stallTimeoutMs: 5_000, log: silentLog() })

  async function readAll(of: { url: string }, root = flowRoot): Promise<FlowSegment[]> {
    const found: FlowSegment[] = []
    await sourceOf(of).read(
      { from: 0, to: 8, flowRoot: root, signal },
      {
        take: async (segment) => {
          verifyFlowSegment(segment, root)
          found.push(segment)
        },
      },
    )
    return found
  }

  // Whatever a node gives leads to the flow root with its proof, holds every file's bytes at their place, zeros in
  // between, and is called held exactly where all of a seal is there.
  it('hold what was stored, prove it, and name what is missing', async () => {
    const segments = await readAll(node)
    assert.deepEqual(
      segments.map(({ segment }) => segment),
      [0, 1, 2, 3, 4, 5, 6, 7],
    )
    const flow = Buffer.alloc(8 * 262_144)
    for (const { start, file } of files) flow.set(file.bytes, start * 256)
    for (const { segment, data } of segments) {
      assert.equal(Buffer.compare(data, flow.subarray(segment * 262_144, (segment + 1) * 262_144)), 0, `${segment}`)
    }
    const [first, , , , , tail] = segments
    assert.ok(first && tail)
    assert.equal(first.held & 1n, 0n, 'the seal with the reserved sector is never held')
    // 40 000 bytes are 157 sectors, padded to 160 (heights 7 and 5), from sector 256 to 416: seals 16 to 25.
    const missing = ALL_SEALS ^ first.held
    assert.equal(missing, 1n | (((1n << 10n) - 1n) << 16n), `missing ${missing.toString(2)}`)
    assert.ok(tail.covers.length > 0 && tail.held !== ALL_SEALS && tail.held !== 0n)
    for (const segment of [...segments.slice(1, 5), ...segments.slice(6)]) assert.equal(segment.held, ALL_SEALS)
  })

  // A seal's proof for the contract is the node's own proof of its sectors, without the levels inside the seal.
  it('give the proofs that zgs_getSectorProof gives', async () => {
    for (const given of await readAll(node)) {
      for (const seal of [1, 7, 30, 63]) {
        if (!((given.held >> BigInt(seal)) & 1n)) continue
        const sector = given.segment * 1024 + seal * 16 + 3
        const { lemma } = await rpc<{ lemma: string[] }>(node.url, 'zgs_getSectorProof', sector, flowRoot)
        assert.deepEqual(proveSeal(given, seal, flowRoot), lemma.slice(5, -1), `seal ${seal} of ${given.segment}`)
      }
    }
  })

  // Flipping any bit of data, proof or covers, or calling more held than is, is found out.
  it('cannot be changed unnoticed', async () => {
    const seed = Date.now() % 100_000
    console.log(`seed ${seed}`)
    const random = seededRandom(seed)
    const pick = (count: number): number => Math.floor(random() * count)
    const segments = await readAll(node)
    for (let round = 0; round < 60; round++) {
      const original = segments[pick(segments.length)]
      assert.ok(original)
      const forged = structuredClone(original)
      const flip = (bytes: Uint8Array): void => {
        const at = pick(bytes.length)
        bytes[at] = (bytes[at] ?? 0) ^ (1 << pick(8))
      }
      const inCover = (byte: number): boolean =>
        original.covers.some(({ sector, height }) => byte >= sector * 256 && byte < (sector + 2 ** height) * 256)
      const kind = round % 4
      if (kind === 0) {
        let at = pick(262_144)
        while (inCover(at)) at = pick(262_144)
        forged.data[at] = (forged.data[at] ?? 0) ^ 1
      } else if (kind === 1) flip(forged.siblings[pick(forged.siblings.length)] ?? new Uint8Array(1))
      else if (kind === 2) forged.segment += 1
      else {
        const [cover] = forged.covers
        if (!cover) continue
        if (random() < 0.5 && forged.segment !== 0) flip(cover.hash)
        else forged.held |= 1n << BigInt(Math.floor(cover.sector / 16))
      }
      assert.throws(() => verifyFlowSegment(forged, flowRoot), { code: 'MINER_SEGMENT' }, `kind ${kind}`)
    }
  })

  // Earlier roots of the flow are still proved against, so that an epoch's context can be answered all through it.
  it('are proved against earlier flow roots too', async () => {
    const seen = await rpc<[string, number]>(node.url, 'zgs_getFlowContext')
    await store(net, [node, ...halves], await makeFile(300_000))
    const later = await rpc<[string, number]>(node.url, 'zgs_getFlowContext')
    assert.notDeepEqual(later, seen)
    assert.equal((await readAll(node)).length, 8)
  })

  // Nodes of a shard give their own segments, and a miner turns to the next node when one lies or is gone.
  it('come from the nodes that hold them', async () => {
    const [even, odd] = halves
    assert.ok(even && odd)
    assert.deepEqual(
      (await readAll(even)).map(({ segment }) => segment),
      [0, 2, 4, 6],
    )
    assert.deepEqual(
      (await readAll(odd)).map(({ segment }) => segment),
      [1, 3, 5, 7],
    )
    const source = sourceOf({ url: 'http://127.0.0.1:9' }, node)
    const one = await source.one(1, { flowRoot, signal })
    assert.equal(one?.segment, 1)
    assert.equal(source.problems().length, 1)
  })

  // The zeros that a large file is padded with are mined like data, so they are given and proved too.
  it('hold the padding of large files', async () => {
    const file = await makeFile(65 * 262_144 + 1)
    const seq = await store(net, [node], file)
    const { tx } = await logged(node.url, seq)
    const [root] = await rpc<[`0x${string}`, number]>(node.url, 'zgs_getFlowContext')
    const first = tx.startEntryIndex / 1024
    // 66 segments of data; the tree has room for 128 and is filled in steps of 8: 72 segments, in two nodes.
    const found: FlowSegment[] = []
    const take = async (segment: FlowSegment): Promise<void> => {
      verifyFlowSegment(segment, root)
      found.push(segment)
    }
    await sourceOf(node).read({ from: first + 60, to: first + 80, flowRoot: root, signal }, { take })
    assert.deepEqual(
      found.map(({ segment }) => segment - first),
      Array.from({ length: 12 }, (_, i) => 60 + i),
    )
    for (const { segment, data, held } of found) {
      assert.equal(held, ALL_SEALS)
      const bytes = file.bytes.subarray((segment - first) * 262_144, (segment - first + 1) * 262_144)
      assert.equal(Buffer.compare(data.subarray(0, bytes.length), bytes), 0)
      assert.ok(data.subarray(bytes.length).every((byte) => byte === 0))
    }
  })

  it('are refused for roots the flow never had, and for ranges that are none', async () => {
    const unknown = toHex(new Uint8Array(32).fill(7))
    await assert.rejects(sourceOf(node).one(1, { flowRoot: unknown, signal }), /FLOW_ROOT_UNKNOWN/)
    for (const query of ['from=3&to=3', 'from=-1&to=2', 'from=0&to=70000', 'from=0', 'from=0&to=2&flowRoot=0x12']) {
      const response = await fetch(`${node.url}/v1/flow/segments?${query}`)
      assert.ok([400, 416].includes(response.status), `${query}: ${response.status}`)
      assert.match(JSON.stringify(await response.json()), /"fix"/)
    }
  })
})
