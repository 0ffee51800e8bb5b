import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { silentLog } from '#kit/log.ts'
import { openDatabase } from '#kit/sqlite.ts'
import { toHex } from '#protocol/hex.ts'
import { FlowTree, type FlowTreeSnapshot } from '#protocol/storage/flow-tree.ts'
import { segmentCount } from '#protocol/storage/padding.ts'
import { submissionSectors } from '#protocol/storage/submission.ts'
import { NodeError } from '#storage/node/error.ts'
import { Intake } from '#storage/node/ingest/intake.ts'
import { thisThread } from '#storage/node/ingest/segment-check.ts'
import { GroupCommit } from '#storage/node/store/group-commit.ts'
import { NodeStore } from '#storage/node/store/node-store.ts'
import { ownsSegment } from '#storage/node/store/own-segments.ts'
import { SlotFiles } from '#storage/node/store/slot-files.ts'
import { dropExpired } from '#storage/node/upkeep/expiry.ts'
import { makeFile, segmentOf, type TestFile, temporaryFolder } from './harness.ts'

const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000)
const SIZES = [1, 3_000, 70_000, 262_144, 700_000, 1_300_000]
const EXPIRY_MS = 1_000

interface ModelTx {
  file: number
  block: number
  startSector: number
  pruned: boolean
}

/** What the store should hold, kept the plain way. */
interface Model {
  txs: ModelTx[]
  /** Flow before each submission. */
  snapshots: FlowTreeSnapshot[]
  /** By file: segments here, and since when no submission names them. */
  held: { segments: Set<number>; unclaimedAt: number | undefined }[]
  block: number
  flow: FlowTree
}

class World {
  readonly model: Model = {
    txs: [],
    snapshots: [],
    held: SIZES.map(() => ({ segments: new Set(), unclaimedAt: undefined })),
    block: 1,
    flow: new FlowTree(),
  }
  now = 1_000_000
  store: NodeStore
  intake: Intake
  readonly #dir: string
  readonly #files: TestFile[]

  constructor(dir: string, files: TestFile[]) {
    this.#dir = dir
    this.#files = files
    ;({ store: this.store, intake: this.intake } = this.#open())
  }

  #open(): { store: NodeStore; intake: Intake } {
    const store = NodeStore.open({
      dataDir: this.#dir,
      identity: { chainId: 1, flow: '0x00' },
      shard: { shardId: 0, numShard: 1 },
      log: silentLog(),
      minFreeBytes: 0,
      now: () => this.now,
    })
    const limits = { maxCachedFileBytes: 2 ** 24, maxCachedBytes: 2 ** 30 }
    return { store, intake: new Intake({ store, hasher: thisThread, ...limits, refusal: () => undefined }) }
  }

