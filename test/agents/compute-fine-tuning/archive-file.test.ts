import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import {
  createReadStream,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { privateKeyToAccount } from 'viem/accounts'
import { packArchiveFile, unpackArchiveFile } from '#compute/fine-tuning/archive-file.ts'
import { decryptArtefactFile, encryptArtefactFile } from '#compute/fine-tuning/artefact-file.ts'
import { readArchive, writeArchive } from '#protocol/compute/fine-tuning/archive.ts'
import { ARTEFACT_CHUNK_BYTES } from '#protocol/compute/fine-tuning/artefact.ts'
import { FineTuningFormatError } from '#protocol/compute/fine-tuning/error.ts'

const signer = privateKeyToAccount(`0x${'5'.repeat(64)}`)
const isRefused = (error: unknown) => error instanceof FineTuningFormatError && error.code === 'ARCHIVE_FORMAT'

let folder: string
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'archive-'))
})
after(() => rmSync(folder, { recursive: true, force: true }))

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array)
  return hash.digest('hex')
}

describe('archives on disk', () => {
  // Packed piece by piece they are the bytes that packing in memory gives, and either reader reads both.
  test('are those of memory', async () => {
    const files = [
      { name: 'adapter.gguf', data: new Uint8Array(randomBytes(2_500_000)) },
      { name: 'empty.json', data: new Uint8Array(0) },
      { name: 'loss-curve.json', data: new Uint8Array(randomBytes(10)) },
    ]
    for (const { name, data } of files) writeFileSync(join(folder, `in-${name}`), data)
    const to = join(folder, 'packed.zip')
    await packArchiveFile({ files: files.map(({ name }) => ({ name, path: join(folder, `in-${name}`) })), to })
    assert.ok(readFileSync(to).equals(writeArchive(files)))
    assert.equal(statSync(to).mode & 0o777, 0o600)
    const out = mkdtempSync(join(folder, 'out-'))
    assert.deepEqual(
      await unpackArchiveFile({ from: to, folder: out }),
      files.map(({ name }) => name),
    )
    for (const { name, data } of files) assert.ok(readFileSync(join(out, name)).equals(data), name)
    assert.equal(readArchive(readFileSync(to)).length, 3)
  })

  // A damaged or cut archive, or one that would replace what is not its own, is refused, and no file of it appears by its
  // name.
  test('are refused when they are damaged', async () => {
    const honest = writeArchive([{ name: 'a.bin', data: new Uint8Array(randomBytes(5_000)) }])
    const flipped = Uint8Array.from(honest, (byte, i) => (i === 2_000 ? byte ^ 1 : byte))
    for (const [what, bytes] of Object.entries({
      flipped,
      cut: honest.subarray(0, 3_000),
      head: honest.subarray(0, 20),
    })) {
      const from = join(folder, `${what}.zip`)
      writeFileSync(from, bytes)
      const out = mkdtempSync(join(folder, 'bad-'))
      await assert.rejects(unpackArchiveFile({ from, folder: out }), isRefused, what)
      assert.deepEqual(readdirSync(out), [], what)
    }
    const from = join(folder, 'honest.zip')
    writeFileSync(from, honest)
    await assert.rejects(unpackArchiveFile({ from, folder, reserved: new Set(['a.bin']) }), isRefused)
  })

  // An adapter of more than one encrypted chunk goes through packing, encryption, decryption and unpacking unchanged.
  test('of more than 64 MiB come back through encryption', async () => {
    const path = join(folder, 'large.gguf')
    writeFileSync(path, randomBytes(100_000))
    truncateSync(path, ARTEFACT_CHUNK_BYTES + 3_000_000)
    const [archive, artefact, opened] = ['large.zip', 'large.bin', 'opened.zip'].map((name) => join(folder, name))
    assert.ok(archive !== undefined && artefact !== undefined && opened !== undefined)
    await packArchiveFile({ files: [{ name: 'large.gguf', path }], to: archive })
    const key = new Uint8Array(randomBytes(32))
    const iv = new Uint8Array(12).fill(255)
    const { sizeBytes } = await encryptArtefactFile({ from: archive, to: artefact, key, iv, signer })
    assert.equal(sizeBytes, 65 + 12 + statSync(archive).size + 2 * 16, 'two chunks')
    await decryptArtefactFile({ from: artefact, to: opened, key, signer: signer.address })
    const out = mkdtempSync(join(folder, 'large-'))
    await unpackArchiveFile({ from: opened, folder: out })
    assert.equal(await digestOf(join(out, 'large.gguf')), await digestOf(path))
  })
})
