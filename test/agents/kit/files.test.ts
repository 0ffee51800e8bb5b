import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { atomicWrite, FileError, fileSource, freeDiskBytes, readSmallFile } from '#kit/files.ts'
import { ended, printedSeed, runSource, scratchFolder, wrote } from './crash.ts'

async function codeOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof FileError, String(error))
  return error.code
}

describe('a file as a source', () => {
  // Invariant: any range inside the file reads as that slice of its content, also when reads overlap in time.
  it('reads any range', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'f')
    const content = Uint8Array.from({ length: 5_000 }, (_, i) => (i * 7 + 3) & 0xff)
    await writeFile(path, content)
    await using source = await fileSource(path)
    assert.equal(source.sizeBytes, 5_000)
    const range = fc.tuple(fc.nat(5_000), fc.nat(5_000)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const)
    await fc.assert(
      fc.asyncProperty(fc.array(range, { maxLength: 8 }), async (ranges) => {
        await Promise.all(
          ranges.map(async ([from, to]) => {
            assert.deepEqual(await source.read({ offset: from, length: to - from }), content.slice(from, to))
            const target = new Uint8Array(700)
            const count = await source.readInto({ offset: from, target })
            assert.equal(count, Math.min(700, 5_000 - from))
            assert.deepEqual(target.subarray(0, count), content.slice(from, from + count))
          }),
        )
      }),
      { numRuns: 50 },
    )
  })

  it('refuses ranges outside the file', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'f')
    await writeFile(path, 'hello')
    await using source = await fileSource(path)
    for (const [offset, length] of [
      [0, 6],
      [6, 0],
      [-1, 1],
      [0, -1],
      [1.5, 1],
      [0, Number.NaN],
      [2 ** 60, 1],
    ] as const) {
      assert.equal(await codeOf(source.read({ offset, length })), 'FILE_RANGE', `${offset}+${length}`)
    }
    assert.equal((await source.read({ offset: 5, length: 0 })).length, 0)
  })

  it('notices a file that shrinks while it is read', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'f')
    await writeFile(path, 'hello world')
    await using source = await fileSource(path)
    await truncate(path, 3)
    assert.equal(await codeOf(source.read({ offset: 0, length: 11 })), 'FILE_CHANGED')
  })

  it('tells a missing file, a folder and a device apart', async () => {
    await using folder = await scratchFolder()
    await symlink(join(folder.path, 'nowhere'), join(folder.path, 'dangling'))
    assert.equal(await codeOf(fileSource(join(folder.path, 'nope'))), 'FILE_MISSING')
    assert.equal(await codeOf(fileSource(join(folder.path, 'dangling'))), 'FILE_MISSING')
    assert.equal(await codeOf(fileSource(folder.path)), 'FILE_KIND')
    assert.equal(await codeOf(fileSource('/dev/null')), 'FILE_KIND')
  })

  it('bounds small files', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'f')
    await writeFile(path, 'é'.repeat(50))
    assert.equal(await readSmallFile({ path, maxBytes: 100 }), 'é'.repeat(50))
    assert.equal(await codeOf(readSmallFile({ path, maxBytes: 99 })), 'FILE_RANGE')
    assert.equal(await codeOf(readSmallFile({ path: `${path}x` })), 'FILE_MISSING')
    assert.equal(await codeOf(readSmallFile({ path: '/dev/zero' })), 'FILE_RANGE')
  })
})

describe('atomic writes', () => {
  it('write with the mode asked for, make folders, and leave nothing beside the file', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'a/b/f')
    await atomicWrite({ path, data: 'one', mode: 0o600 })
    assert.equal((await stat(path)).mode & 0o777, 0o600)
    await atomicWrite({ path, data: Uint8Array.of(1, 2) })
    assert.deepEqual(await readFile(path), Buffer.of(1, 2))
    assert.equal(await codeOf(atomicWrite({ path, data: 'no', exclusive: true })), 'FILE_EXISTS')
    assert.deepEqual(await readFile(path), Buffer.of(1, 2))
    await atomicWrite({ path: `${path}2`, data: 'new', exclusive: true })
    assert.deepEqual((await readdir(join(folder.path, 'a/b'))).sort(), ['f', 'f2'])
  })

  it('fail with a reason and leave no temporary file', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'f')
    await mkdir(join(path, 'full'), { recursive: true })
    assert.equal(await codeOf(atomicWrite({ path, data: 'x' })), 'FILE_WRITE')
    assert.equal(await codeOf(atomicWrite({ path: '/dev/null/x', data: 'x' })), 'FILE_WRITE')
    assert.deepEqual(await readdir(folder.path), ['f'])
  })

  // Invariant: of writers racing for an exclusive name exactly one wins, and its content is whole.
  it('give an exclusive name to one writer', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'f')
    const results = await Promise.allSettled(
      Array.from({ length: 8 }, (_, i) => atomicWrite({ path, data: String(i).repeat(1_000), exclusive: true })),
    )
    const winners = results.flatMap(({ status }, i) => (status === 'fulfilled' ? [i] : []))
    assert.equal(winners.length, 1)
    assert.equal(await readFile(path, 'utf8'), String(winners[0]).repeat(1_000))
  })

  // Invariant: killed at any moment, the file holds one whole content, never a mixture or a part; and not an older one
  // than the last write that was reported done.
  it('leave a whole content when the writer is killed at any moment', async (test) => {
    await using folder = await scratchFolder()
    const { next } = printedSeed((line) => test.diagnostic(line))
    const path = join(folder.path, 'f')
    // Large, so that most moments lie inside a write.
    const content = (value: number): Buffer => Buffer.alloc(2 ** 22, Buffer.of(value >> 8, value, 0x55, 0xaa))
    await atomicWrite({ path, data: content(0) })
    let round = 0
    for (; round < 6; round++) {
      const child = runSource(`
        import { readFileSync } from 'node:fs'
        import { atomicWrite } from '#kit/files.ts'
        const path = ${JSON.stringify(path)}
        console.log('begun')
        for (let v = readFileSync(path).readUInt16BE() + 1; ; v++) {
          await atomicWrite({ path, data: Buffer.alloc(2 ** 22, Buffer.of(v >> 8, v, 0x55, 0xaa)) })
          process.stdout.write(v + '\\n')
        }
      `)
      const end = ended(child)
      await wrote(child, 'begun')
      setTimeout(() => child.kill('SIGKILL'), next(150))
      const { output, signal } = await end
      assert.equal(signal, 'SIGKILL', output)
      const reported = Number(output.match(/(\d+)\n(?!.*\d+\n)/s)?.[1] ?? 0)
      const found = await readFile(path)
      const value = found.length < 2 ? -1 : found.readUInt16BE()
      assert.ok(found.equals(content(value)), `round ${round}: ${found.length} bytes, not all of write ${value}`)
      assert.ok(value >= reported, `write ${reported} was reported done, the file has ${value}`)
    }
  })
})

describe('free disk space', () => {
  it('is told for a path that does not exist yet', async () => {
    await using folder = await scratchFolder()
    const free = await freeDiskBytes(join(folder.path, 'not/yet/there'))
    assert.ok(Number.isSafeInteger(free) && free > 0)
  })
})
