import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { RunningMiner } from '#storage/miner/main.ts'
import type { RunningNode } from '#storage/node/main.ts'
import {
  devAddress,
  type MineNet,
  makeFile,
  openMiner,
  openTestNode,
  remoteStatus,
  startMineNet,
  store,
  temporaryFolder,
  until,
} from './harness.ts'

describe('mining for money', () => {
  let net: MineNet
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  let node: RunningNode
  let miner: RunningMiner | undefined
  const beneficiary = devAddress(7)
  // Room for 32 chunks of the 32,768 that the flow has: a hit is rare, but any hash of a sealed chunk is one.
  const config = {
    data: { maxSealedBytes: 32 * 262_144 },
    mining: { beneficiary },
    submission: { maxInFlight: 2 },
  }

  // One file of six segments, and an end of the flow exactly at the first pricing chunk's, so that its pool pays.
  before(async () => {
    net = await startMineNet({ releaseSeconds: 3_600 })
    folder = await temporaryFolder()
    node = await openTestNode(net, folder.path)
    await store(net, [node], await makeFile(6 * 262_144 - 1_000))
    await net.submitHole(24)
    await net.anvil.rpc('evm_increaseTime', [7_200])
    await net.nextEpoch()
  })
  after(async () => {
    await miner?.close()
    await node?.close()
    await net?.close()
    await folder?.remove()
  })

  const open = (more: object = {}) =>
    openMiner({ net, nodes: [node], dataDir: `${folder.path}/miner`, config: { ...config, ...more } })
  const show = (): string => JSON.stringify(miner?.status(), null, 1)

  // A miner earns what the pool pays for accepted answers; it goes to the beneficiary, who never signed anything.
  it('earns for the beneficiary', async () => {
    assert.equal(await net.payments(beneficiary), 0n)
    miner = await open()
    const { status } = miner
    const earned = (): bigint => BigInt(status().money.earnedWei)
    await until(`something earned`, () => earned() > 0n, 60_000).catch((error) => assert.fail(`${error} ${show()}`))
    assert.equal(status().beneficiary, beneficiary)
    assert.equal(status().sealing.sealableChunks, 32)
    assert.ok(BigInt(status().money.gasSpentWei) > 0n)
    await miner.close()
    assert.ok((await net.payments(beneficiary)) >= earned())
  })

  // After a restart it goes on: the same id, the sealed chunks as they were; answers that were under way when it ended
  // are looked up, so that what it says it earned is what the chain owes.
  it('goes on after a restart', async () => {
    const before = miner?.status()
    assert.ok(before)
    miner = await open({ mining: { beneficiary, enabled: false } })
    const { status } = miner
    assert.equal(status().minerId, before.minerId)
    assert.ok(status().answers.accepted >= before.answers.accepted)
    await until('answers settled', () => status().answers.sent === 0, 20_000)
    assert.equal(status().money.earnedWei, String(await net.payments(beneficiary)))
    await until('everything sealed', () => status().sealing.sealedChunks === 32, 20_000)
    assert.match(status().reason ?? '', /switched off/)
    await miner.close()
    miner = await open({ mining: { beneficiary, enabled: false } })
    const again = miner.status()
    assert.equal(again.sealing.sealedChunks, 32, 'nothing is sealed twice')
    await miner.close()
  })

  // Rewards above the threshold are drawn without being asked, to the beneficiary's own account.
  it('withdraws to the beneficiary above a threshold', async () => {
    const owed = await net.payments(beneficiary)
    assert.ok(owed > 0n)
    const balance = async (): Promise<bigint> =>
      BigInt(String(await net.anvil.rpc('eth_getBalance', [beneficiary, 'latest'])))
    const before = await balance()
    miner = await open({
      mining: { beneficiary, enabled: false },
      rewards: { withdrawAboveWei: owed, checkIntervalMs: 100 },
    })
    const { status, url } = miner
    await until('withdrawn', () => BigInt(status().money.withdrawnWei) >= owed)
    assert.equal((await balance()) - before, owed)
    assert.equal(await net.payments(beneficiary), 0n)

    // The operator reads the same over HTTP.
    const remote = await remoteStatus(url)
    assert.equal((remote.money as { withdrawnWei: string }).withdrawnWei, String(owed))
    const metrics = await (await fetch(`${url}/metrics`)).text()
    for (const name of ['sealed_chunks', 'hits_total', 'claimable_wei', 'gas_spent_wei', 'expected_hit_seconds']) {
      assert.match(metrics, new RegExp(`^weightless_miner_${name} `, 'm'), name)
    }
    const health = (await (await fetch(`${url}/healthz`)).json()) as { status: string; checks: { state: string } }
    assert.equal(health.status, 'ok')
    assert.equal(health.checks.state, 'waiting')
    await miner.close()
  })
})
