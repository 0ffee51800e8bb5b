import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { Hex } from '#protocol/hex.ts'
import { type AllStreams, KvStore } from '#storage/kv/store.ts'

const word = (id: number): Hex => `0x${id.toString(16).padStart(64, '0')}`
const SENDER: Hex = `0x${'a1'.repeat(20)}`
const ROOM: AllStreams = { enabled: true, maxStreams: 3, maxBytes: 1_000 }

let folder: string
let stores = 0
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightless-kv-all-'))
})
after(() => rm(folder, { recursive: true }))

function log(store: KvStore, seq: number, streamIds: Hex[], sizeBytes = 10): void {
  const submission = { seq, root: word(seq), sizeBytes, sender: SENDER, streamIds, block: seq }
  store.log([submission], seq + 1, { number: seq, hash: word(seq) })
}

function open(allStreams?: AllStreams): KvStore {
  stores += 1
  return new KvStore(join(folder, `${stores}.db`), allStreams === undefined ? {} : { allStreams })
}

describe('a key-value node that takes every stream', () => {
  it('takes a stream with its first write, and says before that it would', () => {
    const store = open(ROOM)
    assert.equal(store.accepts(word(1)), true)
    assert.equal(store.holds(word(1)), false)
    log(store, 0, [word(1)])
    assert.equal(store.holds(word(1)), true)
    assert.equal(store.nextSubmission()?.seq, 0)
    store.close()
  })

  it('takes no more streams than it has room for, and goes on with those it has', () => {
    const store = open(ROOM)
    for (let seq = 0; seq < 5; seq++) log(store, seq, [word(seq + 1)])
    assert.deepEqual(store.streams(), [word(1), word(2), word(3)])
    assert.equal(store.accepts(word(3)), true)
    assert.equal(store.accepts(word(4)), false)
    for (let seq = 0; seq < 3; seq++) store.settle({ seq, result: 'Commit', valueEnd: 0 })
    assert.equal(store.nextSubmission(), undefined)
    store.close()
  })

  it('takes no further stream once so many bytes are on the chain', () => {
    const store = open(ROOM)
    log(store, 0, [word(1)], 2_000)
    log(store, 1, [word(2)])
    assert.equal(store.accepts(word(2)), false)
    log(store, 2, [word(1)])
    assert.deepEqual(store.streams(), [word(1)])
    store.close()
  })

  // Turning the option on later gives what having had it from the start would have given.
  it('takes what was logged before the option was set, and replays from there', () => {
    const store = open()
    store.addStreams([word(1)])
    log(store, 0, [word(1)])
    log(store, 1, [word(2)])
    store.settle({ seq: 0, result: 'Commit', valueEnd: 0 })
    assert.equal(store.nextSubmission(), undefined)
    assert.equal(store.accepts(word(2)), false)
    store.close()
    const again = new KvStore(join(folder, `${stores}.db`), { allStreams: ROOM })
    assert.equal(again.nextSubmission()?.seq, 1)
    assert.equal(again.result(0), 'Commit')
    again.close()
  })
})
