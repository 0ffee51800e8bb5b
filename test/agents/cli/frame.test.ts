import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { runWeightless } from './run-weightless.ts'

const DEAD = 'http://127.0.0.1:9'
const ROOT = `0x${'ab'.repeat(32)}`
const KEY = `0x${'11'.repeat(32)}`

describe('weightless command', () => {
  let dir = ''
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'weightless-cli-'))
  })
  after(() => rm(dir, { recursive: true, force: true }))

  test('--help lists the commands and the exit codes', async () => {
    const { code, stdout } = await runWeightless({ args: ['--help'], cwd: dir })
    assert.equal(code, 0)
    for (const command of ['upload', 'download', 'info', 'status', 'key'])
      assert.match(stdout, new RegExp(`^  ${command} `, 'm'))
    assert.match(stdout, /Exit codes:/)
    assert.match(stdout, /130 {2}interrupted/)
  })

  test('wrong usage ends with 2 and says what is wrong, on stderr', async () => {
    for (const args of [['nonsense'], ['upload'], ['upload', 'x', '--replicas', '0'], ['info', '0x12'], ['--bogus']]) {
      const { code, stdout, stderr } = await runWeightless({ args, cwd: dir })
      assert.equal(code, 2, args.join(' '))
      assert.equal(stdout, '', args.join(' '))
      assert.match(stderr, /error: /, args.join(' '))
    }
  })

  test('with --json wrong usage is one JSON object on stdout and nothing else', async () => {
    const { code, stdout, stderr } = await runWeightless({ args: ['upload', 'x', '--bogus', '--json'], cwd: dir })
    assert.equal(code, 2)
    const { error } = JSON.parse(stdout)
    assert.equal(error.code, 'CLI_USAGE')
    assert.match(error.message, /--bogus/)
    assert.equal(stderr, '')
  })

  test('errors name what, cause and fix; the exit code tells the kind', async () => {
    await writeFile(join(dir, 'some.txt'), 'some bytes')
    const missing = await runWeightless({ args: ['upload', 'missing.bin', '--node', DEAD, '--rpc', DEAD], cwd: dir })
    assert.equal(missing.code, 3)
    assert.match(missing.stderr, /missing\.bin does not exist \[FILE_MISSING\]/)
    assert.match(missing.stderr, /fix: /)
    const dead = await runWeightless({ args: ['info', ROOT, '--node', DEAD, '--json'], cwd: dir })
    assert.equal(dead.code, 5)
    assert.equal(JSON.parse(dead.stdout).error.code, 'NODE_UNREACHABLE')
    const unset = await runWeightless({ args: ['upload', 'some.txt'], cwd: dir })
    assert.equal(unset.code, 2)
    assert.match(unset.stderr, /indexerUrl or nodes is needed/)
  })

  test('no colour codes and no progress bar where stderr is no terminal', async () => {
    const { stderr } = await runWeightless({
      args: ['info', ROOT, '--node', DEAD],
      cwd: dir,
      env: { FORCE_COLOR: '1' },
    })
    assert.equal(stderr.includes('\u001b'), false)
  })

  test('on a terminal errors are coloured, unless NO_COLOR or --no-color says otherwise', async () => {
    const { runCli } = await import('#cli/run-cli.ts')
    const { PassThrough } = await import('node:stream')
    const onTerminal = async (args: string[], env: Record<string, string>) => {
      const [stdin, stdout] = [new PassThrough(), new PassThrough()]
      const stderr = Object.assign(new PassThrough(), { isTTY: true, columns: 100 })
      let text = ''
      stderr.setEncoding('utf8').on('data', (part: string) => {
        text += part
      })
      const code = await runCli({
        argv: ['info', ROOT, '--node', DEAD, ...args],
        env: { HOME: dir, ...env },
        cwd: dir,
        stdin,
        stdout,
        stderr,
      })
      assert.equal(code, 5)
      return text
    }
    assert.equal((await onTerminal([], {})).includes('\u001b[31m'), true)
    assert.equal((await onTerminal([], { NO_COLOR: '1' })).includes('\u001b'), false)
    assert.equal((await onTerminal(['--no-color'], {})).includes('\u001b'), false)
    assert.equal((await onTerminal([], { TERM: 'dumb' })).includes('\u001b'), false)
  })

  test('settings: flags win over the environment, that over a devnet file, that over a configuration file', async () => {
    const home = join(dir, 'layers')
    await mkdir(join(home, 'deep', 'er'), { recursive: true })
    await mkdir(join(home, '.weightless'))
    const flow = `0x${'aa'.repeat(20)}`
    const devnet = {
      chainId: 31337,
      rpcUrl: `${DEAD}/devnet`,
      indexerUrl: `${DEAD}/devnet`,
      nodes: [],
      contracts: { Flow: flow },
    }
    await writeFile(join(home, '.weightless', 'devnet.json'), JSON.stringify(devnet))
    await writeFile(
      join(home, 'deep', 'er', 'weightless.toml'),
      `rpc_url = "${DEAD}/file"\nkeystore = "k.json"\n[networks.mine]\nrpc_url = "${DEAD}/mine"\nnodes = ["${DEAD}/n1", "${DEAD}/n2"]\n`,
    )
    const settings = async (args: string[], env: Record<string, string> = {}) => {
      const { stdout } = await runWeightless({
        args: ['status', '--json', ...args],
        cwd: join(home, 'deep', 'er'),
        env,
      })
      return JSON.parse(stdout).settings
    }
    const plain = await settings([])
    assert.deepEqual(plain.rpcUrl, [`${DEAD}/devnet`])
    assert.equal(plain.flow, flow)
    assert.match(plain.origin.keystore, /weightless\.toml$/)
    assert.deepEqual((await settings([], { WEIGHTLESS_RPC_URL: `${DEAD}/env` })).rpcUrl, [`${DEAD}/env`])
    const flagged = await settings(['--rpc', `${DEAD}/flag`, '--node', `${DEAD}/a`], {
      WEIGHTLESS_RPC_URL: `${DEAD}/env`,
    })
    assert.deepEqual(flagged.rpcUrl, [`${DEAD}/flag`])
    assert.deepEqual(flagged.nodes, [`${DEAD}/a`])
    assert.equal(flagged.indexerUrl, null, 'nodes named by a flag leave no indexer of another layer in use')
    const named = await settings(['--network', 'mine'])
    assert.deepEqual(named.nodes, [`${DEAD}/n1`, `${DEAD}/n2`])
    const wrong = await runWeightless({ args: ['status', '--network', 'nowhere'], cwd: dir })
    assert.equal(wrong.code, 2)
    assert.match(wrong.stderr, /there is no network nowhere.*NETWORK_UNKNOWN/)
  })

  test('a key is made, imported and shown; it never shows up in any output', async () => {
    const env = { WEIGHTLESS_KEYSTORE_PASSWORD: 'correct horse' }
    const imported = await runWeightless({
      args: ['key', 'import', 'imported.json', '--json'],
      cwd: dir,
      env,
      input: `${KEY}\n`,
    })
    assert.equal(imported.code, 0, imported.stderr)
    const { address } = JSON.parse(imported.stdout)
    assert.equal(address, '0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A')
    const shown = await runWeightless({ args: ['key', 'show', 'imported.json', '--json'], cwd: dir, env })
    assert.equal(JSON.parse(shown.stdout).address, address)
    assert.match(JSON.parse(shown.stdout).publicKey, /^0x0[23][0-9a-f]{64}$/)
    const again = await runWeightless({ args: ['key', 'new', 'imported.json'], cwd: dir, env })
    assert.equal(again.code, 1)
    assert.match(again.stderr, /KEYSTORE_EXISTS/)
    const wrong = await runWeightless({
      args: ['key', 'show', 'imported.json', '--verbose'],
      cwd: dir,
      env: { WEIGHTLESS_KEYSTORE_PASSWORD: 'wrong horse' },
    })
    assert.equal(wrong.code, 1)
    for (const ran of [imported, shown, again, wrong]) {
      assert.equal(`${ran.stdout}${ran.stderr}`.includes(KEY.slice(2)), false)
      assert.equal(`${ran.stdout}${ran.stderr}`.includes('horse'), false)
    }
    assert.equal((await readFile(join(dir, 'imported.json'), 'utf8')).includes(KEY.slice(2)), false)
  })

  test('the wrapper works through a symbolic link and from any folder', async () => {
    const { spawnSync } = await import('node:child_process')
    const link = join(dir, 'wl')
    await symlink(fileURLToPath(new URL('../../../weightless', import.meta.url)), link)
    const ran = spawnSync(link, ['--version'], { cwd: tmpdir(), encoding: 'utf8' })
    assert.equal(ran.status, 0, ran.stderr)
    assert.match(ran.stdout, /^\d+\.\d+\.\d+\n$/)
  })

  test('without installed dependencies the wrapper says how to install them', async () => {
    const { spawnSync } = await import('node:child_process')
    const bare = join(dir, 'bare')
    await mkdir(bare)
    const text = await readFile(fileURLToPath(new URL('../../../weightless', import.meta.url)))
    await writeFile(join(bare, 'weightless'), text, { mode: 0o755 })
    const ran = spawnSync(join(bare, 'weightless'), ['--version'], { encoding: 'utf8' })
    assert.equal(ran.status, 1)
    assert.match(ran.stderr, /fix: cd .*npm ci/)
  })
})
