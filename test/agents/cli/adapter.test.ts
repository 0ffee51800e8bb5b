import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { writeGguf } from '#protocol/gguf/write.ts'
import { memorySource } from '#protocol/storage/byte-source.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import { randomModel } from '#scripts/model/random-model.ts'
import { DEV_ACCOUNTS } from '../../chain.ts'
import { type StorageNetwork, startStorageNetwork } from '../client/storage-network.ts'
import { randomAdapter } from '../engines/random-adapter.ts'
import { runWeightless } from './run-weightless.ts'

describe('weightless adapter', () => {
  let network: StorageNetwork
  let cwd = ''
  const base = randomModel({ config: { layers: 1, context: 64 } })
  const other = randomModel({ config: { layers: 1, context: 64, dim: 96, heads: 3 } })
  const bytes = writeGguf(randomAdapter({ config: base.config, seed: 1, name: 'poet' }))
  const run = (...args: string[]) => runWeightless({ args: ['adapter', ...args], cwd })

  before(async () => {
    network = await startStorageNetwork()
    cwd = join(network.dir, 'work')
    await mkdir(join(cwd, '.weightless'), { recursive: true })
    const nodes = network.nodes.map(({ url }) => ({ name: 'node-0', url, adminUrl: url, shard: '0/1' }))
    const { flow: Flow } = network.contracts
    const account = { address: DEV_ACCOUNTS[0]?.address }
    const devnet = { chainId: 31_337, rpcUrl: network.anvil.url, nodes, contracts: { Flow }, account }
    await writeFile(join(cwd, '.weightless', 'devnet.json'), JSON.stringify(devnet))
    await writeFile(join(cwd, 'adapter.gguf'), bytes)
    await writeFile(join(cwd, 'base.gguf'), writeGguf(base))
    await writeFile(join(cwd, 'other.gguf'), writeGguf(other))
  })
  after(() => network?.stop())

  test('publish stores the file itself, says how it is asked, and pays once', async () => {
    const { root } = await buildFileTree({ source: memorySource(bytes) })
    const nodes = ['--node', network.nodes[0]?.url ?? '']
    const said = await run('publish', 'adapter.gguf', '--base', 'demo', '--base-file', 'base.gguf', ...nodes)
    assert.equal(said.code, 0, said.stderr)
    assert.ok(said.stdout.includes(`weightless chat --model demo:${root}`), said.stdout)
    const again = JSON.parse((await run('publish', 'adapter.gguf', '--json', ...nodes)).stdout)
    assert.deepEqual([again.root, again.feeWei, again.rank, again.matrices], [root, '0', 4, 1])
    const to = join(network.dir, 'copy.gguf')
    await (await network.client()).storage.download({ root, to })
  })

  // Nothing is paid for what no provider would serve.
  test('publish refuses what is no adapter, or another base’s', async () => {
    const model = await run('publish', 'base.gguf')
    assert.notEqual(model.code, 0)
    assert.match(model.stderr, /not a LoRA adapter/)
    const misfit = await run('publish', 'adapter.gguf', '--base-file', 'other.gguf')
    assert.notEqual(misfit.code, 0)
    assert.match(misfit.stderr, /GGUF_TENSOR/)
    assert.notEqual((await run('publish', 'missing.gguf')).code, 0)
  })

  test('show tells what a file holds', async () => {
    const shown = JSON.parse((await run('show', 'adapter.gguf', '--base-file', 'base.gguf', '--json')).stdout)
    assert.deepEqual([shown.name, shown.rank, shown.alpha, shown.fits], ['poet', 4, 8, true])
    assert.match((await run('show', 'adapter.gguf')).stdout, /LoRA for llama/)
  })
})
