import assert from 'node:assert/strict'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { z } from 'zod'
import { readEnvironment } from '#kit/config/environment.ts'
import { ConfigError, type LoadConfigParameters, loadConfig } from '#kit/config/load.ts'
import { configAddress, configBytes, configDurationMs, configListen, configUrl } from '#kit/config/values.ts'
import { scratchFolder } from '../crash.ts'

const schema = z.object({
  dataDir: z.string().default('data').describe('Where everything is kept'),
  rpcUrls: z.array(configUrl()).min(1).describe('RPC endpoints of the chain'),
  flowAddress: configAddress().optional(),
  confirmations: z.int().min(0).max(1_000).default(3),
  mine: z.boolean().default(false),
  level: z.enum(['info', 'debug']).default('info'),
  minerKey: z.string().min(64).optional(),
  labels: z.record(z.string(), z.string()).optional(),
  rpc: z.object({
    listen: configListen().prefault('127.0.0.1:5678'),
    maxBody: configBytes({ max: 2 ** 30 }).prefault('100 MiB'),
    timeout: configDurationMs({ max: 600_000 }).prefault('30s'),
  }),
})

const needed = { WLT_RPC_URLS: 'http://127.0.0.1:8545' }

/** Loads in an empty folder, gathering warnings. */
async function load(
  parameters: Partial<LoadConfigParameters<typeof schema>> & { files?: Record<string, string> } = {},
): Promise<{ config: z.output<typeof schema>; warnings: string[] }> {
  await using folder = await scratchFolder()
  for (const [name, text] of Object.entries(parameters.files ?? {})) await writeFile(join(folder.path, name), text)
  const warnings: string[] = []
  const onWarning = (warning: string): void => {
    warnings.push(warning)
  }
  const config = loadConfig({ schema, env: needed, envPrefix: 'WLT', cwd: folder.path, onWarning, ...parameters })
  return { config, warnings }
}

async function problemsOf(loading: Promise<unknown>): Promise<ConfigError> {
  const error = await loading.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof ConfigError, String(error))
  return error
}

