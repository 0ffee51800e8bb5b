import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { createLog } from '#kit/log.ts'
import type { Hex } from '#protocol/hex.ts'
import { hasWritePermission } from '#protocol/kv/replay.ts'
import { encodeStreamData, type StreamControl, type StreamData } from '#protocol/kv/stream-data.ts'
import { DOWNLOAD_FAILED, Replayer } from '#storage/kv/replayer.ts'
import { LATEST, stateAt } from '#storage/kv/state.ts'
import { KvStore, type LoggedSubmission } from '#storage/kv/store.ts'
import { ValueLog } from '#storage/kv/value-log.ts'

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)
const word = (id: number): Hex => `0x${id.toString(16).padStart(64, '0')}`
const STREAM = word(1)
const OTHER = word(2)
const alice: Hex = `0x${'a1'.repeat(20)}`
const bob: Hex = `0x${'b0'.repeat(20)}`
const carol: Hex = `0x${'ca'.repeat(20)}`
const NEWEST = 2n ** 64n - 1n

let folder: string
let databases = 0
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightless-kv-'))
})
after(() => rm(folder, { recursive: true }))

/** A key-value agent without chain and network: submissions and their data are handed in. */
class Bench {
  readonly store: KvStore
  readonly missing = new Set<number>()
  readonly #data = new Map<number, Uint8Array>()
  #values: ValueLog | undefined
  #seq = 0
  #stop = new AbortController()
  replayer: Replayer | undefined
  #running: Promise<void> | undefined

  constructor() {
    databases += 1
    this.store = new KvStore(join(folder, `${databases}.db`))
    this.store.addStreams([STREAM, OTHER])
  }

  async start(): Promise<void> {
    this.#values ??= await ValueLog.open(join(folder, `${databases}.values`))
    this.#stop = new AbortController()
    this.replayer = new Replayer({
      store: this.store,
      values: this.#values,
      log: createLog({ name: 'kv-test', level: 'silent' }),
      maxDownloadTries: 2,
      downloadTimeoutMs: 1_000,
      retryIntervalMs: 1,
      repairIntervalMs: 20,
      fetchStream: async ({ seq }) => {
        const bytes = this.#data.get(seq)
        if (bytes === undefined || this.missing.has(seq)) throw new Error('no node has it')
        return {
          sizeBytes: bytes.length,
          read: async ({ offset, length }) => bytes.subarray(offset, offset + length),
          [Symbol.asyncDispose]: async () => {},
        }
      },
    })
    this.#running = this.replayer.run(this.#stop.signal)
  }

  /** Logs a submission without waiting for its replay. */
  submit(sender: Hex, data: Partial<StreamData> | Uint8Array, streamIds: Hex[] = [STREAM]): number {
    const seq = this.#seq++
    const bytes = data instanceof Uint8Array ? data : encodeStreamData({ version: NEWEST, ...data })
    this.#data.set(seq, bytes)
    const submission: LoggedSubmission = {
      seq,
      root: word(seq + 1),
      sizeBytes: bytes.length,
      sender,
      streamIds,
      block: seq,
    }
    this.store.log([submission], seq + 1, { number: seq, hash: word(seq) })
    this.replayer?.notify()
    return seq
  }

  /** Logs a submission and gives its result. */
  async play(sender: Hex, data: Partial<StreamData> | Uint8Array, streamIds?: Hex[]): Promise<string | null> {
    const seq = this.submit(sender, data, streamIds)
    return this.result(seq)
  }

  async result(seq: number): Promise<string | null> {
    return this.until(() => this.store.result(seq))
  }

