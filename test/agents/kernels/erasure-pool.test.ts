import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import { bindKernels } from '#kernels/bind.ts'
import { type ErasureExports, erasureModules } from '#kernels/erasure-kernels.ts'
import { combinationScratchBytes, decodeScratchBytes, ErasurePool, treeHashes } from '#kernels/erasure-pool.ts'
import { logarithm } from '#kernels/gf16-twin.ts'
import { locatorLogarithms } from '#kernels/locator.ts'
import { FIRST_FREE_ADDRESS, kernelMemory } from '#kernels/memory.ts'
import { combineTwin, encodeTwin } from '#kernels/reed-solomon-twin.ts'
import { auditPath, leafHash, rowHash, tree } from '../protocol-da/blob-twin.ts'

/** Numbers from a seed, so that a failure can be repeated. */
function generator(seed: number): () => number {
  let state = seed | 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
}

function randomRows({ seed, count, rowBytes }: { seed: number; count: number; rowBytes: number }): Uint8Array[] {
  const next = generator(seed)
  return Array.from({ length: count }, () => Uint8Array.from({ length: rowBytes }, () => next() >>> 11))
}

const code = fc.record({
  seed: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
  log2Data: fc.integer({ min: 0, max: 5 }),
  cosets: fc.integer({ min: 2, max: 5 }),
  rowBytes: fc.constantFrom(64, 128, 192, 576, 1088),
})

