import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { lockDirectory } from '#kit/directory-lock.ts'
import { ended, runSource, scratchFolder, wrote } from './crash.ts'

describe('the lock of a data folder', () => {
  // Invariant: at any time at most one holder; a holder that dies in any way frees the folder.
  it('has one holder, in this process and among processes', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'node')
    const lock = lockDirectory(path)
    assert.throws(() => lockDirectory(path), { code: 'DIRECTORY_LOCKED' })
    const source = `
      import { lockDirectory } from '#kit/directory-lock.ts'
      lockDirectory(${JSON.stringify(path)})
      console.log('held')
      process.stdin.resume()
    `
    const refused = await ended(runSource(source))
    assert.equal(refused.code, 1)
    assert.match(refused.output, /is in use by another process/)
    lock.release()
    lock.release()
    const holder = runSource(source)
    const end = ended(holder)
    await wrote(holder, 'held')
    assert.throws(() => lockDirectory(path), { code: 'DIRECTORY_LOCKED' })
    holder.kill('SIGKILL')
    await end
    using again = lockDirectory(path)
    assert.equal(again.path, path)
  })

  it('says when there can be no folder', async () => {
    await using folder = await scratchFolder()
    await writeFile(join(folder.path, 'file'), '')
    assert.throws(() => lockDirectory(join(folder.path, 'file')), { code: 'DIRECTORY_LOCK' })
  })
})
