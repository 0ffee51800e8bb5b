import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { describe, it } from 'node:test'
import type { Worker } from 'node:worker_threads'
import { KernelPool } from '#kernels/kernel-pool.ts'
import { segmentRoot } from '#kernels/merkle.ts'
import { MerklePool } from '#kernels/merkle-pool.ts'
import { seededBytes } from '../protocol/vectors.ts'

describe('merkle pool', () => {
  // Workers have memories of their own: many jobs over different data at once give the digests of one thread.
  it('gives the same roots as this thread while all workers are busy', async () => {
    const pool = await MerklePool.create({ workers: 3 })
    try {
      const jobs = Array.from({ length: 200 }, (_, i) => ({ data: seededBytes(20_000 + i * 1000, i), sectors: 1024 }))
      const roots = await Promise.all(jobs.map(({ data, sectors }) => pool.segmentRoot(data, sectors)))
      jobs.forEach(({ data, sectors }, i) => {
        assert.deepEqual(roots[i], segmentRoot(data, sectors), `job ${i}`)
      })
    } finally {
      await pool.close()
    }
  })

  it('hashes several segments of a slot filled in place', async () => {
    const pool = await MerklePool.create({ workers: 1 })
    try {
      const slot = await pool.claim()
      const data = seededBytes(700_000, 9)
      slot.input.fill(0xff)
      slot.input.set(data)
      const roots = await slot.segmentRoots({ dataBytes: 700_000, paddedSectors: 2816 })
      slot.release()
      const wanted = [0, 1, 2].map((i) => segmentRoot(data.subarray(i * 262144, (i + 1) * 262144), i < 2 ? 1024 : 768))
      assert.deepEqual(Buffer.from(roots), Buffer.concat(wanted))
    } finally {
      await pool.close()
    }
  })

  it('serves claims in the order of asking, no more at once than there are slots', async () => {
    const pool = await MerklePool.create({ workers: 1 })
    try {
      const held = [await pool.claim(), await pool.claim()]
      const order: number[] = []
      const waiting = [1, 2, 3].map(async (i) => {
        const slot = await pool.claim()
        order.push(i)
        slot.release()
      })
      await new Promise((resolve) => setImmediate(resolve))
      assert.deepEqual(order, [])
      for (const slot of held) slot.release()
      await Promise.all(waiting)
      assert.deepEqual(order, [1, 2, 3])
    } finally {
      await pool.close()
    }
  })

  it('refuses what does not fit, and stays usable', async () => {
    const pool = await MerklePool.create({ workers: 1 })
    try {
      await assert.rejects(pool.segmentRoot(new Uint8Array(262145), 1024), { code: 'KERNEL_INPUT' })
      const slot = await pool.claim()
      await assert.rejects(slot.segmentRoots({ dataBytes: 1, paddedSectors: 4097 }), { code: 'KERNEL_INPUT' })
      await assert.rejects(slot.segmentRoots({ dataBytes: 300, paddedSectors: 1 }), { code: 'KERNEL_INPUT' })
      slot.release()
      await assert.rejects(slot.segmentRoots({ dataBytes: 1, paddedSectors: 1 }), { code: 'KERNEL_INPUT' })
      const data = seededBytes(100_000)
      assert.deepEqual(await pool.segmentRoot(data, 400), segmentRoot(data, 400))
    } finally {
      await pool.close()
    }
  })

  it('lets running jobs end on close and refuses everything after', async () => {
    const pool = await MerklePool.create({ workers: 1 })
    const data = seededBytes(262144)
    const slots = [await pool.claim(), await pool.claim()]
    const waiting = pool.claim()
    slots[0]?.input.set(data)
    const running = slots[0]?.segmentRoots({ dataBytes: 262144, paddedSectors: 1024 })
    const closed = pool.close()
    await assert.rejects(waiting, { code: 'KERNEL_POOL_CLOSED' })
    assert.deepEqual(await running, segmentRoot(data, 1024))
    await closed
    await assert.rejects(pool.claim(), { code: 'KERNEL_POOL_CLOSED' })
    await assert.rejects(slots[1]?.segmentRoots({ dataBytes: 1, paddedSectors: 1 }) ?? Promise.resolve(), {
      code: 'KERNEL_POOL_CLOSED',
    })
  })
})