describe('the erasure pool', () => {
  let pool: ErasurePool
  before(async () => {
    pool = await ErasurePool.create({ workers: 2, memoryBytes: 16 * 1024 * 1024 })
  })
  after(() => pool.close())

  async function withRegion<Result>(
    bytes: number,
    use: (region: { address: number; bytes: Uint8Array }) => Promise<Result>,
  ) {
    const region = await pool.allocate({ bytes })
    region.bytes.fill(0xa5) // nothing may depend on the memory being clear
    try {
      return await use(region)
    } finally {
      region.release()
    }
  }

  const rowsIn = (bytes: Uint8Array, rowBytes: number, count: number) =>
    Array.from({ length: count }, (_, i) => new Uint8Array(bytes.subarray(i * rowBytes, (i + 1) * rowBytes)))

  it('writes the parity rows of the oracle, for any number of rows, cosets and columns', async () => {
    await fc.assert(
      fc.asyncProperty(code, async ({ seed, log2Data, cosets, rowBytes }) => {
        const data = randomRows({ seed, count: 1 << log2Data, rowBytes })
        const count = cosets << log2Data
        const coded = await withRegion(count * rowBytes, async ({ address, bytes }) => {
          bytes.set(Buffer.concat(data))
          await pool.encode({ address, rowBytes, log2Data, cosets })
          return rowsIn(bytes, rowBytes, count)
        })
        assert.deepEqual(coded, [...data, ...encodeTwin(data, cosets)])
      }),
      { numRuns: 25 },
    )
  })

  it('gives all data rows back from any K rows that are left, and leaves the others as they are', async () => {
    await fc.assert(
      fc.asyncProperty(code, async ({ seed, log2Data, cosets, rowBytes }) => {
        const dataRows = 1 << log2Data
        const count = cosets * dataRows
        const data = randomRows({ seed, count: dataRows, rowBytes })
        const all = [...data, ...encodeTwin(data, cosets)]
        const next = generator(seed ^ 0x5bd1e995)
        const order = Array.from({ length: count }, (_, i) => ({ i, key: next() })).sort((a, b) => a.key - b.key)
        const kept = new Set(order.slice(0, dataRows).map(({ i }) => i))
        const decoded = await decode({ all, kept, log2Data, cosets, rowBytes })
        assert.deepEqual(decoded.slice(0, dataRows), data)
      }),
      { numRuns: 25 },
    )
  })

  it('decodes the worst cases: only one coset of parity left, alternating rows, a burst of losses', async () => {
    const shape = { log2Data: 6, cosets: 3, rowBytes: 640 }
    const data = randomRows({ seed: 7, count: 64, rowBytes: shape.rowBytes })
    const all = [...data, ...encodeTwin(data, shape.cosets)]
    const indexes = all.map((_, i) => i)
    const cases = [
      indexes.slice(64, 128),
      indexes.slice(128),
      indexes.filter((i) => i % 3 === 2),
      indexes.slice(63, 127),
    ]
    for (const kept of cases) {
      const decoded = await decode({ all, kept: new Set(kept), ...shape })
      assert.deepEqual(decoded.slice(0, 64), data)
    }
  })

  it('refuses to decode fewer rows than the code needs', async () => {
    const shape = { log2Data: 3, cosets: 3, rowBytes: 64 }
    const all = randomRows({ seed: 3, count: 24, rowBytes: 64 })
    await assert.rejects(decode({ all, kept: new Set([1, 2, 3, 4, 5, 6, 20]), ...shape }), { code: 'KERNEL_INPUT' })
  })

  function decode({ all, kept, log2Data, cosets, rowBytes }: DecodeCase): Promise<Uint8Array[]> {
    const rowsBytes = all.length * rowBytes
    return withRegion(rowsBytes + decodeScratchBytes({ log2Data, cosets }), async ({ address, bytes }) => {
      for (const i of kept) bytes.set(all[i] ?? new Uint8Array(), i * rowBytes)
      const present = all.map((_, i) => kept.has(i))
      await pool.decode({ address, rowBytes, log2Data, cosets, present, scratch: address + rowsBytes })
      return rowsIn(bytes, rowBytes, all.length)
    })
  }

  it('combines rows as the oracle does, whatever their number and length', async () => {
    for (const [count, rowBytes] of [
      [1, 64],
      [7, 128],
      [9, 320],
      [64, 1088],
      [3, 8256],
    ] as const) {
      const data = randomRows({ seed: count * rowBytes, count, rowBytes })
      const coefficients = randomRows({ seed: 99, count: 1, rowBytes: 8 * rowBytes })[0] ?? new Uint8Array()
      const sums = (count + 8) * rowBytes
      const got = await withRegion(sums + combinationScratchBytes({ count, rowBytes }), async ({ address, bytes }) => {
        bytes.set(Buffer.concat(data))
        bytes.set(coefficients, count * rowBytes)
        await pool.combine({ address, rowBytes, count, coefficients: address + count * rowBytes, sums: address + sums })
        return rowsIn(bytes.subarray(sums), 16, count)
      })
      const words = new Uint16Array(coefficients.slice().buffer)
      assert.deepEqual(
        got,
        data.map((row) => new Uint8Array(combineTwin(row, words).buffer)),
      )
    }
  })

  it('hashes rows of all lengths to the root over their sub-lines, and folds trees of all sizes', async () => {
    for (const [count, rowBytes] of [
      [1, 64],
      [9, 960],
      [8, 1024],
      [17, 1088],
      [5, 3072],
      [11, 7360],
      [3, 32768],
    ] as const) {
      const rows = randomRows({ seed: rowBytes, count, rowBytes })
      const leavesAt = Math.ceil((count * rowBytes) / 64) * 64
      const { leaves, root } = await withRegion(leavesAt + 32 * treeHashes(count), async ({ address, bytes }) => {
        bytes.set(Buffer.concat(rows))
        await pool.hashRows({ address, rowBytes, count, leaves: address + leavesAt })
        const rootAt = (await pool.foldTree({ level: address + leavesAt, count })) - address
        return {
          leaves: rowsIn(bytes.subarray(leavesAt), 32, count),
          root: new Uint8Array(bytes.subarray(rootAt, rootAt + 32)),
        }
      })
      const wanted = rows.map((row) => new Uint8Array(rowHash(row)))
      assert.deepEqual(leaves, wanted)
      assert.deepEqual(root, new Uint8Array(tree(wanted)))
    }
  })

  it('hashes up paths of different lengths at once', async () => {
    const count = 11
    const leaves = randomRows({ seed: 21, count, rowBytes: 32 })
    const root = new Uint8Array(tree(leaves))
    const turnsAt = 32 * count
    const pathsAt = turnsAt + 64
    const roots = await withRegion(pathsAt + 128 * count, async ({ address, bytes }) => {
      bytes.set(Buffer.concat(leaves))
      const turns = new DataView(bytes.buffer, address + turnsAt, 4 * count)
      leaves.forEach((_, index) => {
        const path = auditPath(leaves, index)
        bytes.set(Buffer.concat(path), pathsAt + 128 * index)
        turns.setUint32(4 * index, (path.length << 16) | turnBits(index, count), true)
      })
      const [nodes, paths] = [address, address + pathsAt]
      await pool.climb({ nodes, count, paths, pathBytes: 128, turns: address + turnsAt })
      return rowsIn(bytes, 32, count)
    })
    assert.deepEqual(
      roots,
      leaves.map(() => root),
    )
  })

  it('refuses rows of a wrong length and more rows than it has room for', async () => {
    const wrong = { address: FIRST_FREE_ADDRESS, leaves: FIRST_FREE_ADDRESS }
    for (const [rowBytes, count] of [
      [0, 1],
      [65, 1],
      [32832, 1],
      [64, 0],
      [64, 4097],
    ] as const) {
      await assert.rejects(pool.hashRows({ ...wrong, rowBytes, count }), { code: 'KERNEL_INPUT' })
    }
  })

  it('refuses work after it has been closed', async () => {
    const other = await ErasurePool.create({ workers: 1, memoryBytes: 65536 })
    await other.close()
    await assert.rejects(other.allocate({ bytes: 64 }), { code: 'KERNEL_POOL_CLOSED' })
    await assert.rejects(other.foldTree({ level: 65536, count: 2 }), { code: 'KERNEL_POOL_CLOSED' })
  })
})