describe('loading the configuration', () => {
  it('fills in defaults, those of sections included', async () => {
    const { config, warnings } = await load()
    assert.deepEqual(config, {
      dataDir: 'data',
      rpcUrls: ['http://127.0.0.1:8545'],
      confirmations: 3,
      mine: false,
      level: 'info',
      rpc: { listen: { host: '127.0.0.1', port: 5678 }, maxBody: 104_857_600, timeout: 30_000 },
    })
    assert.deepEqual(warnings, [])
  })

  // Invariant: defaults < file < .env < environment < flags, key by key.
  it('lets later sources win, key by key', async () => {
    const files = {
      'node.toml': 'data_dir = "file"\nconfirmations = 1\nmine = true\nlevel = "debug"\n[rpc]\nmax_body = "1 MiB"',
      '.env': 'WLT_DATA_DIR=dotenv\nWLT_CONFIRMATIONS=2\nWLT_RPC_TIMEOUT=2s\n',
    }
    const env = { ...needed, WLT_DATA_DIR: 'environment', WLT_LEVEL: '' }
    const { config, warnings } = await load({
      files,
      file: 'node.toml',
      env,
      flags: { dataDir: 'flag', mine: undefined },
    })
    assert.equal(config.dataDir, 'flag')
    assert.equal(config.confirmations, 2)
    assert.equal(config.mine, true)
    assert.equal(config.level, 'debug', 'an empty variable counts as not set')
    assert.equal(config.rpc.maxBody, 2 ** 20)
    assert.equal(config.rpc.timeout, 2_000)
    assert.deepEqual(warnings, [])
  })

  it('takes keys as camelCase, snake_case, kebab-case, by section or in one word, from TOML and JSON', async () => {
    const texts: [string, string][] = [
      ['a.toml', 'dataDir = "x"\n[rpc]\nmaxBody = 5'],
      ['a.toml', 'data-dir = "x"\nrpc_max_body = 5'],
      ['a.toml', 'rpc.max-body = 5\ndata_dir = "x"'],
      ['a.json', '{"dataDir":"x","rpc":{"max_body":5}}'],
      ['a.JSON', '{"data_dir":"x","rpc.maxBody":5}'],
    ]
    for (const [file, text] of texts) {
      const { config, warnings } = await load({ files: { [file]: text }, file })
      assert.deepEqual([config.dataDir, config.rpc.maxBody, warnings], ['x', 5, []], text)
    }
  })

  it('reads text from the environment by the type of its key', async () => {
    const env = {
      WLT_RPC_URLS: 'http://a:1, https://b',
      WLT_MINE: 'yes',
      WLT_CONFIRMATIONS: '1_0',
      WLT_LABELS: '{"zone":"north"}',
      WLT_FLOW_ADDRESS: `${'aB'.repeat(20)}`,
      WLT_RPC_LISTEN: '[::1]:0',
      WLT_RPC_MAX_BODY: '1.5 GB',
    }
    const { config } = await load({ env: { ...env, WLT_RPC_MAX_BODY: '1.5 MB' } })
    assert.deepEqual(config.rpcUrls, ['http://a:1', 'https://b'])
    assert.equal(config.mine, true)
    assert.equal(config.confirmations, 10)
    assert.deepEqual(config.labels, { zone: 'north' })
    assert.equal(config.flowAddress, `0x${'ab'.repeat(20)}`)
    assert.deepEqual(config.rpc.listen, { host: '::1', port: 0 })
    assert.equal(config.rpc.maxBody, 1_500_000)
    assert.match((await problemsOf(load({ env }))).message, /rpc\.maxBody: .*from 0 to 1073741824 bytes, not "1.5 GB"/)
  })

  // Invariant: one run names every wrong key, with the value's limit, where it was set and what to do.
  it('reports everything wrong at once', async () => {
    const files = {
      'node.toml': 'rpc_urls = ["ftp://x"]\nconfirmations = 2000\n[rpc]\nlisten = "here"\ntimeout = "2 years"',
    }
    const env = { WLT_MINE: 'perhaps', WLT_LEVEL: 'loud', WLT_LABELS: '{' }
    const error = await problemsOf(load({ files, file: 'node.toml', env }))
    assert.equal(error.code, 'CONFIG_INVALID')
    assert.deepEqual(error.problems.map(({ key }) => key).sort(), [
      'confirmations',
      'labels',
      'level',
      'mine',
      'rpc.listen',
      'rpc.timeout',
      'rpcUrls',
    ])
    for (const text of [
      /7 things are wrong/,
      /confirmations: .*<=1000, not 2000 \(node\.toml, key confirmations\)/,
      /rpcUrls: entry 0: expected an http or https address/,
      /mine: expected true or false, not "perhaps" \(environment WLT_MINE\)/,
      /rpc\.listen: expected host:port/,
      /rpc\.timeout: expected milliseconds, or "15s".*from 0 to 600000 ms/,
      /level: .*"info".*"debug"/,
    ]) {
      assert.match(error.message, text)
    }
    assert.ok(error.problems.every(({ fix }) => fix !== ''))
  })

  it('says how to give what is missing', async () => {
    const error = await problemsOf(load({ env: {}, files: { 'a.toml': '' }, file: 'a.toml' }))
    assert.match(error.message, /rpcUrls: is required \(list of text: RPC endpoints of the chain\)/)
    assert.match(error.message, /give it in .*a\.toml, as WLT_RPC_URLS, or with --rpc-urls/)
  })

  it('warns about unknown keys and suggests the one that is meant', async () => {
    const files = { 'node.toml': 'confirmation = 5\nwhatever = 1\n[rpc]\nlissten = "x"\n[other]\na = 1' }
    const env = { ...needed, WLT_DATADIR_: 'x', WLT_CONFIRMATONS: '1', OTHER_THING: '1' }
    const { warnings } = await load({ files, file: 'node.toml', env, flags: { nope: 1 } })
    const text = warnings.join('\n')
    assert.match(text, /confirmation is unknown and has no effect; did you mean confirmations\?/)
    assert.match(text, /rpc\.lissten is unknown and has no effect; did you mean rpc\.listen\?/)
    assert.match(text, /whatever is unknown and has no effect$/m)
    assert.match(text, /other\.a is unknown/)
    assert.match(text, /WLT_CONFIRMATONS is unknown and has no effect; did you mean confirmations\?/)
    assert.match(text, /the flag nope is unknown/)
    assert.doesNotMatch(text, /OTHER_THING/)
    assert.equal(warnings.length, 6)
  })

  it('takes the names operators know from elsewhere', async () => {
    const aliases = {
      blockchain_rpc_endpoint: { key: 'rpcUrls', convert: (value: unknown) => [value] },
      log_contract_address: 'flowAddress',
      'rpc.listen_address': 'rpc.listen',
      blockchain_rpc_timeout_secs: { key: 'rpc.timeout', convert: (value: unknown) => Number(value) * 1_000 },
      network_libp2p_port: { ignored: 'peers speak HTTP here' },
    }
    const files = {
      'zgs.toml': `blockchain_rpc_endpoint = "http://chain"\nnetwork_libp2p_port = 1234\n[rpc]\nlisten_address = "0.0.0.0:5678"`,
    }
    const env = { ZGS_NODE__BLOCKCHAIN_RPC_TIMEOUT_SECS: '7', ZGS_NODE__LOG_CONTRACT_ADDRESS: '0x'.padEnd(42, '1') }
    const { config, warnings } = await load({ files, file: 'zgs.toml', env, aliases, aliasEnvPrefix: 'ZGS_NODE__' })
    assert.deepEqual(config.rpcUrls, ['http://chain'])
    assert.equal(config.rpc.timeout, 7_000)
    assert.equal(config.rpc.listen.host, '0.0.0.0')
    assert.equal(config.flowAddress, `0x${'1'.repeat(40)}`)
    assert.deepEqual(warnings, ['zgs.toml: network_libp2p_port has no effect: peers speak HTTP here'])
  })

  // Invariant: a secret is never shown and never taken from the command line.
  it('keeps secrets out of messages and off the command line', async () => {
    const short = await problemsOf(load({ env: { ...needed, WLT_MINER_KEY: 'hunter2' } }))
    assert.match(short.message, /minerKey: Too small: expected string to have >=64 characters/)
    assert.doesNotMatch(JSON.stringify([short.message, short.details]), /hunter2/)
    const flag = await problemsOf(load({ flags: { minerKey: 'hunter2'.repeat(12) } }))
    assert.match(flag.message, /minerKey: is a secret, and flags are visible to every user.*\n.*WLT_MINER_KEY/)
    assert.doesNotMatch(JSON.stringify([flag.message, flag.details]), /hunter2/)
  })

  it('names a file that is missing, broken, no table, too large, or a folder', async () => {
    const cases: [string, string | undefined, RegExp][] = [
      ['absent.toml', undefined, /the file does not exist .*absent\.toml/],
      ['bad.toml', 'a = \nb = 1', /cannot be understood at line 1/],
      ['bad.json', '{', /cannot be understood/],
      ['list.json', '[1]', /the file holds no table of keys/],
      ['large.toml', `a = "${'x'.repeat(2 ** 20)}"`, /larger than 1048576 bytes/],
    ]
    for (const [file, text, message] of cases) {
      const error = await problemsOf(load({ file, files: text === undefined ? {} : { [file]: text } }))
      assert.equal(error.code, 'CONFIG_FILE')
      assert.match(error.message, message)
    }
    await using folder = await scratchFolder()
    await mkdir(join(folder.path, 'node.toml'))
    assert.equal((await problemsOf(load({ cwd: folder.path, file: 'node.toml' }))).code, 'CONFIG_FILE')
  })

  // Invariant: reading `.env` changes nothing in the process's own environment.
  it('offers the environment with .env beneath it', async () => {
    await using folder = await scratchFolder()
    const cwd = folder.path
    assert.deepEqual(readEnvironment({ cwd, env: { A: '1', B: '', C: undefined } }), { A: '1' })
    await writeFile(join(cwd, '.env'), 'A=file\nB="two words"\n# no\nWEIGHTLESS_TEST_ONLY=x\n')
    assert.deepEqual(readEnvironment({ cwd, env: { A: '1', B: '' } }), {
      A: '1',
      B: 'two words',
      WEIGHTLESS_TEST_ONLY: 'x',
    })
    assert.equal(process.env.WEIGHTLESS_TEST_ONLY, undefined)
    await rm(join(cwd, '.env'))
    await mkdir(join(cwd, '.env'))
    assert.throws(() => readEnvironment({ cwd, env: {} }), { code: 'CONFIG_FILE' })
  })

  it('warns when one key is given twice in a file', async () => {
    const { config, warnings } = await load({ files: { 'a.toml': 'data_dir = "x"\ndataDir = "y"' }, file: 'a.toml' })
    assert.equal(config.dataDir, 'y')
    assert.match(warnings.join(), /data_dir and dataDir are the same key; dataDir is used/)
  })

  it('refuses a schema whose keys cannot be told apart', async () => {
    const twins = z.object({ rpcUrl: z.string(), rpc: z.object({ url: z.string() }) })
    assert.throws(() => loadConfig({ schema: twins, env: {}, envPrefix: 'X' }), TypeError)
  })

  // Invariant: whatever a JSON file holds, loading gives a configuration or a ConfigError, and pollutes no prototype.
  it('survives any JSON file and any environment', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'any.json')
    const names = fc.constantFrom('dataDir', 'rpc', 'rpcUrls', 'labels', 'mine', '__proto__', 'constructor', 'x')
    const table = fc.dictionary(names, fc.oneof(fc.jsonValue(), fc.dictionary(names, fc.jsonValue())))
    const variables = fc.dictionary(
      fc.constantFrom('WLT_MINE', 'WLT_LABELS', 'WLT_RPC_LISTEN', 'WLT_CONFIRMATIONS', 'WLT___PROTO__', 'WLT_'),
      fc.string(),
    )
    await fc.assert(
      fc.asyncProperty(table, variables, async (value, env) => {
        await writeFile(path, JSON.stringify(value))
        try {
          loadConfig({ schema, file: path, env, envPrefix: 'WLT', cwd: folder.path, onWarning: () => {} })
        } catch (error) {
          assert.ok(error instanceof ConfigError, String(error))
        }
        assert.equal(Reflect.get({}, 'x'), undefined)
      }),
      { numRuns: 300 },
    )
  })
})
