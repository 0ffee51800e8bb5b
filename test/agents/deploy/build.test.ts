import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, describe, it } from 'node:test'
import { BuildError, type BuildStep, runBuildStep } from '#scripts/build/step.ts'

const repository = path.join(import.meta.dirname, '..', '..', '..')
const directory = mkdtempSync(path.join(tmpdir(), 'weightless-build-'))
after(() => rmSync(directory, { recursive: true, force: true }))

let counter = 0
function newTree(): string {
  const root = path.join(directory, String(++counter))
  mkdirSync(path.join(root, 'in'), { recursive: true })
  symlinkSync(path.join(repository, 'node_modules'), path.join(root, 'node_modules'))
  writeFileSync(path.join(root, 'in', 'a.txt'), 'a')
  return root
}

const step = (script: string): BuildStep => ({
  name: 'things',
  inputs: ['in/**/*'],
  packages: ['solc'],
  outputs: ['out/*'],
  command: ['sh', '-c', script],
})
const making = step('mkdir -p out && echo run >> runs && cat in/* > out/all.txt')

async function build(root: string, what: BuildStep = making): Promise<string> {
  const lines: string[] = []
  await runBuildStep({ root, step: what, say: (line) => lines.push(line) })
  return lines.join('\n')
}
const runs = (root: string) => readFileSync(path.join(root, 'runs'), 'utf8').trim().split('\n').length

describe('a build step', () => {
  // What is built is always what the sources say, and nothing is built twice.
  it('runs once for the same inputs, again for changed, added and removed ones', async () => {
    const root = newTree()
    assert.match(await build(root), /built 1 files/)
    assert.equal(await build(root), 'things: up to date')
    assert.equal(runs(root), 1)
    writeFileSync(path.join(root, 'in', 'a.txt'), 'b')
    await build(root)
    assert.equal(runs(root), 2)
    writeFileSync(path.join(root, 'in', 'b.txt'), '')
    await build(root)
    assert.equal(runs(root), 3)
    rmSync(path.join(root, 'in', 'b.txt'))
    await build(root)
    assert.equal(runs(root), 4)
  })

  it('runs again when an output is missing or cut short', async () => {
    const root = newTree()
    await build(root)
    rmSync(path.join(root, 'out', 'all.txt'))
    await build(root)
    writeFileSync(path.join(root, 'out', 'all.txt'), '')
    await build(root)
    assert.equal(runs(root), 3)
  })

  it('fails with what the tool said, and is tried again next time', async () => {
    const root = newTree()
    await assert.rejects(
      build(root, step('echo the reason; exit 3')),
      (error: unknown) =>
        error instanceof BuildError && error.message.includes('the reason') && error.details.code === 3,
    )
    assert.match(await build(root), /built/)
  })

  it('fails when the tool succeeds and makes nothing', async () => {
    await assert.rejects(build(newTree(), step('true')), BuildError)
  })
})
