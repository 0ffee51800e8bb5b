import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { isSameProcess, type ProcessIdentity } from '#scripts/devnet/process-identity.ts'
import {
  devnetProcesses,
  startUp,
  testPortBase,
  type UpProcess,
  until,
  weightless,
  weightlessJson,
} from './devnet-process.ts'

/** The whole life of a local network, by the commands a user types. The tests build on each other, in order. */
describe('a local network', () => {
  const scratch = mkdtempSync(path.join(tmpdir(), 'weightless-e2e-'))
  const directory = path.join(scratch, 'net')
  const portBase = testPortBase()
  const network = ['--network', path.join(directory, 'devnet.json')]
  const file = path.join(scratch, 'original.bin')
  const content = randomBytes(5_000_001)
  let up: UpProcess
  let root: string

  before(async () => {
    writeFileSync(file, content)
    up = await startUp({ directory, portBase, only: 'kv' })
  })
  after(async () => {
    up.child.kill('SIGKILL')
    const left = devnetProcesses(directory)
    await until('the end of all processes', () => !left.some(isSameProcess))
    rmSync(scratch, { recursive: true, force: true })
  })

  it('comes up with two shards of one group, an indexer and the contracts', async () => {
    assert.deepEqual(
      up.ready.nodes.map(({ shard }) => shard),
      ['0/2', '1/2'],
    )
    assert.match(up.ready.contracts.Flow ?? '', /^0x[0-9a-fA-F]{40}$/)
    const status = await weightlessJson([...network, 'status'])
    assert.equal(status.ok, true)
  })

  it('stores a file of several megabytes and gives it back byte for byte', async () => {
    const uploaded = await weightlessJson([...network, 'upload', file])
    root = String(uploaded.root)
    assert.match(root, /^0x[0-9a-f]{64}$/)
    assert.equal(uploaded.sizeBytes, content.length)
    const copy = path.join(scratch, 'copy.bin')
    await weightlessJson([...network, 'download', root, '-o', copy])
    assert.deepEqual(readFileSync(copy), content)
  })

  it('does not pay twice for the same content', async () => {
    const again = await weightlessJson([...network, 'upload', file])
    assert.equal(again.root, root)
    assert.equal(again.paid, false)
  })

  it('serves the file over plain HTTP', async () => {
    const response = await fetch(`${up.ready.indexerUrl}/file?root=${root}`)
    assert.equal(response.status, 200)
    assert.deepEqual(Buffer.from(await response.arrayBuffer()), content)
    const part = await fetch(`${up.ready.indexerUrl}/file?root=${root}`, { headers: { range: 'bytes=300000-300099' } })
    assert.equal(part.status, 206)
    assert.deepEqual(Buffer.from(await part.arrayBuffer()), content.subarray(300_000, 300_100))
  })

  it('refuses a second supervisor in the same directory, and leaves the first one alone', async () => {
    const second = await weightless(['up', '--dir', directory, '--port-base', String(portBase)])
    assert.equal(second.code, 1)
    assert.match(second.stderr, new RegExp(`already runs in .*process ${up.child.pid}`))
    assert.match(second.stderr, /DEVNET_RUNNING/)
    assert.equal(devnetProcesses(directory).length, 5)
    const wiping = await weightless(['up', '--dir', directory, '--fresh', '--yes'])
    assert.equal(wiping.code, 1)
    assert.match(wiping.stderr, /DEVNET_RUNNING/)
  })

  // A node that dies in the middle of an upload is started again, and the same upload comes to its end.
  it('completes an upload although a node is killed in the middle of it', async () => {
    const big = path.join(scratch, 'big.bin')
    const bytes = randomBytes(64 * 2 ** 20)
    const segments = (64 * 2 ** 20) / 2 ** 18 / 2
    writeFileSync(big, bytes)
    const pidOf = (name: string) => devnetProcesses(directory).find((one) => one.name === name)?.pid ?? 0
    const [victim, other] = up.ready.nodes
    assert.ok(victim !== undefined && other !== undefined)
    const before = pidOf(victim.name)
    const held = pidOf(other.name)
    const missing = async () => {
      const response = await fetch(`${victim.url}/v1/files/1/missing`).catch(() => undefined)
      return response?.ok === true ? ((await response.json()) as { total: number }).total : undefined
    }
    const upload = weightless([...network, 'upload', big, '--json'])
    try {
      await until('the submission at the node', async () => (await missing()) !== undefined)
      // The other node is held still, so that the upload cannot be over before the kill.
      process.kill(held, 'SIGSTOP')
      await until('the first segments at the node', async () => ((await missing()) ?? segments) < segments)
      process.kill(before, 'SIGKILL')
    } finally {
      process.kill(held, 'SIGCONT')
    }
    const { code, stdout, stderr } = await upload
    assert.equal(code, 0, `${stdout}${stderr}`)
    await until('the restart', () => ![0, before].includes(pidOf(victim.name)))
    assert.deepEqual(
      up.events.map(({ event, name, how }) => [event, name, how]),
      [['restart', victim.name, 'signal SIGKILL']],
      'it says so',
    )
    const copy = path.join(scratch, 'big-copy.bin')
    await weightlessJson([...network, 'download', JSON.parse(stdout).root, '-o', copy])
    assert.equal(sha256(readFileSync(copy)), sha256(bytes))
    assert.match(up.stderr(), /^$/, 'with --json nothing goes to stderr')
  })

  it('keeps keys and values of whatever stream is written', async () => {
    const written = await weightlessJson([...network, 'kv', 'put', 'demo', 'greeting=hello', 'to=world'])
    assert.equal(written.result, 'Commit')
    assert.equal((await weightlessJson([...network, 'kv', 'get', 'demo', 'greeting'])).value, 'hello')
    const version = String(written.version)
    const again = await weightlessJson([...network, 'kv', 'put', 'demo', 'greeting=hi', '--version', version])
    assert.equal(again.result, 'Commit')
    const late = await weightless([...network, 'kv', 'put', 'demo', 'greeting=hey', '--version', version])
    assert.match(late.stderr, /KV_VERSION_CONFLICT/)
    assert.equal((await weightlessJson([...network, 'kv', 'status', '--kv', up.ready.kvUrl ?? ''])).acceptsNew, true)
  })

  it('stops on Ctrl-C and leaves nothing running', async () => {
    const processes: ProcessIdentity[] = devnetProcesses(directory)
    assert.equal(processes.length, 5)
    assert.equal(await up.interrupt(), 0)
    assert.deepEqual(processes.filter(isSameProcess), [])
    await assert.rejects(fetch(up.ready.rpcUrl), 'the chain is gone, too')
  })

  it('goes on with the data when it is started again', async () => {
    up = await startUp({ directory, portBase, only: 'kv' })
    assert.equal(up.ready.resumed, true)
    const copy = path.join(scratch, 'copy-after-restart.bin')
    await weightlessJson([...network, 'download', root, '-o', copy])
    assert.deepEqual(readFileSync(copy), content)
    const again = await weightlessJson([...network, 'upload', file])
    assert.equal(again.paid, false, 'the chain remembers, too')
    assert.equal((await weightlessJson([...network, 'kv', 'get', 'demo', 'greeting'])).value, 'hi')
  })

  it('leaves nothing running when its supervisor is killed, and starts again after it', async () => {
    const processes: ProcessIdentity[] = devnetProcesses(directory)
    up.child.kill('SIGKILL')
    await up.exited
    await until('the end of all processes', () => !processes.some(isSameProcess))
    up = await startUp({ directory, portBase, only: 'kv' })
    const info = await weightlessJson([...network, 'info', root])
    assert.ok(JSON.stringify(info).includes(root))
  })

  it('ends on `weightless down`, also when nothing runs', async () => {
    const processes: ProcessIdentity[] = devnetProcesses(directory)
    assert.equal((await weightlessJson(['down', '--dir', directory])).stopped, true)
    assert.equal(await up.exited, 0)
    assert.deepEqual(processes.filter(isSameProcess), [])
    assert.equal((await weightlessJson(['down', '--dir', directory])).stopped, false)
  })

  it('does not delete anything without being told twice', async () => {
    const refused = await weightless(['up', '--dir', directory, '--fresh'])
    assert.equal(refused.code, 2)
    assert.match(refused.stderr, /--yes/)
    assert.ok(readFileSync(path.join(directory, 'chain', 'state.json')).length > 0)
  })
})

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
