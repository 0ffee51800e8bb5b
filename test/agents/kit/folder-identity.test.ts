import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { claimFolder } from '#kit/folder-identity.ts'
import { scratchFolder } from './crash.ts'

const identity = { chainId: 31337, genesis: `0x${'11'.repeat(32)}`, contract: `0x${'22'.repeat(20)}` }

describe('what a data folder is about', () => {
  // Invariant: a folder is about one thing for good; nothing in it is ever used for another.
  it('is settled by the first to claim it, and refused to others with what differs', async () => {
    await using folder = await scratchFolder()
    const dir = join(folder.path, 'provider')
    await claimFolder({ dir, identity })
    await claimFolder({ dir, identity: { ...identity, contract: identity.contract.toUpperCase().replace('0X', '0x') } })
    for (const other of [{ chainId: 1 }, { genesis: `0x${'12'.repeat(32)}` }, { contract: `0x${'23'.repeat(20)}` }]) {
      await assert.rejects(
        claimFolder({ dir, identity: { ...identity, ...other } }),
        (error: Error & { code?: string }) => {
          assert.equal(error.code, 'DATA_FOLDER_FOREIGN')
          const [[name, value] = []] = Object.entries(other)
          assert.match(error.message, new RegExp(`${name} .*, configured ${value}`))
          return true
        },
      )
    }
    await claimFolder({ dir, identity })
  })

  it('may be learned later, and is then settled too', async () => {
    await using folder = await scratchFolder()
    const dir = folder.path
    await claimFolder({ dir, identity: { ...identity, genesis: '0x' } })
    await claimFolder({ dir, identity })
    await claimFolder({ dir, identity: { contract: identity.contract } })
    await assert.rejects(claimFolder({ dir, identity: { ...identity, genesis: `0x${'99'.repeat(32)}` } }), {
      code: 'DATA_FOLDER_FOREIGN',
    })
  })

  it('is not guessed from a file that says something else', async () => {
    await using folder = await scratchFolder()
    for (const text of ['', '{', '7', 'null']) {
      await writeFile(join(folder.path, 'identity.json'), text)
      await assert.rejects(claimFolder({ dir: folder.path, identity }), { code: 'DATA_FOLDER_FOREIGN' })
    }
  })
})
