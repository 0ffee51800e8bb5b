import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { kernelMemory } from '#kernels/memory.ts'
import { type Region, SharedArena } from '#kernels/shared-arena.ts'

const START = 65_536
const BYTES = 65_536

function arena(): SharedArena {
  return new SharedArena({ memory: kernelMemory({ freeBytes: BYTES }), start: START })
}

describe('the memory of the erasure pool', () => {
  // However regions come and go, no two that are held overlap, and when all are back the memory is whole again.
  it('never gives the same bytes to two callers, and loses none', async () => {
    const steps = fc.array(fc.record({ bytes: fc.integer({ min: 1, max: 20_000 }), drop: fc.nat(20) }), {
      maxLength: 60,
    })
    await fc.assert(
      fc.asyncProperty(steps, async (list) => {
        const memory = arena()
        const held: Region[] = []
        for (const { bytes, drop } of list) {
          if (drop < held.length) held.splice(drop, 1)[0]?.release()
          if (bytes + 64 > memory.freeBytes) continue
          const abort = new AbortController()
          const asked = memory.allocate({ bytes, signal: abort.signal }).catch(() => undefined)
          if (memory.waiting > 0) abort.abort() // enough bytes, but in pieces too small
          const region = await asked
          if (region) held.push(region)
          const sorted = held.map((r) => [r.address, r.address + r.bytes.length] as const).sort((a, b) => a[0] - b[0])
          for (const [i, [start, end]] of sorted.entries()) {
            assert.ok(start >= START && end <= START + BYTES)
            assert.ok(end <= (sorted[i + 1]?.[0] ?? Number.POSITIVE_INFINITY), 'regions overlap')
          }
        }
        for (const region of held) region.release()
        assert.equal(memory.freeBytes, BYTES)
        ;(await memory.allocate({ bytes: BYTES })).release() // in one piece
      }),
      { numRuns: 60 },
    )
  })

  it('lets those wait for whom there is no room, and serves them in the order of asking', async () => {
    const memory = arena()
    const first = await memory.allocate({ bytes: 40_000 })
    const order: string[] = []
    const large = memory.allocate({ bytes: 50_000 }).then((region) => {
      order.push('large')
      return region
    })
    const small = memory.allocate({ bytes: 64 }).then((region) => {
      order.push('small')
      return region
    })
    assert.equal(memory.waiting, 2)
    first.release()
    first.release() // does nothing
    await Promise.all([large, small])
    assert.deepEqual(order, ['large', 'small'])
    ;(await large).release()
    ;(await small).release()
    assert.equal(memory.freeBytes, BYTES)
  })

  it('forgets who gives up waiting, and goes on with those behind', async () => {
    const memory = arena()
    const first = await memory.allocate({ bytes: 60_000 })
    const abort = new AbortController()
    const large = memory.allocate({ bytes: 60_000, signal: abort.signal })
    const small = memory.allocate({ bytes: 640 })
    abort.abort(new Error('enough'))
    await assert.rejects(large, /enough/)
    ;(await small).release()
    await assert.rejects(memory.allocate({ bytes: 64, signal: abort.signal }), /enough/)
    first.release()
    assert.equal(memory.freeBytes, BYTES)
  })

  it('refuses what can never fit, and everything once it is closed', async () => {
    const memory = arena()
    for (const bytes of [0, -1, 1.5, BYTES + 1])
      await assert.rejects(memory.allocate({ bytes }), { code: 'KERNEL_INPUT' })
    const all = await memory.allocate({ bytes: BYTES })
    const waiting = memory.allocate({ bytes: 64 })
    memory.close()
    await assert.rejects(waiting, { code: 'KERNEL_POOL_CLOSED' })
    await assert.rejects(memory.allocate({ bytes: 64 }), { code: 'KERNEL_POOL_CLOSED' })
    all.release()
  })
})
