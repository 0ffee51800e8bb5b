import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { loadConfig } from '#kit/config/load.ts'
import { agentAccount } from '#kit/keys/agent-account.ts'
import {
  MINER_ALIAS_ENV_PREFIX,
  MINER_CONFIG_ALIASES,
  MINER_ENV_PREFIX,
  minerConfigSchema,
} from '#storage/miner/main.ts'
import { devAddress, key, temporaryFolder } from './harness.ts'

const ADDRESS = `0x${'ab'.repeat(20)}`
const REQUIRED = {
  chain: { rpcUrls: ['http://127.0.0.1:8545'], flow: ADDRESS, mine: ADDRESS, reward: ADDRESS },
  nodes: { urls: ['http://127.0.0.1:5678'] },
}

describe('the configuration of a miner', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  before(async () => {
    folder = await temporaryFolder()
  })
  after(() => folder.remove())

  function load(toml: string, env: Record<string, string> = {}) {
    const file = `${folder.path}/config.toml`
    writeFileSync(file, toml)
    const warnings: string[] = []
    const config = loadConfig({
      ...{ schema: minerConfigSchema, envPrefix: MINER_ENV_PREFIX, env, cwd: folder.path, file },
      ...{ aliases: MINER_CONFIG_ALIASES, aliasEnvPrefix: MINER_ALIAS_ENV_PREFIX },
      onWarning: (warning) => warnings.push(warning),
    })
    return { config, warnings }
  }

  // A file of a 0G storage node configures a miner, but for the key, which is never taken from there.
  it('takes the mining settings of zgs_node, and not its key', () => {
    const { config, warnings } = load(`
      blockchain_rpc_endpoint = "http://127.0.0.1:8545"
      log_contract_address = "${ADDRESS}"
      mine_contract_address = "${ADDRESS}"
      reward_contract_address = "${ADDRESS}"
      mine_context_query_seconds = 3
      miner_key = "${key(5).slice(2)}"
      miner_cpu_percentage = 60
      shard_position = "3/8"
      [submission_config]
      max_gas_price = 5000000000
      max_retries = 4
      interval_secs = 7
      [nodes]
      urls = ["http://127.0.0.1:5678"]
    `)
    assert.equal(config.chain.pollIntervalMs, 3_000)
    assert.equal(config.mining.cpuPercent, 60)
    assert.deepEqual(config.data.shard, { shardId: 3, numShard: 8 })
    assert.equal(config.submission.maxFeePerGasWei, 5_000_000_000n)
    assert.equal(config.submission.maxReplacements, 4)
    assert.equal(config.submission.stuckAfterMs, 7_000)
    assert.equal(warnings.length, 1)
    assert.match(warnings[0] ?? '', /miner_key has no effect: keys are not taken from here/)
    assert.ok(
      !JSON.stringify(config, (_, v: unknown) => (typeof v === 'bigint' ? `${v}` : v)).includes(key(5).slice(2)),
    )
    assert.ok(!warnings.join().includes(key(5).slice(2)), 'the key is not shown')
  })

  it('says everything that is wrong at once', () => {
    const wrong = `
      [data]
      shard = "3/6"
      [mining]
      cpu_percent = 0
      beneficiary = "0x12"
    `
    assert.throws(
      () => load(wrong),
      (error: Error) => {
        for (const name of ['data.shard', 'mining.cpuPercent', 'mining.beneficiary', 'chain.rpcUrls', 'nodes.urls']) {
          assert.match(error.message, new RegExp(name.replace('.', '\\.')), name)
        }
        return true
      },
    )
  })

  // Publicly known keys pay on a development chain of this machine and nowhere else.
  it('uses a development account only on a development chain', async () => {
    const parse = (chain: object) =>
      minerConfigSchema.parse({ ...REQUIRED, chain: { ...REQUIRED.chain, ...chain }, key: { devAccount: 6 } })
    const local = await agentAccount({ ...parse({ id: 31337 }), env: {} })
    assert.equal(local.address.toLowerCase(), devAddress(6))
    for (const chain of [{}, { id: 1 }, { id: 31337, rpcUrls: ['https://rpc.example.org'] }]) {
      await assert.rejects(agentAccount({ ...parse(chain), env: {} }), { code: 'DEV_ACCOUNT' })
    }
  })

  it('takes the key from the environment, and says how to give one', async () => {
    const config = minerConfigSchema.parse(REQUIRED)
    const account = await agentAccount({ ...config, env: { WEIGHTLESS_PRIVATE_KEY: key(4) } })
    assert.equal(account.address.toLowerCase(), devAddress(4))
    await assert.rejects(agentAccount({ ...config, env: {} }), { code: 'SIGNER_MISSING' })
  })
})
