import assert from 'node:assert/strict'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { DEV_ACCOUNTS } from '../../chain.ts'
import { startFaultProxy } from '../client/fault-proxy.ts'
import { seededBytes, testSeed } from '../client/seeded.ts'
import { type StorageNetwork, startStorageNetwork } from '../client/storage-network.ts'
import { type RunParameters, runWeightless } from './run-weightless.ts'

const seed = testSeed()

describe(`weightless upload, download, info, status (seed ${seed})`, () => {
  let network: StorageNetwork
  let cwd = ''
  const run = (args: string[], rest: Partial<RunParameters> = {}) => runWeightless({ args, cwd, ...rest })
  const json = async (args: string[], rest: Partial<RunParameters> = {}) => {
    const ran = await run([...args, '--json'], rest)
    assert.equal(ran.stderr, '', 'nothing on stderr with --json')
    assert.equal(ran.stdout.trimEnd().includes('\n'), false, 'one line on stdout')
    return { ...ran, answer: JSON.parse(ran.stdout) }
  }
  const file = async (name: string, length: number) => {
    const bytes = seededBytes({ seed: `${seed}/${name}`, length })
    await writeFile(join(cwd, name), bytes)
    return bytes
  }

  before(async () => {
    network = await startStorageNetwork({ shards: ['0/2', '1/2'], indexer: true })
    cwd = join(network.dir, 'work')
    await mkdir(join(cwd, '.weightless'), { recursive: true })
    const { flow } = network.contracts
    const devnet = {
      chainId: 31337,
      rpcUrl: network.anvil.url,
      indexerUrl: network.indexerUrl,
      nodes: network.nodes.map(({ url }, index) => ({
        name: `node-${index}`,
        url,
        adminUrl: url,
        shard: `${index}/2`,
      })),
      contracts: { Flow: flow },
      account: { address: DEV_ACCOUNTS[0]?.address },
    }
    await writeFile(join(cwd, '.weightless', 'devnet.json'), JSON.stringify(devnet))
  })
  after(() => network.stop())

  test('storage cost quotes what an upload then pays', async () => {
    const { answer: quote } = await json(['storage', 'cost', '700000'])
    assert.equal(quote.chargedBytes % 256, 0)
    await file('quoted.bin', 700_000)
    const { answer: paid } = await json(['upload', 'quoted.bin'])
    assert.equal(quote.feeWei, paid.feeWei)
    const text = await run(['storage', 'cost', '1.5MiB'])
    assert.match(text.stdout, /1572864 bytes .*charged as 6144 sectors/)
    assert.equal((await run(['storage', 'cost', 'much'])).code, 2)
    assert.equal((await run(['storage', 'cost', '0'])).code, 1)
  })

  test('inside a devnet folder no flag is needed; scripts find the root in the usual line', async () => {
    const bytes = await file('plain.bin', 800_000)
    const up = await run(['upload', 'plain.bin'])
    assert.equal(up.code, 0, up.stderr)
    const [, root = ''] = /^file uploaded, root = (0x[0-9a-f]{64})$/m.exec(up.stdout) ?? []
    assert.notEqual(root, '', up.stdout)
    assert.match(up.stderr, /paid \d+ wei/)
    const down = await run(['download', root, '-o', 'back.bin'])
    assert.equal(down.code, 0, down.stderr)
    assert.match(down.stdout, /^file downloaded, path = .*back\.bin$/m)
    assert.deepEqual(new Uint8Array(await readFile(join(cwd, 'back.bin'))), bytes)
    const again = await run(['download', root, '-o', 'back.bin'])
    assert.equal(again.code, 1)
    assert.match(again.stderr, /FILE_EXISTS/)
    assert.equal((await run(['download', root, '-o', 'back.bin', '--force', '--quiet'])).code, 0)
    const info = await run(['info', root])
    assert.match(info.stdout, /800000 bytes/)
    const { answer } = await json(['info', root])
    assert.equal(answer.root, root)
  })

  test('--json is one object per run, for success and for failure', async () => {
    await file('json.bin', 300_000)
    const { code, answer } = await json(['upload', 'json.bin'])
    assert.equal(code, 0)
    assert.equal(answer.paid, true)
    assert.equal(answer.roots.length, 1)
    assert.match(answer.feeWei, /^\d+$/)
    const repeated = await json(['upload', 'json.bin'])
    assert.deepEqual({ root: repeated.answer.root, paid: repeated.answer.paid }, { root: answer.root, paid: false })
    const unknown = await json(['download', `0x${'34'.repeat(32)}`])
    assert.equal(unknown.code, 3)
    assert.equal(unknown.answer.error.code, 'ROOT_UNKNOWN')
  })

  test('no money: exit code 4 with the amounts', async () => {
    await file('poor.bin', 1_000)
    const env = { WEIGHTLESS_PRIVATE_KEY: `0x${'42'.repeat(32)}` }
    const { code, answer, stdout } = await json(['upload', 'poor.bin'], { env })
    assert.equal(code, 4)
    assert.equal(answer.error.code, 'INSUFFICIENT_FUNDS')
    assert.equal(answer.error.details.haveWei, '0')
    assert.match(answer.error.fix, /send at least \d+ wei to 0x/)
    assert.equal(stdout.includes('4242'), false, 'the key is not in the output')
  })

  test('standard output takes the bytes alone, also a range', async () => {
    const bytes = await file('out.bin', 600_000)
    const { answer } = await json(['upload', 'out.bin'])
    const whole = await run(['download', answer.root, '-o', '-'])
    assert.deepEqual(new Uint8Array(whole.bytes), bytes)
    const range = await run(['download', answer.root, '-o', '-', '--offset', '262140', '--length', '10'])
    assert.deepEqual(new Uint8Array(range.bytes), bytes.slice(262_140, 262_150))
  })

  test('encrypted with a key file and for a recipient; the wrong key is named as such', async () => {
    const bytes = await file('secret.bin', 50_000)
    await writeFile(join(cwd, 'a.key'), `${'a1'.repeat(32)}\n`)
    await writeFile(join(cwd, 'b.key'), `0x${'b2'.repeat(32)}\n`)
    const symmetric = (await json(['upload', 'secret.bin', '--encrypt', '--key-file', 'a.key'])).answer
    const wrong = await json(['download', symmetric.root, '-o', 'no.bin', '--decrypt-key-file', 'b.key'])
    assert.equal(wrong.answer.error.code, 'KEY_DOES_NOT_FIT')
    assert.equal(await stat(join(cwd, 'no.bin')).catch(() => undefined), undefined)
    assert.equal((await run(['download', symmetric.root, '-o', 'a.bin', '--decrypt-key-file', 'a.key'])).code, 0)
    assert.deepEqual(new Uint8Array(await readFile(join(cwd, 'a.bin'))), bytes)

    const env = { WEIGHTLESS_PRIVATE_KEY: `0x${'77'.repeat(32)}` }
    const { publicKey } = (await json(['key', 'show'], { env })).answer
    const sealed = (await json(['upload', 'secret.bin', '--recipient', publicKey])).answer
    assert.equal((await run(['download', sealed.root, '-o', 'r.bin', '--decrypt'], { env })).code, 0)
    assert.deepEqual(new Uint8Array(await readFile(join(cwd, 'r.bin'))), bytes)
    const keyless = await run(['upload', 'secret.bin', '--encrypt'])
    assert.equal(keyless.code, 2)
    assert.match(keyless.stderr, /no key is given to encrypt with/)
  })

  test('a folder goes up and comes down; a split file is named by its roots', async () => {
    await mkdir(join(cwd, 'folder', 'sub'), { recursive: true })
    await writeFile(join(cwd, 'folder', 'a.txt'), 'a')
    await writeFile(join(cwd, 'folder', 'sub', 'b.txt'), 'b')
    const up = await run(['upload', 'folder'])
    const [, root = ''] = /^directory uploaded, root = (0x[0-9a-f]{64})$/m.exec(up.stdout) ?? []
    assert.notEqual(root, '', up.stderr)
    assert.equal((await run(['download', root, '-o', 'folder-back'])).code, 0)
    assert.equal(await readFile(join(cwd, 'folder-back', 'sub', 'b.txt'), 'utf8'), 'b')

    const bytes = await file('split.bin', 1_200_000)
    const split = await run(['upload', 'split.bin', '--fragment-size', '512KiB'])
    const [, roots = ''] = /^file uploaded in 3 fragments, roots = (\S+)$/m.exec(split.stdout) ?? []
    assert.equal(roots.split(',').length, 3, split.stdout)
    assert.equal((await run(['download', roots, '-o', 'split-back.bin'])).code, 0)
    assert.deepEqual(new Uint8Array(await readFile(join(cwd, 'split-back.bin'))), bytes)
  })

  test('status says what works and what does not, and its exit code too', async () => {
    const good = await run(['status'])
    assert.equal(good.code, 0, good.stdout)
    for (const line of ['ok  chain', 'ok  flow', 'ok  indexer', 'ok  node', 'ok  cover', 'ok  account'])
      assert.match(good.stdout, new RegExp(`^${line}`, 'm'))
    const half = await json(['status', '--node', network.nodes[0]?.url ?? ''])
    assert.equal(half.code, 5)
    assert.equal(half.answer.replicas, 0)
    const dead = await run(['status', '--rpc', 'http://127.0.0.1:9'])
    assert.equal(dead.code, 5)
    assert.match(dead.stdout, /^BAD chain/m)
  })

  test('Ctrl-C during an upload ends with 130, says how to go on, and going on does not pay again', async () => {
    await file('interrupted.bin', 6_000_000)
    const proxies = await Promise.all(network.nodes.map(({ url }) => startFaultProxy(url)))
    try {
      let stalled = 0
      for (const proxy of proxies) {
        proxy.fault = ({ method, path }) => {
          if (method !== 'POST' || !path.endsWith('/segments')) return undefined
          stalled += 1
          return { type: 'stall', afterBytes: 0 }
        }
      }
      const nodes = proxies.flatMap(({ url }) => ['--node', url])
      let sent = false
      const started = Date.now()
      const stopped = await run(['upload', 'interrupted.bin', ...nodes], {
        onStart: (child) => {
          const look = setInterval(() => {
            if (stalled === 0 || sent) return
            sent = true
            clearInterval(look)
            child.kill('SIGINT')
          }, 20)
          child.on('close', () => clearInterval(look))
        },
      })
      assert.equal(stopped.code, 130, stopped.stderr)
      assert.match(stopped.stderr, /run the same command again/)
      assert.equal(Date.now() - started < 30_000, true)
      for (const proxy of proxies) proxy.fault = () => undefined
      const again = await json(['upload', 'interrupted.bin', ...nodes])
      assert.equal(again.code, 0)
      assert.equal(again.answer.paid, false)
    } finally {
      await Promise.all(proxies.map((proxy) => proxy.close()))
    }
  })

  test('Ctrl-C during a download keeps the part file; going on uses it', async () => {
    const bytes = await file('half.bin', 12_000_000)
    const { answer } = await json(['upload', 'half.bin'])
    const proxies = await Promise.all(network.nodes.map(({ url }) => startFaultProxy(url)))
    try {
      let answers = 0
      let stalled = false
      let interrupted = false
      for (const proxy of proxies) {
        proxy.fault = ({ path }) => {
          if (!/segments\?/.test(path)) return undefined
          answers += 1
          // The first looks (is it a folder?) and some runs go through; then nothing moves any more.
          if (answers <= 5) return undefined
          stalled = true
          return { type: 'stall', afterBytes: 700_000 }
        }
      }
      const args = ['download', answer.root, '-o', 'half-back.bin', ...proxies.flatMap(({ url }) => ['--node', url])]
      const stopped = await run(args, {
        onStart: (child) => {
          const look = setInterval(async () => {
            const part = await stat(join(cwd, 'half-back.bin.part')).catch(() => undefined)
            if (interrupted || !stalled || (part?.size ?? 0) < 1_000_000) return
            interrupted = true
            clearInterval(look)
            child.kill('SIGINT')
          }, 50)
          child.on('close', () => clearInterval(look))
        },
      })
      assert.equal(stopped.code, 130, stopped.stderr)
      assert.match(stopped.stderr, /\.part/)
      for (const proxy of proxies) proxy.fault = () => undefined
      const resumed = await json(args)
      assert.equal(resumed.answer.resumedBytes > 0, true)
      assert.deepEqual(new Uint8Array(await readFile(join(cwd, 'half-back.bin'))), bytes)
    } finally {
      await Promise.all(proxies.map((proxy) => proxy.close()))
    }
  })
})