describe('kernel pool', () => {
  const parameters = { workers: 1, slotBytes: 65536, resultBytes: 4096, workBytes: 65536 }

  // A trap fails its own job; the worker and the other slots go on.
  it('reports a trap and goes on', async () => {
    const pool = new KernelPool(parameters)
    try {
      const slot = await pool.claim()
      await assert.rejects(slot.run('leafHashes', 0x7fff0000, slot.outputAddress, 4), { code: 'KERNEL_TRAP' })
      await slot.run('leafHashes', slot.inputAddress, slot.outputAddress, 1)
      assert.equal(Buffer.from(slot.output.subarray(0, 4)).toString('hex'), 'd397b3b0')
      slot.release()
    } finally {
      await pool.close()
    }
  })

  it('starts workers only when they are needed', async () => {
    const pool = new KernelPool({ ...parameters, workers: 2 })
    try {
      assert.equal(pool.running, 0)
      const slot = await pool.claim()
      assert.equal(pool.running, 1)
      slot.release()
      await pool.warm()
      assert.equal(pool.running, 2)
    } finally {
      await pool.close()
    }
  })

  // A dead worker fails only its own jobs; the next claim gets a fresh worker.
  it('reports a worker that dies and replaces it', async () => {
    const workers: Worker[] = []
    const seen = (worker: Worker) => workers.push(worker)
    process.on('worker', seen)
    const pool = new KernelPool(parameters)
    try {
      const slot = await pool.claim()
      const running = slot.run('segmentRoots', slot.inputAddress, 0, 1 << 28, slot.workAddress, slot.outputAddress)
      const waiting = [pool.claim(), pool.claim()]
      const died = assert.rejects(running, { code: 'KERNEL_WORKER_DIED' })
      await workers[0]?.terminate()
      await died
      slot.release()
      const fresh = await Promise.all(waiting)
      assert.equal(workers.length, 2)
      await fresh[1]?.run('leafHashes', fresh[1].inputAddress, fresh[1].outputAddress, 1)
      assert.equal(Buffer.from(fresh[1]?.output.subarray(0, 4) ?? []).toString('hex'), 'd397b3b0')
    } finally {
      process.off('worker', seen)
      await pool.close()
    }
  })

  // Workers that cannot even start are not replaced for ever.
  it('gives up when workers keep dying', async () => {
    const pool = new KernelPool({
      ...parameters,
      warmUp: () => [{ name: 'leafHashes', arguments: [0x7fff0000, 0, 4], times: 1 }],
    })
    await assert.rejects(pool.claim(), { code: 'KERNEL_WORKER_DIED', details: { deaths: 8, limit: 8 } })
    await assert.rejects(pool.claim(), { code: 'KERNEL_WORKER_DIED' })
    await pool.close()
  })

  it('stops workers that are still starting on close', async () => {
    const pool = new KernelPool(parameters)
    const waiting = pool.claim()
    const refused = assert.rejects(waiting, { code: 'KERNEL_POOL_CLOSED' })
    await pool.close()
    await refused
    assert.equal(pool.running, 0)
  })

  it('lets the process end while workers are idle', () => {
    const pool = new URL('../../../agents/kernels/merkle-pool.ts', import.meta.url).href
    const script = `
      import { sharedMerklePool } from ${JSON.stringify(pool)}
      const pool = await sharedMerklePool()
      const root = await pool.segmentRoot(new Uint8Array(262144), 1024)
      console.log(Buffer.from(root).toString('hex'))`
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      timeout: 30_000,
    })
    assert.equal(status, 0, stderr)
    assert.match(stdout, /^e68d02859bb6211cec64f52368b77d422de3b8eac34bf615942b814b643301b5/)
  })
})
