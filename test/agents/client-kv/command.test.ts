import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { RunningKv } from '#storage/kv/main.ts'
import { DEV_ACCOUNTS } from '../../chain.ts'
import { type RunParameters, runWeightless } from '../cli/run-weightless.ts'
import { type StorageNetwork, startStorageNetwork } from '../client/storage-network.ts'
import { startKvNode } from './kv-network.ts'

/** The commands as a user types them beside a local network. The tests build on each other, in order. */
describe('weightless kv', () => {
  let network: StorageNetwork
  let node: RunningKv
  let cwd = ''
  const stranger = DEV_ACCOUNTS[3]
  const run = (args: string[], rest: Partial<RunParameters> = {}) =>
    runWeightless({ args: ['kv', ...args], cwd, ...rest })
  const json = async (args: string[], rest: Partial<RunParameters> = {}) => {
    const { stdout, stderr, code } = await run([...args, '--json'], rest)
    assert.equal(stderr, '', 'nothing on stderr with --json')
    return { code, answer: JSON.parse(stdout) }
  }

  before(async () => {
    network = await startStorageNetwork()
    node = await startKvNode(network, { allStreams: { enabled: true } })
    cwd = join(network.dir, 'work')
    await mkdir(join(cwd, '.weightless'), { recursive: true })
    const devnet = {
      ...{ chainId: 31337, rpcUrl: network.anvil.url, kvUrl: node.url },
      nodes: network.nodes.map(({ url }) => ({ url })),
      contracts: { Flow: network.contracts.flow },
    }
    await writeFile(join(cwd, '.weightless', 'devnet.json'), JSON.stringify(devnet))
  })
  after(async () => {
    await node?.close()
    await network?.stop()
  })

  it('puts and gets without any flag', async () => {
    const put = await run(['put', 'demo', 'name=Ada', 'motto=a=b'])
    assert.equal(put.code, 0, put.stderr)
    assert.match(put.stdout, /^wrote 2 keys, version = \d+\n$/)
    const got = await run(['get', 'demo', 'motto'])
    assert.equal(got.stdout, 'a=b\n')
    const { answer } = await json(['get', 'demo', 'name'])
    assert.deepEqual([answer.value, answer.sizeBytes, answer.key], ['Ada', 3, 'name'])
  })

  it('refuses an outdated version, and takes the one that was read', async () => {
    const { answer } = await json(['get', 'demo', 'name'])
    const version = String(answer.version)
    assert.equal((await run(['put', 'demo', 'name=Grace', '--version', version])).code, 0)
    const late = await json(['put', 'demo', 'name=Late', '--version', version])
    assert.deepEqual([late.code, late.answer.error.code], [1, 'KV_VERSION_CONFLICT'])
    const { answer: past } = await json(['get', 'demo', 'name', '--version', version])
    assert.equal(past.value, 'Ada')
    const { answer: history } = await json(['history', 'demo', 'name'])
    assert.deepEqual(
      history.versions.map(({ value }: { value: string }) => value),
      ['Grace', 'Ada'],
    )
  })

  it('writes files and binary keys, deletes, and lists what is left', async () => {
    const bytes = Uint8Array.from({ length: 5_000 }, (_, i) => i & 0xff)
    await writeFile(join(cwd, 'blob.bin'), bytes)
    assert.equal((await run(['put', 'demo', '--hex-keys', '--file', 'ff00=blob.bin'])).code, 0)
    assert.equal((await run(['get', 'demo', 'ff00', '--hex-keys', '-o', 'copy.bin'])).code, 0)
    assert.ok((await readFile(join(cwd, 'copy.bin'))).equals(bytes))
    assert.ok((await run(['get', 'demo', '0xff00', '--hex-keys', '-o', '-'])).bytes.equals(bytes))
    assert.equal((await run(['get', 'demo', 'ff00', '--hex-keys'])).code, 2, 'no bytes on a terminal')
    assert.equal((await run(['delete', 'demo', 'motto'])).code, 0)
    const { stdout } = await run(['list', 'demo'])
    assert.equal(stdout, 'name = Grace\n0xff00 = (5000 bytes)\n')
    const gone = await json(['get', 'demo', 'motto'])
    assert.deepEqual([gone.code, gone.answer.error.code], [3, 'KV_KEY_UNKNOWN'])
  })

  it('grants, shows and revokes rights', async () => {
    assert.ok(stranger)
    const as = { env: { WEIGHTLESS_PRIVATE_KEY: stranger.privateKey } }
    assert.equal((await json(['put', 'demo', 'theirs=1'], as)).answer.error.code, 'KV_WRITE_DENIED')
    assert.equal((await run(['grant', 'demo', stranger.address])).code, 0)
    assert.equal((await run(['put', 'demo', 'theirs=1'], as)).code, 0)
    assert.equal((await run(['protect', 'demo', 'theirs'])).code, 0)
    const { answer } = await json(['rights', 'demo', stranger.address, '--key', 'theirs'])
    assert.deepEqual([answer.isWriter, answer.isProtected, answer.mayWrite], [true, true, false])
    assert.equal((await run(['revoke', 'demo', stranger.address])).code, 0)
    assert.match((await run(['rights', 'demo', stranger.address])).stdout, /: no role in 0x/)
  })

  it('tells the state of the node and what became of a write', async () => {
    const { answer } = await json(['status'])
    assert.equal(answer.streams.length, 1)
    assert.equal(answer.acceptsNew, true)
    assert.equal((await run(['result', '0'])).stdout, 'Commit\n')
    assert.equal((await run(['result', '999999'])).code, 1)
  })

  it('says what is wrong with what was typed', async () => {
    for (const [args, code, pattern] of [
      [['put', 'demo', 'no-equals-sign'], 2, /KEY=VALUE/],
      [['put', 'demo', 'a='], 2, /kv delete/],
      [['put', 'demo'], 2, /nothing to write/],
      [['put', 'demo', 'a=1', 'a=2'], 2, /given twice/],
      [['put', 'Not A Stream', 'a=1'], 2, /is no stream/],
      [['put', 'demo', 'a=1', '--encrypt'], 2, /no key is given/],
      [['grant', 'demo', '0x12'], 2, /is no address/],
      [['get', 'demo', 'a', '--kv', 'http://127.0.0.1:1'], 5, /did not answer/],
    ] as const) {
      const ran = await run([...args])
      assert.equal(ran.code, code, `${args.join(' ')}: ${ran.stderr}`)
      assert.match(ran.stderr, pattern)
      assert.equal(ran.stdout, '')
    }
  })
})
