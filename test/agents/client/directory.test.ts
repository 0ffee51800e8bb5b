import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { memorySource } from '#protocol/storage/byte-source.ts'
import { encodeDirectory } from '#protocol/storage/directory.ts'
import { seededBytes, testSeed } from './seeded.ts'
import { type StorageNetwork, startStorageNetwork } from './storage-network.ts'

const seed = testSeed()

describe(`directories (seed ${seed})`, () => {
  let network: StorageNetwork
  let folder = ''
  before(async () => {
    network = await startStorageNetwork()
    folder = join(network.dir, 'site')
    await mkdir(join(folder, 'deep', 'er'), { recursive: true })
    await mkdir(join(folder, 'empty'))
    await writeFile(join(folder, 'index.html'), '<h1>hello</h1>')
    await writeFile(join(folder, 'nothing'), '')
    await writeFile(join(folder, 'deep', 'twin-a'), seededBytes({ seed, length: 400_000 }))
    await writeFile(join(folder, 'deep', 'er', 'twin-b'), seededBytes({ seed, length: 400_000 }))
    await writeFile(join(folder, 'deep', 'ünïcode ✓'), 'name')
    await symlink('index.html', join(folder, 'link'))
    await symlink('/etc/passwd', join(folder, 'outside'))
  })
  after(() => network.stop())

  test('a folder comes back the same: files, empty files, empty folders, links; equal files are paid once', async () => {
    const client = await network.client()
    const stored = await client.storage.uploadDirectory({ path: folder })
    assert.equal(stored.files, 5)
    const to = join(network.dir, 'back')
    const fetched = await client.storage.downloadDirectory({ root: stored.root, to })
    assert.deepEqual(fetched.skippedLinks, ['outside'], 'a link that leads out is not made')
    const names = async (path: string) => (await readdir(path, { recursive: true })).toSorted()
    assert.deepEqual((await names(to)).concat('outside').toSorted(), await names(folder))
    for (const name of ['index.html', 'nothing', 'deep/twin-a', 'deep/er/twin-b', 'deep/ünïcode ✓']) {
      assert.deepEqual(await readFile(join(to, name)), await readFile(join(folder, name)), name)
    }
    assert.equal(await readlink(join(to, 'link')), 'index.html')
    const { client: chain } = await client.storage.connection.chain({ purpose: 'test' })
    const sent = await chain.getTransactionCount({ address: client.storage.connection.account?.address ?? '0x' })
    assert.equal(sent, 4, 'three distinct files and the description')
  })

  test('repeating costs nothing: what is stored is not paid, what is here is not fetched, what differs is not replaced', async () => {
    const client = await network.client()
    const stored = await client.storage.uploadDirectory({ path: folder })
    assert.equal(stored.feeWei, 0n)
    const to = join(network.dir, 'again')
    await client.storage.downloadDirectory({ root: stored.root, to })
    await rm(join(to, 'index.html'))
    const second = await client.storage.downloadDirectory({ root: stored.root, to })
    assert.deepEqual({ files: second.files, kept: second.kept }, { files: 5, kept: 4 })
    await writeFile(join(to, 'index.html'), 'mine!')
    await assert.rejects(client.storage.downloadDirectory({ root: stored.root, to }), { code: 'FILE_EXISTS' })
    assert.equal(await readFile(join(to, 'index.html'), 'utf8'), 'mine!')
    await client.storage.downloadDirectory({ root: stored.root, to, overwrite: true })
    assert.equal(await readFile(join(to, 'index.html'), 'utf8'), '<h1>hello</h1>')
  })

  test('encrypted, only with the key', async () => {
    const client = await network.client()
    const symmetricKey = new Uint8Array(randomBytes(32))
    const { root } = await client.storage.uploadDirectory({ path: folder, encryption: { symmetricKey } })
    const to = join(network.dir, 'sealed')
    await client.storage.downloadDirectory({ root, to, decryption: { symmetricKey } })
    assert.equal(await readFile(join(to, 'index.html'), 'utf8'), '<h1>hello</h1>')
    await assert.rejects(client.storage.downloadDirectory({ root, to: join(network.dir, 'no') }), {
      code: 'NOT_A_DIRECTORY',
    })
  })

  test('a hostile description writes nothing outside the folder, also where the folder holds links', async () => {
    const client = await network.client()
    const file = { type: 'file' as const, name: 'index.html', sizeBytes: 14, roots: [`0x${'00'.repeat(32)}` as const] }
    const description = encodeDirectory({
      type: 'directory',
      name: '/',
      entries: [{ type: 'directory', name: 'trap', entries: [{ ...file, sizeBytes: 0, roots: [] }] }],
    })
    const { root } = await client.storage.upload({ source: memorySource(description) })
    const to = join(network.dir, 'hostile')
    const victim = join(network.dir, 'victim')
    await mkdir(to)
    await mkdir(victim)
    await symlink(victim, join(to, 'trap'))
    await assert.rejects(client.storage.downloadDirectory({ root, to }), { code: 'FILE_EXISTS' })
    assert.equal(await stat(join(victim, 'index.html')).catch(() => undefined), undefined)

    const escaping = Buffer.from(description)
    const text = escaping.toString('latin1').replace('"trap"', '"../x"')
    const evil = await client.storage.upload({ source: memorySource(Buffer.from(text, 'latin1')) })
    await assert.rejects(client.storage.downloadDirectory({ root: evil.root, to: join(network.dir, 'evil') }), {
      code: 'DIRECTORY',
    })
  })
})