  async restart(): Promise<void> {
    await this.store.close()
    ;({ store: this.store, intake: this.intake } = this.#open())
  }

  file(index: number): TestFile {
    const file = this.#files[index]
    if (!file) throw new RangeError(`no file ${index}`)
    return file
  }

  claims(file: number): ModelTx[] {
    return this.model.txs.filter((tx) => tx.file === file)
  }

  owns(tx: ModelTx, index: number): boolean {
    return ownsSegment(this.store.shard, { ...tx, sizeBytes: this.file(tx.file).tree.sizeBytes }, index)
  }

  submit(index: number): void {
    const { model } = this
    const { tree } = this.file(index)
    model.snapshots.push(model.flow.snapshot())
    const { startSector } = model.flow.submit(tree.nodes)
    model.block += 1
    this.store.applyLogs({
      to: { number: model.block, hash: toHex(new Uint8Array(32).fill(model.block % 256)) },
      submissions: [
        {
          seq: model.txs.length,
          startSector,
          sectors: submissionSectors(tree.nodes),
          sizeBytes: tree.sizeBytes,
          nodes: tree.nodes,
          block: model.block,
        },
      ],
    })
    model.txs.push({ file: index, block: model.block, startSector, pruned: false })
    this.#held(index).unclaimedAt = undefined
    this.#dropForeign(index)
  }

  emptyBlock(): void {
    this.model.block += 1
    const hash = toHex(new Uint8Array(32).fill(this.model.block % 256))
    this.store.applyLogs({ to: { number: this.model.block, hash }, submissions: [] })
  }

  revert(blocks: number): void {
    const { model } = this
    const to = model.block - blocks
    if (to < 2) return
    this.store.revertTo(to)
    model.block = to
    const kept = model.txs.filter(({ block }) => block <= to).length
    const gone = model.txs.splice(kept)
    const [before] = model.snapshots.splice(kept)
    if (before) model.flow = FlowTree.restore(before)
    for (const { file } of gone) if (this.claims(file).length === 0) this.#held(file).unclaimedAt = this.now
  }

  async put(index: number, segment: number, bySeq: boolean): Promise<void> {
    const file = this.file(index)
    const local = segment % segmentCount(file.tree.sizeBytes)
    const { data, proof } = segmentOf(file, local)
    const incoming = { root: file.tree.root, sizeBytes: file.tree.sizeBytes, index: local, data, proof }
    const held = this.#held(index)
    const claims = this.claims(index)
    const seq = this.model.txs.findLastIndex((tx) => tx.file === index)
    try {
      const accepted = await this.intake.accept(incoming, bySeq && seq >= 0 ? seq : undefined)
      const result = await accepted.store()
      if (result === 'stored') {
        assert.ok(!held.segments.has(local), 'stored what was here')
        assert.ok(
          claims.length === 0 || claims.some((tx) => !tx.pruned && this.owns(tx, local)),
          'stored what nobody wants',
        )
        held.segments.add(local)
        if (claims.length === 0) held.unclaimedAt = this.now
      } else if (result !== 'foreign') assert.ok(held.segments.has(local), `${result} of what was not here`)
    } catch (error) {
      assert.ok(error instanceof NodeError, String(error))
      assert.ok(['ALREADY_FINALIZED', 'ALREADY_PRUNED'].includes(error.code), error.code)
    }
  }

  prune(seq: number): void {
    const tx = this.model.txs[seq]
    if (!tx) return
    tx.pruned = true
    this.store.prune(seq)
    const objectId = this.store.transactions.get(seq)?.objectId
    if (objectId !== undefined) this.store.dropForeign(objectId, 1_000)
    this.#dropForeign(tx.file)
  }

  damage(index: number, segment: number): void {
    const { tree } = this.file(index)
    const content = this.store.contents.find(tree.root, tree.sizeBytes)
    const local = segment % segmentCount(tree.sizeBytes)
    const row = content && this.store.objects.pieceRow(content.id, local)
    if (!row) return
    this.store.objects.quarantine(row, 'model')
    this.#held(index).segments.delete(local)
  }

  async halve(upper: boolean): Promise<void> {
    const { shardId, numShard } = this.store.shard
    if (numShard >= 4) return
    await this.store.setShard({ shardId: upper ? shardId + numShard : shardId, numShard: numShard * 2 })
    for (const [index] of SIZES.entries()) {
      const { tree } = this.file(index)
      const content = this.store.contents.find(tree.root, tree.sizeBytes)
      if (this.claims(index).length === 0) continue
      if (content) this.store.dropForeign(content.id, 1_000)
      this.#dropForeign(index)
    }
  }

  expire(): void {
    this.now += EXPIRY_MS + 1
    dropExpired({
      store: this.store,
      log: silentLog(),
      now: () => this.now,
      cacheExpiryMs: EXPIRY_MS,
      revertedExpiryMs: EXPIRY_MS,
      maxRevertedBytes: 2 ** 40,
    })
    for (const held of this.model.held) {
      if (held.unclaimedAt === undefined || held.unclaimedAt + EXPIRY_MS > this.now) continue
      held.segments.clear()
      held.unclaimedAt = undefined
    }
  }

  /** The store is what the model says, down to the bytes. */
  async check(): Promise<void> {
    const { model, store } = this
    assert.equal(store.flow.lengthSectors, model.flow.lengthSectors)
    assert.equal(toHex(store.flow.root()), model.flow.root())
    assert.equal(store.transactions.nextSeq, model.txs.length)
    let pieces = 0
    for (const [index, held] of model.held.entries()) {
      const { tree } = this.file(index)
      const content = store.contents.find(tree.root, tree.sizeBytes)
      const here = content ? store.objects.indexes(content.id) : []
      assert.deepEqual(
        here,
        [...held.segments].sort((a, b) => a - b),
        `segments of file ${index}`,
      )
      pieces += here.length
      for (const segment of here) {
        const piece = await store.objects.readPiece(content?.id ?? -1, segment)
        assert.ok(
          piece?.data.equals(Buffer.from(segmentOf(this.file(index), segment).data)),
          'a segment reads back wrong',
        )
      }
    }
    assert.equal(store.objects.storedPieces, pieces + store.objects.quarantinedPieces)
    for (const [seq, tx] of model.txs.entries()) {
      const { segments } = this.#held(tx.file)
      const count = segmentCount(this.file(tx.file).tree.sizeBytes)
      const own = Array.from({ length: count }, (_, i) => i).filter((i) => this.owns(tx, i))
      const complete = own.every((i) => segments.has(i))
      const wanted = tx.pruned ? 'pruned' : complete ? 'finalized' : 'pending'
      assert.equal(store.transactions.get(seq)?.status, wanted, `status of ${seq}`)
    }
  }

  #held(index: number): Model['held'][number] {
    const held = this.model.held[index]
    if (!held) throw new RangeError(`no file ${index}`)
    return held
  }

