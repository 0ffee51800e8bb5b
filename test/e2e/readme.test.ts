import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { isSameProcess } from '#scripts/devnet/process-identity.ts'
import {
  devnetProcesses,
  repository,
  startUp,
  testPortBase,
  type UpProcess,
  until,
  weightlessJson,
} from './devnet-process.ts'

const run = promisify(execFile)

/** What the README shows is what works: its programs run as they stand, with the ports of this test's network. */
describe('the README', () => {
  const readme = readFileSync(path.join(repository, 'README.md'), 'utf8')
  const programs = [...readme.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, program = '']) => program)
  const scratch = mkdtempSync(path.join(tmpdir(), 'weightless-readme-'))
  // Inside the repository, because the programs import its parts by name.
  const programDirectory = path.join(repository, 'cache', `readme-${process.pid}`)
  const directory = path.join(scratch, 'net')
  let up: UpProcess

  before(async () => {
    mkdirSync(programDirectory, { recursive: true })
    up = await startUp({ directory, portBase: testPortBase(50) })
  })
  after(async () => {
    const left = devnetProcesses(directory)
    await up.interrupt()
    await until('the end of all processes', () => !left.some(isSameProcess))
    rmSync(scratch, { recursive: true, force: true })
    rmSync(programDirectory, { recursive: true, force: true })
  })

  async function runProgram(program: string): Promise<string> {
    for (const url of ['http://127.0.0.1:26700', 'http://127.0.0.1:26701']) {
      assert.ok(program.includes(url), `the program uses ${url}, as \`npm start\` prints it`)
    }
    const file = path.join(programDirectory, `${programs.indexOf(program)}.ts`)
    const { rpcUrl, indexerUrl } = up.ready
    writeFileSync(
      file,
      program.replaceAll('http://127.0.0.1:26700', rpcUrl).replaceAll('http://127.0.0.1:26701', indexerUrl),
    )
    const { stdout } = await run(process.execPath, [file], {
      cwd: repository,
      env: { ...process.env, XDG_STATE_HOME: scratch },
      timeout: 120_000,
    })
    return stdout
  }

  it('opens with two commands that each start from a fresh clone', () => {
    const commands = [...readme.matchAll(/^```sh\n([\s\S]*?)^```/gm)].map(([, text = '']) => text.trim())
    assert.deepEqual(commands.slice(0, 2), [
      'npx -y -p node@24 npm ci && npm start',
      'npx -y -p node@24 npm ci && npm test',
    ])
  })

  it('shows a program for the client library that stores and reads', async () => {
    const program = programs.find((text) => text.includes('#client/connect.ts'))
    assert.ok(program !== undefined)
    const stdout = await runProgram(program)
    assert.match(stdout, /root 0x[0-9a-f]{64}\nkept by whoever proves it$/)
  })

  it("shows a program for 0G's SDK, and what it stores can be read here", async () => {
    const program = programs.find((text) => text.includes('@0gfoundation/0g-ts-sdk'))
    assert.ok(program !== undefined)
    const stdout = await runProgram(program)
    const root = /rootHash: '(0x[0-9a-f]{64})'/.exec(stdout)?.[1]
    assert.ok(root !== undefined, stdout)
    const copy = path.join(scratch, 'copy.md')
    await weightlessJson(['--network', path.join(directory, 'devnet.json'), 'download', root, '-o', copy])
    assert.equal(readFileSync(copy, 'utf8'), readme)
  })
})
