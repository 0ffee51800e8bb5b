import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { loadConfig } from '#kit/config/load.ts'
import { NODE_ALIAS_ENV_PREFIX, NODE_CONFIG_ALIASES, NODE_ENV_PREFIX, nodeConfigSchema } from '#storage/node/main.ts'
import { rpc, startTestNet, temporaryFolder } from './harness.ts'

const FLOW = '0x22e03a6a89b950f1c82ec5e74f8eca321a105296'

function load(file: string, env: Record<string, string> = {}) {
  const warnings: string[] = []
  const config = loadConfig({
    schema: nodeConfigSchema,
    file,
    env,
    envPrefix: NODE_ENV_PREFIX,
    aliases: NODE_CONFIG_ALIASES,
    aliasEnvPrefix: NODE_ALIAS_ENV_PREFIX,
    cwd: '/',
    onWarning: (warning) => warnings.push(warning),
  })
  return { config, warnings }
}

// A configuration written for the reference node is read: names, units and the values written as text there.
test('reads a zgs_node configuration', async () => {
  const folder = await temporaryFolder()
  const file = join(folder.path, 'config.toml')
  await writeFile(
    file,
    `
    network_dir = "network"
    network_boot_nodes = ["/ip4/1.2.3.4/udp/1234/p2p/x"]
    blockchain_rpc_endpoint = "http://127.0.0.1:8545,http://127.0.0.1:8546"
    log_contract_address = "22E03a6A89B950F1c82ec5e74F8eCa321a105296"
    log_sync_start_block_number = 326165
    confirmation_block_count = 3
    log_page_size = 500
    watch_loop_wait_time_ms = 250
    db_dir = "db"
    db_max_num_chunks = 4000000000
    prune_check_time_s = 30
    chunk_pool_expiration_time_secs = 60
    chunk_pool_max_cached_chunks_all = 4096
    chunk_pool_max_writings = 16
    miner_key = "00"
    shard_position = "2/4"
    [rpc]
    listen_address = "127.0.0.1:1111"
    listen_address_admin = "127.0.0.1:2222"
    max_cache_file_size = 1000
    [sync]
    auto_sync_enabled = false
    max_sync_files = 8
    sync_file_by_rpc_enabled = false
    peer_chunks_download_timeout = "15s"
    neighbors_only = true
    colour = "blue"
    [log_sync]
    unknown = 1
  `,
  )
  try {
    const { config, warnings } = load(file, {
      ZGS_NODE__LOG_PAGE_SIZE: '100',
      WEIGHTLESS_NODE_CHAIN_CONFIRMATIONS: '5',
    })
    assert.deepEqual(config.chain.rpcUrls, ['http://127.0.0.1:8545', 'http://127.0.0.1:8546'])
    assert.equal(config.chain.flow, FLOW)
    assert.equal(config.chain.startBlock, 326_165)
    assert.equal(config.chain.confirmations, 5)
    assert.equal(config.chain.pageSizeBlocks, 100)
    assert.equal(config.chain.pollIntervalMs, 250)
    assert.equal(config.data.dir, 'db')
    assert.equal(config.data.maxSectors, 4_000_000_000)
    assert.equal(config.data.pruneIntervalMs, 30_000)
    assert.deepEqual(config.data.shard, { shardId: 2, numShard: 4 })
    assert.equal(config.cache.expiryMs, 60_000)
    assert.equal(config.cache.maxBytes, 2 ** 20)
    assert.equal(config.cache.maxFileBytes, 1_000)
    assert.deepEqual(config.rpc.listen, { host: '127.0.0.1', port: 1_111 })
    assert.deepEqual(config.rpc.listenAdmin, { host: '127.0.0.1', port: 2_222 })
    assert.deepEqual([config.sync.auto, config.sync.byRpc, config.sync.maxFiles], [false, false, 8])
    assert.equal(config.sync.stallTimeoutMs, 15_000)
    const warned = warnings.join('\n')
    for (const name of ['network_boot_nodes', 'miner_key', 'chunk_pool_max_writings', 'colour', 'unknown']) {
      assert.match(warned, new RegExp(name))
    }
    assert.doesNotMatch(warned, /log_page_size|shard_position/)
  } finally {
    await folder.remove()
  }
})

// Everything wrong in a configuration is told together, each with its place.
test('tells all that is wrong with a configuration', async () => {
  const folder = await temporaryFolder()
  const file = join(folder.path, 'config.toml')
  await writeFile(file, 'chain = { flow = "0x12", confirmations = -1 }\ndata = { shard = "3/3" }\n')
  try {
    assert.throws(
      () => load(file),
      (error: Error) =>
        ['chain.flow', 'chain.confirmations', 'data.shard', 'chain.rpcUrls'].every((key) =>
          error.message.includes(key),
        ),
    )
  } finally {
    await folder.remove()
  }
})

// `weightless node start` serves, and ends with code 0 when told to.
test('starts and stops from the command line', async () => {
  const net = await startTestNet()
  const folder = await temporaryFolder()
  const main = fileURLToPath(new URL('../../../agents/cli/main.ts', import.meta.url))
  const child = spawn(process.execPath, [main, 'node', 'start', '--chain-confirmations', '0'], {
    cwd: folder.path,
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      PATH: process.env.PATH,
      WEIGHTLESS_NODE_DATA_DIR: folder.path,
      WEIGHTLESS_NODE_CHAIN_RPC_URLS: net.anvil.url,
      WEIGHTLESS_NODE_CHAIN_FLOW: net.contracts.flow,
      WEIGHTLESS_NODE_RPC_LISTEN: '127.0.0.1:0',
      WEIGHTLESS_NODE_RPC_LISTEN_ADMIN: '127.0.0.1:0',
    },
  })
  const exited = once(child, 'exit')
  try {
    let said = ''
    const url = await new Promise<string>((resolve, reject) => {
      child.stderr.on('data', (data) => {
        said += String(data)
        const found = /"url":"(http[^"]+)"/.exec(said)?.[1]
        if (found) resolve(found)
      })
      void exited.then(() => reject(new Error(`it ended: ${said}`)))
    })
    assert.deepEqual(await rpc(url, 'zgs_getShardConfig'), { shardId: 0, numShard: 1 })
    child.kill('SIGTERM')
    assert.deepEqual(await exited, [0, null])
  } finally {
    child.kill('SIGKILL')
    await net.close()
    await folder.remove()
  }
})