  #dropForeign(index: number): void {
    const claims = this.claims(index).filter(({ pruned }) => !pruned)
    const { segments } = this.#held(index)
    for (const local of segments) if (!claims.some((tx) => this.owns(tx, local))) segments.delete(local)
  }
}

type Step = (world: World) => void | Promise<void>

function named(name: string, step: Step): Step {
  return Object.assign(step, { toString: () => name, [fc.toStringMethod]: () => name })
}

function steps(): fc.Arbitrary<Step[]> {
  const file = fc.nat(SIZES.length - 1)
  const segment = fc.nat(5)
  return fc.array(
    fc.oneof(
      { weight: 6, arbitrary: file.map((f) => named(`submit ${f}`, (world) => world.submit(f))) },
      {
        weight: 14,
        arbitrary: fc
          .tuple(file, segment, fc.boolean())
          .map(([f, s, bySeq]) => named(`put ${f} ${s} ${bySeq}`, (world) => world.put(f, s, bySeq))),
      },
      { weight: 2, arbitrary: fc.constant(named('empty block', (world) => world.emptyBlock())) },
      {
        weight: 2,
        arbitrary: fc.integer({ min: 1, max: 4 }).map((n) => named(`revert ${n}`, (world) => world.revert(n))),
      },
      { weight: 1, arbitrary: fc.constant(named('restart', (world) => world.restart())) },
      { weight: 1, arbitrary: fc.nat(6).map((seq) => named(`prune ${seq}`, (world) => world.prune(seq))) },
      {
        weight: 2,
        arbitrary: fc.tuple(file, segment).map(([f, s]) => named(`damage ${f} ${s}`, (world) => world.damage(f, s))),
      },
      { weight: 1, arbitrary: fc.boolean().map((upper) => named(`halve ${upper}`, (world) => world.halve(upper))) },
      { weight: 1, arbitrary: fc.constant(named('expire', (world) => world.expire())) },
    ),
    { minLength: 5, maxLength: 40 },
  )
}

// Whatever happens in whatever order (submissions, uploads, reorganisations, restarts, pruning, damage, smaller shards,
// expiry), the store holds what a plain model of it holds, the flow root is the contract's, and a file is finalized
// exactly when every segment of the own shard is here.
test('holds what its model holds', async (t) => {
  t.diagnostic(`SEED=${SEED}`)
  const files = await Promise.all(SIZES.map((size) => makeFile(size, size + 1)))
  const folder = await temporaryFolder()
  let run = 0
  try {
    await fc.assert(
      fc.asyncProperty(steps(), async (sequence) => {
        run += 1
        const world = new World(join(folder.path, String(run)), files)
        try {
          world.emptyBlock()
          for (const step of sequence) {
            await step(world)
            await world.check()
          }
        } finally {
          await world.store.close()
        }
      }),
      { seed: SEED, numRuns: Number(process.env.RUNS ?? 25) },
    )
  } finally {
    await folder.remove()
  }
})

// A write that comes in the very step in which the last group has ended is committed like any other.
test('commits a write that follows right after a commit', async () => {
  const folder = await temporaryFolder()
  const database = openDatabase({ path: join(folder.path, 'a.db'), migrations: ['create table done (n integer)'] })
  const files = new SlotFiles({ dir: join(folder.path, 'data') })
  const commit = new GroupCommit({ database, files })
  const ref = { slotClass: 0, slot: 0 }
  await files.write(ref, new Uint8Array(256))
  for (let n = 0; n < 50; n++) {
    const apply = (): number => Number(database.run('insert into done values (?)', n).changes)
    const write = commit.add({ ref, bytes: 256, apply, committed: () => {} })
    const late = new Promise((_, reject) => {
      setTimeout(() => reject(new Error(`write ${n} was never committed`)), 5_000).unref()
    })
    assert.equal(await Promise.race([write, late]), 1)
  }
  await files.close()
  database.close()
  await folder.remove()
})

// A segment whose submission vanished between its check and its write is refused by name; its place is free again.
test('refuses a segment whose submission was taken back meanwhile', async () => {
  const folder = await temporaryFolder()
  const files = [await makeFile(700_000, 3)]
  const world = new World(folder.path, files)
  world.emptyBlock()
  world.submit(0)
  const { tree } = world.file(0)
  const offer = (index: number) => {
    const { data, proof } = segmentOf(world.file(0), index)
    return world.intake.accept({ root: tree.root, sizeBytes: tree.sizeBytes, index, data, proof }, 0)
  }
  const reverted = await offer(0)
  world.revert(1)
  await assert.rejects(reverted.store(), { code: 'TX_REVERTED', message: 'Transaction reverted, please upload again' })
  world.submit(0)
  const pruned = await offer(1)
  world.prune(0)
  await assert.rejects(pruned.store(), { code: 'ALREADY_PRUNED' })
  assert.equal(world.store.objects.storedPieces, 0)
  await world.store.close()
  await folder.remove()
})
