import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { identifyProcess } from '#scripts/devnet/process-identity.ts'
import { countsLine, sumCounts } from '#scripts/test/counts.ts'
import { checkStage, hardhatCounts, hardhatStage, nodeStage } from '#scripts/test/stages.ts'

const repository = path.join(import.meta.dirname, '..', '..', '..')
const root = mkdtempSync(path.join(tmpdir(), 'weightless-test-command-'))
const write = (name: string, text: string) => {
  mkdirSync(path.dirname(path.join(root, name)), { recursive: true })
  writeFileSync(path.join(root, name), text)
}

before(() => {
  // The runner under test starts `node --test`, which does nothing when it believes to be inside another one.
  delete process.env.NODE_TEST_CONTEXT
  symlinkSync(path.join(repository, 'scripts'), path.join(root, 'scripts'))
  symlinkSync(path.join(repository, 'node_modules'), path.join(root, 'node_modules'))
})
after(() => rmSync(root, { recursive: true, force: true }))

const header = `const { test, describe, it, before } = require('node:test')\nconst assert = require('node:assert')\n`

describe('the test command', () => {
  // A green line must mean that tests ran and passed: nothing that went wrong may be missing from the counts.
  it('counts tests, not suites, and skipped ones apart', async () => {
    write(
      'a/one.test.cjs',
      `${header}describe('d', () => { it('x', () => {}); it('y', () => {}) })\ntest('z', () => {})`,
    )
    write('a/two.test.cjs', `${header}test('s', { skip: 'why not' }, () => {})\ntest('t', () => {})`)
    const { counts, output } = await nodeStage({ name: 'n', files: ['a/*.test.cjs'] }).run({ root })
    assert.deepEqual(counts, { passed: 4, failed: 0, skipped: 1 })
    assert.match(output, /one\.test\.cjs: 3 passed/)
  })

  it('counts a failed test once, and shows it in full', async () => {
    write(
      'b/fail.test.cjs',
      `${header}describe('d', () => { it('adds', () => assert.equal(1 + 1, 3)); it('y', () => {}) })`,
    )
    const { counts, output } = await nodeStage({ name: 'n', files: ['b/*.test.cjs'] }).run({ root })
    assert.deepEqual(counts, { passed: 1, failed: 1, skipped: 0 })
    assert.match(output, /FAILED adds[\s\S]*2 == 3/)
  })

  for (const [what, text] of Object.entries({
    'a file that crashes before its tests': 'throw new Error("broken file")',
    'a file that never ends': `${header}test('x', () => {})\nsetInterval(() => {}, 1000)`,
    'a test that never ends': `${header}test('x', () => new Promise(() => setInterval(() => {}, 1000)))`,
    'a file that ends the process': `${header}test('x', () => process.exit(0))\ntest('y', () => {})`,
    'a file without a test': 'console.log("nothing here")',
    'a hook that fails': `${header}describe('d', () => { before(() => { throw new Error('hook') }); it('x', () => {}) })`,
    'a rejection after the tests': `${header}test('x', () => { setTimeout(() => Promise.reject(new Error('late')), 20) })`,
  })) {
    it(`fails for ${what}`, async () => {
      rmSync(path.join(root, 'c'), { recursive: true, force: true })
      write('c/bad.test.cjs', text)
      write('c/good.test.cjs', `${header}test('fine', () => {})`)
      const { counts } = await nodeStage({ name: 'n', files: ['c/*.test.cjs'], fileLimitMs: 3_000 }).run({ root })
      assert.ok(counts.failed >= 1, JSON.stringify(counts))
      assert.ok(counts.passed >= 1, 'the other file still counts')
    })
  }

  it('says in which test a file hung, and ends what the file started', async () => {
    write(
      'e/hang.test.cjs',
      `${header}const { spawn } = require('node:child_process')
      describe('outer', () => it('waits for ever', () => new Promise(() => {
        const child = spawn('sleep', ['1000'])
        console.log('child ' + child.pid)
      })))`,
    )
    const { output } = await nodeStage({ name: 'n', files: ['e/*.test.cjs'], fileLimitMs: 3_000 }).run({ root })
    assert.match(output, /did not end in time, in: .*waits for ever/)
    const child = Number(/child (\d+)/.exec(output)?.[1])
    assert.ok(child > 1)
    assert.equal(identifyProcess(child), undefined)
  })

  it('fails when there is no test file at all', async () => {
    const { counts, problem } = await nodeStage({ name: 'n', files: ['nowhere/**/*.test.ts'] }).run({ root })
    assert.deepEqual(counts, { passed: 0, failed: 1, skipped: 0 })
    assert.match(problem ?? '', /no test file/)
  })

  it('counts a check as one, by its exit code, also when it cannot be started', async () => {
    const run = async (command: readonly [string, ...string[]]) =>
      (await checkStage({ name: 'c', command }).run({ root })).counts
    assert.deepEqual(await run(['true']), { passed: 1, failed: 0, skipped: 0 })
    assert.deepEqual(await run(['false']), { passed: 0, failed: 1, skipped: 0 })
    assert.deepEqual(await run(['/no/such/command']), { passed: 0, failed: 1, skipped: 0 })
  })

  it('reads the summary of a contract test run, and fails without one or with a bad exit code', async () => {
    const summary = '\n  44 passing (2s)\n  2 failing\n  1 pending\n'
    assert.deepEqual(hardhatCounts(summary), { passed: 44, failed: 2, skipped: 1 })
    assert.equal(hardhatCounts('HHE904: cannot compile'), undefined)
    write('d/x.t.sol', '')
    const run = async (script: string) =>
      (await hardhatStage({ name: 'h', command: ['sh', '-c', script], files: ['d/*'] }).run({ root })).counts
    assert.deepEqual(await run('echo "  3 passing"'), { passed: 3, failed: 0, skipped: 0 })
    assert.deepEqual(await run('echo "  3 passing"; exit 1'), { passed: 3, failed: 1, skipped: 0 })
    assert.deepEqual(await run('echo "  0 passing"'), { passed: 0, failed: 1, skipped: 0 })
    assert.deepEqual(await run('echo broken; exit 1'), { passed: 0, failed: 1, skipped: 0 })
  })

  it('ends with one plain line', () => {
    const sum = sumCounts([
      { passed: 2, failed: 0, skipped: 0 },
      { passed: 40, failed: 1, skipped: 0 },
    ])
    assert.equal(countsLine(sum), '42 passed, 1 failed')
    assert.equal(countsLine({ ...sum, skipped: 3 }), '42 passed, 1 failed, 3 skipped')
  })
})
