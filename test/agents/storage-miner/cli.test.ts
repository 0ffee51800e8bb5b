import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { MinerStatus } from '#storage/miner/main.ts'
import type { RunningNode } from '#storage/node/main.ts'
import {
  devAddress,
  type MineNet,
  makeFile,
  openTestNode,
  startMineNet,
  store,
  temporaryFolder,
  until,
} from './harness.ts'

const CLI = fileURLToPath(new URL('../../../agents/cli/main.ts', import.meta.url))

describe('weightless miner', () => {
  let net: MineNet
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  let node: RunningNode
  let stop: (() => void) | undefined

  before(async () => {
    net = await startMineNet({ releaseSeconds: 3_600 })
    folder = await temporaryFolder()
    node = await openTestNode(net, folder.path)
    await store(net, [node], await makeFile(5 * 262_144))
    await net.submitHole(24)
    await net.anvil.rpc('evm_increaseTime', [7_200])
    await net.nextEpoch()
  })
  after(async () => {
    stop?.()
    await node?.close()
    await net?.close()
    await folder?.remove()
  })

  async function weightless(...args: string[]): Promise<string> {
    return (await promisify(execFile)(process.execPath, [CLI, ...args], { cwd: folder.path, timeout: 30_000 })).stdout
  }

  // From a configuration file to rewards on an account, with nothing but the command line.
  it('starts, shows what it does, withdraws, and stops on SIGTERM', async () => {
    const { flow, mine, reward } = net.contracts
    const config = `${folder.path}/miner.toml`
    writeFileSync(
      config,
      `
      listen = "127.0.0.1:0"
      [data]
      dir = "${folder.path}/miner"
      max_sealed_bytes = "8 MiB"
      min_free_bytes = 0
      [chain]
      rpc_urls = ["${net.anvil.url}"]
      id = 31337
      flow = "${flow}"
      mine = "${mine}"
      reward = "${reward}"
      poll_interval_ms = 100
      [nodes]
      urls = ["${node.url}"]
      [key]
      dev_account = 5
      [mining]
      threads = 1
      beneficiary = "${devAddress(8)}"
      [log]
      status_interval_ms = 200
    `,
    )
    const child = spawn(process.execPath, [CLI, 'miner', 'start', '--config', config], { cwd: folder.path })
    stop = () => child.kill('SIGKILL')
    let log = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data: Buffer) => {
        log += data.toString()
      })
    }
    const url = await until('its address', () => /"url":"(http:[^"]+)"/.exec(log)?.[1], 30_000)
    const status = async (): Promise<MinerStatus> => {
      return JSON.parse(await weightless('miner', 'status', '--url', url, '--json')) as MinerStatus
    }
    const seen = await until(
      'something earned',
      async () => {
        const now = await status()
        return BigInt(now.money.earnedWei) > 0n && now
      },
      60_000,
    ).catch((error) => assert.fail(`${error} ${log.slice(-3000)}`))
    assert.equal(seen.beneficiary, devAddress(8))
    const text = await weightless('miner', 'status', '--url', url)
    for (const word of ['state', 'sealed', 'speed', 'claimable', 'gas spent'])
      assert.match(text, new RegExp(`^${word}`, 'm'))
    assert.match(log, /sealed \d+\/32 chunks.*attempts\/s.*claimable/, 'the log says what it does')

    child.kill('SIGTERM')
    const [code] = await once(child, 'exit')
    stop = undefined
    assert.equal(code, 0, log.slice(-2000))

    const owed = await net.payments(devAddress(8))
    assert.ok(owed > 0n)
    const paid = JSON.parse(await weightless('miner', 'withdraw', '--config', config, '--json')) as object
    assert.deepEqual(paid, { payee: devAddress(8), amountWei: String(owed) })
    assert.equal(await net.payments(devAddress(8)), 0n)
    assert.match(await weightless('miner', 'withdraw', '--config', config), /nothing is due/)
  })
})
