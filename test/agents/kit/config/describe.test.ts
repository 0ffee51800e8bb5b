import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { z } from 'zod'
import { configHelp, configMarkdown, describeConfig } from '#kit/config/describe.ts'
import { configBytes, configListen } from '#kit/config/values.ts'

const schema = z.object({
  dataDir: z.string().default('data').describe('Where everything is kept'),
  rpcUrls: z.array(z.string()).describe('RPC endpoints'),
  level: z.enum(['info', 'debug']).default('info'),
  privateKey: z.string().default('0xsecret').describe('Signs'),
  shardKey: z.string().optional().meta({ secret: true }),
  limits: z.object({
    ratio: z.number().min(0).max(1).optional(),
    body: configBytes().prefault('1 MiB').describe('Largest | body'),
  }),
  listen: configListen().prefault('127.0.0.1:1'),
})

describe('describing a configuration', () => {
  it('lists every key with its names, type, default and meaning', () => {
    const keys = describeConfig(schema, { envPrefix: 'WLT' })
    assert.deepEqual(
      keys.map(({ key }) => key),
      ['dataDir', 'rpcUrls', 'level', 'privateKey', 'shardKey', 'limits.ratio', 'limits.body', 'listen'],
    )
    assert.deepEqual(keys[0], {
      key: 'dataDir',
      flag: '--data-dir',
      env: 'WLT_DATA_DIR',
      type: 'text',
      default: 'data',
      required: false,
      description: 'Where everything is kept',
      secret: false,
    })
    const types = Object.fromEntries(keys.map(({ key, type }) => [key, type]))
    assert.equal(types.rpcUrls, 'list of text')
    assert.equal(types.level, 'info | debug')
    assert.equal(types['limits.ratio'], 'number 0…1')
    assert.equal(types['limits.body'], 'bytes, as 1048576 or "1 MiB"')
    assert.equal(types.listen, 'host:port')
    assert.deepEqual(
      keys.filter(({ secret }) => secret).map(({ key }) => key),
      ['privateKey', 'shardKey'],
    )
    assert.deepEqual(
      keys.filter(({ required }) => required).map(({ key }) => key),
      ['rpcUrls'],
    )
  })

  // Invariant: no default of a secret is ever printed, and a secret is offered as a variable, not as a flag.
  it('writes help and a Markdown table without secrets', () => {
    const keys = describeConfig(schema, { envPrefix: 'WLT' })
    const help = configHelp(keys)
    const table = configMarkdown(keys)
    assert.doesNotMatch(help + table, /0xsecret/)
    assert.match(help, /WLT_PRIVATE_KEY {2}/)
    assert.doesNotMatch(help, /--private-key/)
    assert.match(help, /--rpc-urls +RPC endpoints; list of text \[required\]/)
    assert.match(
      table,
      /\| `limits\.body` \| bytes, as 1048576 or "1 MiB" \| `1 MiB` \| Largest \\\| body \| `WLT_LIMITS_BODY` \|/,
    )
    assert.equal(table.trim().split('\n').length, keys.length + 2)
  })
})