  async until<T>(probe: () => T | null | undefined | false): Promise<T> {
    for (let i = 0; i < 2_000; i++) {
      const found = probe()
      if (found !== null && found !== undefined && found !== false) return found
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    throw new Error('nothing came of it within 4 s')
  }

  async value(key: string, version = LATEST): Promise<string | undefined> {
    const found = this.store.value(STREAM, utf8(key), version)
    return found && this.#values && Buffer.from(await this.#values.read(found)).toString()
  }

  /** Every row that replay decides, for comparing two histories. */
  async dump(): Promise<unknown> {
    const rows: unknown[] = []
    for (const streamId of [STREAM, OTHER]) {
      let found = this.store.neighbour({ streamId, direction: 'next', inclusive: true, version: LATEST })
      while (found !== undefined) {
        const data = this.#values && Buffer.from(await this.#values.read(found)).toString('hex')
        rows.push([streamId, Buffer.from(found.key).toString(), found.version, data])
        const key = found.key
        found = this.store.neighbour({ streamId, key, direction: 'next', inclusive: false, version: LATEST })
      }
    }
    const rights = [alice, bob, carol].map((account) => [
      stateAt(this.store, LATEST).isAdmin({ streamId: STREAM, account }),
      stateAt(this.store, LATEST).isWriterOfStream({ streamId: STREAM, account }),
    ])
    const results = Array.from({ length: this.#seq }, (_, seq) => this.store.result(seq))
    return { rows, rights, results }
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    this.replayer?.notify()
    await this.#running
  }

  async close(): Promise<void> {
    await this.stop()
    await this.#values?.close()
    this.store.close()
  }
}

const write = (key: string, value: string) => ({ streamId: STREAM, key: utf8(key), data: utf8(value) })
const grantWriter = (account: Hex): StreamControl => ({ name: 'GRANT_WRITER_ROLE', streamId: STREAM, account })

describe('replay of stream submissions', () => {
  let bench: Bench
  beforeEach(async () => {
    bench = new Bench()
    await bench.start()
  })
  afterEach(() => bench.close())

  it('commits the first write of a new stream and makes its sender the admin', async () => {
    assert.equal(await bench.play(alice, { writes: [write('k', 'v')] }), 'Commit')
    assert.equal(await bench.value('k'), 'v')
    const state = stateAt(bench.store, LATEST)
    assert.equal(state.isAdmin({ streamId: STREAM, account: alice }), true)
    assert.equal(state.isAdmin({ streamId: STREAM, account: bob }), false)
  })

  it('makes a stranger change nothing, whatever the submission claims', async () => {
    await bench.play(alice, { writes: [write('k', 'v')] })
    assert.equal(await bench.play(bob, { writes: [write('k', 'stolen')] }), 'SenderNoWritePermission')
    assert.equal(
      await bench.play(bob, { controls: [{ name: 'GRANT_ADMIN_ROLE', streamId: STREAM, account: bob }] }),
      'SenderNoWritePermission',
    )
    assert.equal(await bench.value('k'), 'v')
  })

  it('checks versions of reads and writes against the newest write', async () => {
    await bench.play(alice, { writes: [write('a', '1')] })
    await bench.play(alice, { writes: [write('a', '2')] })
    assert.equal(await bench.play(alice, { version: 0n, writes: [write('a', '3')] }), 'VersionConfliction')
    const reads = [{ streamId: STREAM, key: utf8('a') }]
    assert.equal(await bench.play(alice, { version: 0n, reads, writes: [write('b', '1')] }), 'VersionConfliction')
    assert.equal(await bench.play(alice, { version: 1n, reads, writes: [write('b', '1')] }), 'Commit')
    assert.equal(await bench.value('a'), '2')
  })

  it('refuses a write to a stream that is not in the tags', async () => {
    const foreign = { streamId: OTHER, key: utf8('x'), data: utf8('y') }
    assert.equal(await bench.play(alice, { writes: [foreign] }), 'TagsMismatch')
    assert.equal(await bench.play(alice, { writes: [foreign] }, [STREAM, OTHER]), 'Commit')
  })

  it('keeps the last of two writes of one key, and nothing of a deleted one', async () => {
    await bench.play(alice, { writes: [write('a', 'first'), write('b', 'x'), write('a', 'last')] })
    assert.equal(await bench.value('a'), 'last')
    await bench.play(alice, { writes: [write('a', '')] })
    assert.equal(await bench.value('a'), '')
    const first = bench.store.neighbour({ streamId: STREAM, direction: 'next', inclusive: true, version: LATEST })
    assert.equal(first && Buffer.from(first.key).toString(), 'b')
    assert.equal(await bench.value('a', 0), 'last')
  })

  it('lets writers write ordinary keys and only special writers write special ones', async () => {
    await bench.play(alice, { controls: [grantWriter(bob)] })
    assert.equal(await bench.play(bob, { writes: [write('k', 'bob')] }), 'Commit')
    const special: StreamControl = { name: 'SET_KEY_TO_SPECIAL', streamId: STREAM, key: utf8('k') }
    const grant: StreamControl = {
      name: 'GRANT_SPECIAL_WRITER_ROLE',
      ...{ streamId: STREAM, key: utf8('k'), account: carol },
    }
    assert.equal(await bench.play(alice, { controls: [special, grant] }), 'Commit')
    assert.equal(
      await bench.play(bob, { writes: [write('k', 'again')] }),
      `WritePermissionDenied: stream: ${STREAM}, key: k`,
    )
    assert.equal(await bench.play(carol, { writes: [write('k', 'carol')] }), 'Commit')
    assert.equal(
      await bench.play(carol, { writes: [write('j', 'carol')] }),
      `WritePermissionDenied: stream: ${STREAM}, key: j`,
    )
    const state = stateAt(bench.store, LATEST)
    assert.equal(hasWritePermission(state, { streamId: STREAM, key: utf8('k'), account: alice }), true)
  })

  it('lets only those change rights who may, and says what was refused', async () => {
    await bench.play(alice, { controls: [grantWriter(bob)] })
    assert.equal(
      await bench.play(bob, { controls: [{ name: 'REVOKE_WRITER_ROLE', streamId: STREAM, account: alice }] }),
      `AccessControlPermissionDenied: operation: REVOKE_WRITER_ROLE, stream: ${STREAM}, key: NONE, account: ${alice}`,
    )
    assert.equal(await bench.play(bob, { controls: [grantWriter(carol)] }), 'Commit')
    assert.equal(await bench.play(bob, { controls: [{ name: 'RENOUNCE_WRITER_ROLE', streamId: STREAM }] }), 'Commit')
    assert.equal(await bench.play(bob, { writes: [write('k', 'v')] }), 'SenderNoWritePermission')
    assert.equal(await bench.play(carol, { writes: [write('k', 'v')] }), 'Commit')
  })

  it('cannot be made to undo an admin’s renouncement in the same submission', async () => {
    await bench.play(alice, { writes: [write('k', 'v')] })
    const renounce: StreamControl = { name: 'RENOUNCE_ADMIN_ROLE', streamId: STREAM }
    const regrant: StreamControl = { name: 'GRANT_ADMIN_ROLE', streamId: STREAM, account: alice }
    assert.equal(await bench.play(alice, { controls: [renounce, regrant] }), 'Commit')
    assert.equal(stateAt(bench.store, LATEST).isAdmin({ streamId: STREAM, account: alice }), false)
  })

  it('records data that do not parse and goes on', async () => {
    assert.equal(await bench.play(alice, new Uint8Array(7)), 'DataParseError: Invalid stream data')
    assert.equal(await bench.play(alice, { writes: [write('k', 'v')] }), 'Commit')
  })

  it('passes over data nobody has, says so, and repairs the history once they are there', async () => {
    bench.missing.add(1)
    await bench.play(alice, { writes: [write('k', 'one')] })
    const lost = bench.submit(alice, { controls: [grantWriter(bob)] })
    const after = bench.submit(bob, { writes: [write('k', 'two')] })
    assert.equal(await bench.result(lost), DOWNLOAD_FAILED)
    assert.equal(await bench.result(after), 'SenderNoWritePermission')
    assert.match(bench.replayer?.lastError ?? '', /submission 1 .*no node has it/)
    bench.missing.clear()
    await bench.until(() => bench.store.result(after) === 'Commit')
    assert.equal(await bench.value('k'), 'two')
  })

  // Replay from any point gives the same state: a rewind to any submission followed by replay changes nothing.
  it('gives the same state from any point of replay', async () => {
    const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
    console.log(`seed ${seed} (repeat with SEED=${seed})`)
    let state = seed
    const random = (below: number): number => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff
      return (state >> 8) % below
    }
    const people = [alice, bob, carol]
    const pick = <T>(all: readonly T[]): T => all[random(all.length)] as T
    for (let i = 0; i < 40; i++) {
      const data: Partial<StreamData> = {
        version: random(3) === 0 ? BigInt(random(40)) : NEWEST,
        writes: Array.from({ length: random(4) }, () => write(pick(['a', 'b', 'c']), pick(['', 'x', 'yy']))),
        controls:
          random(3) === 0
            ? [grantWriter(pick(people)), { name: 'SET_KEY_TO_SPECIAL', streamId: STREAM, key: utf8(pick(['a', 'b'])) }]
            : [],
      }
      bench.submit(random(3) === 0 ? pick(people) : alice, data)
    }
    const settled = () => bench.store.nextSubmission() === undefined
    await bench.until(settled)
    const expected = await bench.dump()
    for (let i = 0; i < 10; i++) {
      bench.store.rewind(random(40))
      bench.replayer?.notify()
      await bench.until(settled)
      assert.deepEqual(await bench.dump(), expected)
    }
  })

  // A reorganisation takes back every row of the submissions it drops.
  it('takes back what a reorganisation drops', async () => {
    await bench.play(alice, { writes: [write('k', 'kept')] })
    await bench.play(alice, { writes: [write('k', 'dropped')], controls: [grantWriter(bob)] })
    await bench.stop()
    bench.store.revert(0)
    assert.equal(await bench.value('k'), 'kept')
    assert.equal(stateAt(bench.store, LATEST).isWriterOfStream({ streamId: STREAM, account: bob }), false)
    assert.equal(bench.store.result(1), null)
    assert.deepEqual(
      bench.store.checkpoints().map(({ number }) => number),
      [0],
    )
  })
})
