import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { keccak256 } from '#kernels/keccak.ts'
import { type Hash, toHex } from '#protocol/hex.ts'
import {
  type DirectoryEntry,
  DirectoryError,
  type DirectoryNode,
  decodeDirectory,
  encodeDirectory,
  isDirectory,
  walkDirectory,
} from '#protocol/storage/directory.ts'
import { seededBytes } from '../vectors.ts'

const hash = (seed: number): Hash => toHex(seededBytes(32, seed))
const magic = keccak256(Buffer.from('0g-storage-client-dir-codec'))
const blob = (json: string, version = 2) => Buffer.concat([magic, Buffer.from([0, version]), Buffer.from(json)])
const names = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
  .filter((name) => !/[/\\\0]/.test(name) && name !== '.' && name !== '..' && name !== '__proto__')
const record = { noNullPrototype: true }
const leaf: fc.Arbitrary<DirectoryNode> = fc.oneof(
  fc.record(
    {
      type: fc.constant('file' as const),
      name: names,
      sizeBytes: fc.integer({ min: 1 }),
      roots: fc.constant<Hash[]>([hash(1)]),
    },
    record,
  ),
  fc.record(
    { type: fc.constant('file' as const), name: names, sizeBytes: fc.constant(0), roots: fc.constant<Hash[]>([]) },
    record,
  ),
  fc.record({ type: fc.constant('symbolic' as const), name: names, link: fc.string() }, record),
)

/** Directories up to `depth` levels deep. */
function directoryOf(depth: number): fc.Arbitrary<DirectoryEntry> {
  const node: fc.Arbitrary<DirectoryNode> = depth === 0 ? leaf : fc.oneof(leaf, directoryOf(depth - 1))
  return fc.record(
    {
      type: fc.constant('directory' as const),
      name: names,
      entries: fc.uniqueArray(node, { selector: ({ name }) => name, maxLength: 5 }),
    },
    record,
  )
}
const tree = directoryOf(3)

function sorted(node: DirectoryNode): DirectoryNode {
  if (node.type !== 'directory') return node
  const entries = node.entries.map(sorted).sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)))
  return { ...node, entries }
}

describe('directory description', () => {
  it('comes back sorted, with the root called /', () => {
    fc.assert(
      fc.property(tree, (directory) => {
        assert.deepEqual(decodeDirectory(encodeDirectory(directory)), sorted({ ...directory, name: '/' }))
      }),
    )
  })

  // The same directory has the same root, in whatever order the disk lists it.
  it('does not depend on the order of entries', () => {
    fc.assert(
      fc.property(tree, (directory) => {
        const turned = { ...directory, entries: [...directory.entries].reverse() }
        assert.deepEqual(encodeDirectory(turned), encodeDirectory(directory))
      }),
    )
  })

  it('is written as 0g-storage-client writes it', () => {
    const directory: DirectoryEntry = {
      type: 'directory',
      name: 'anything',
      entries: [
        { type: 'symbolic', name: 'c', link: 'a.txt' },
        { type: 'directory', name: 'b', entries: [{ type: 'file', name: 'empty', sizeBytes: 0, roots: [] }] },
        { type: 'file', name: 'a.txt', sizeBytes: 5, roots: [hash(1), hash(2)] },
      ],
    }
    const json = `{"name":"/","type":"directory","entries":[{"name":"a.txt","type":"file","roots":["${hash(1)}","${hash(2)}"],"size":5},{"name":"b","type":"directory","entries":[{"name":"empty","type":"file"}]},{"name":"c","type":"symbolic","link":"a.txt"}]}`
    assert.deepEqual(encodeDirectory(directory), Uint8Array.from(blob(json)))
    assert.deepEqual(
      [...walkDirectory(decodeDirectory(encodeDirectory(directory)))].map(({ path }) => path),
      ['a.txt', 'b', 'b/empty', 'c'],
    )
  })

  it('is read in version 1, where a file has one hash', () => {
    const upper = `0x${'AB'.repeat(32)}`
    const json = `{"name":"/","type":"directory","entries":[{"name":"a","type":"file","hash":"${upper}","size":3}]}`
    assert.deepEqual(decodeDirectory(blob(json, 1)).entries, [
      { type: 'file', name: 'a', sizeBytes: 3, roots: [`0x${'ab'.repeat(32)}`] },
    ])
  })

  // A name from a stranger must not lead out of the folder it is unpacked to.
  it('refuses names that no file may have', () => {
    for (const name of ['', '.', '..', 'a/b', '../x', 'a\\\\b', 'a\\u0000', '\\ud800', 'x'.repeat(256)]) {
      const json = `{"name":"/","type":"directory","entries":[{"name":"${name}","type":"symbolic","link":"x"}]}`
      assert.throws(() => decodeDirectory(blob(json)), { code: 'DIRECTORY' }, name)
    }
    const directory: DirectoryEntry = {
      type: 'directory',
      name: '',
      entries: [{ type: 'symbolic', name: '..', link: '' }],
    }
    assert.throws(() => encodeDirectory(directory), { code: 'DIRECTORY' })
  })

  it('refuses what is no directory', () => {
    const entry = (json: string) => `{"name":"/","type":"directory","entries":[${json}]}`
    const broken = [
      '',
      '[]',
      'null',
      '{"name":"/","type":"file"}',
      '{"type":"directory"}',
      entry('1'),
      entry('{"name":"a","type":"socket"}'),
      entry('{"name":"a","type":"file","size":1}'),
      entry(`{"name":"a","type":"file","roots":["${hash(1)}"]}`),
      entry('{"name":"a","type":"file","size":1,"roots":["0x12"]}'),
      entry(`{"name":"a","type":"file","size":-1,"roots":["${hash(1)}"]}`),
      entry('{"name":"a","type":"symbolic","link":"x"},{"name":"a","type":"symbolic","link":"y"}'),
      '{"name":"/","type":"directory","entries":{}}',
      `${'{"name":"d","type":"directory","entries":['.repeat(200)}${']}'.repeat(200)}`,
    ]
    for (const json of broken)
      assert.throws(() => decodeDirectory(blob(json)), { code: 'DIRECTORY' }, json.slice(0, 80))
    assert.throws(() => decodeDirectory(blob('{"name":"/","type":"directory"}', 3)), { code: 'DIRECTORY' })
    assert.throws(() => decodeDirectory(magic), { code: 'DIRECTORY' })
    assert.equal(isDirectory(new Uint8Array(100)), false)
  })

  it('never crashes on random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.json(), (noise, json) => {
        for (const bytes of [noise, blob(json), Buffer.concat([blob(''), noise])]) {
          try {
            decodeDirectory(bytes)
          } catch (error) {
            assert.ok(error instanceof DirectoryError)
          }
        }
      }),
    )
  })
})