describe('the portable trees', () => {
  it('give the hashes of node:crypto, as the wide ones do', () => {
    const memory = kernelMemory({ freeBytes: 4 * 65536 })
    const { hashRows, hashCombinations } = bindKernels<ErasureExports>({
      modules: erasureModules().slice(0, 1),
      memory,
    })
    const bytes = new Uint8Array(memory.buffer)
    const rows = randomRows({ seed: 5, count: 9, rowBytes: 2112 })
    const [data, leaves, scratch] = [FIRST_FREE_ADDRESS + 64, 2 * 65536, 3 * 65536]
    bytes.set(Buffer.concat(rows), data)
    hashRows(data, 2112, 9, leaves, scratch)
    rows.forEach((row, i) => {
      assert.equal(Buffer.compare(bytes.subarray(leaves + 32 * i, leaves + 32 * i + 32), rowHash(row)), 0)
    })
    hashCombinations(data, 13, leaves, scratch)
    for (let i = 0; i < 13; i++) {
      const wanted = leafHash(bytes.subarray(data + 16 * i, data + 16 * i + 16))
      assert.equal(Buffer.compare(bytes.subarray(leaves + 32 * i, leaves + 32 * i + 32), wanted), 0)
    }
  })
})

describe('the locator', () => {
  // Entry x is the logarithm of the product over missing points e other than x of (x − e).
  it('is the sum of logarithms modulo 65535 that defines it', () => {
    const bits = fc.array(fc.boolean(), { minLength: 32, maxLength: 32 })
    fc.assert(
      fc.property(bits, (missing) => {
        const got = locatorLogarithms(Uint8Array.from(missing, Number))
        const wanted = missing.map((_, x) => {
          return missing.reduce((sum, isMissing, e) => sum + (isMissing && e !== x ? logarithm(x ^ e) : 0), 0) % 65_535
        })
        assert.deepEqual([...got], wanted)
      }),
      { numRuns: 50 },
    )
  })
})

interface DecodeCase {
  all: Uint8Array[]
  kept: Set<number>
  log2Data: number
  cosets: number
  rowBytes: number
}

/** Bit s: the hash of step s stands on the left. Levels at which the node has no brother take no step. */
function turnBits(index: number, count: number): number {
  let bits = 0
  let step = 0
  for (let position = index, width = count; width > 1; position >>= 1, width = Math.ceil(width / 2)) {
    if ((position ^ 1) < width) bits |= (position & 1) << step++
  }
  return bits
}
