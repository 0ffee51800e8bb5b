import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { DaClient } from '#client/da/da-client.ts'
import { BlobUnavailableError, QuorumNotReachedError } from '#client/da/errors.ts'
import { type DaNet, openNet, rejectsWith, seededBytes } from '../da-signer/harness.ts'
import { FAULTS, type FaultProxy, seededRandom, startFaultProxy, testSeed } from './fault-proxy.ts'

const seed = testSeed()
const random = seededRandom(seed)
console.log(`DA_TEST_SEED=${seed}`)

let net: DaNet
const proxies: FaultProxy[] = []

// The last of the four has exactly a third of the stake.
before(async () => {
  for (let i = 0; i < 4; i++) proxies.push(await startFaultProxy(random))
  net = await openNet({ stakes: [10, 10, 10, 15], overrides: (index) => ({ publicUrl: proxies[index]?.url }) })
  for (const [index, proxy] of proxies.entries()) proxy.target = net.signers[index]?.url ?? ''
})

after(async () => {
  await net?.close()
  for (const proxy of proxies) await proxy.close()
})

const limits = {
  ...{ callTimeoutMs: 700, idleTimeoutMs: 700, uploadTimeoutMs: 900, hedgeMs: 300 },
  ...{ signTimeoutMs: 6_000, attempts: 2, graceMs: 100 },
}

function setFaults(...faults: FaultProxy['fault'][]): void {
  for (const [index, proxy] of proxies.entries()) proxy.fault = faults[index] ?? 'none'
}

function client(): DaClient {
  return net.client({ limits })
}

for (const [number, fault] of FAULTS.entries()) {
  // Whatever a third of the stake does, blobs are certified, and every reader gets the very bytes.
  test(`a third of the stake is ${fault}: blobs are confirmed and read`, async () => {
    setFaults('none', 'none', 'none', fault)
    const data = seededBytes(seed + number, 1 + Math.floor(random() * 20_000))
    const { certificate, failures } = await client().disperse({ data })
    const found = await client().retrieve({ dataRoot: certificate.dataRoot })
    assert.deepEqual(Buffer.from(found.data), Buffer.from(data))
    const faulty = net.signers[3]?.address
    for (const failure of [...failures, ...found.failures])
      assert.equal(failure.signer, faulty, JSON.stringify(failure))
    const served = found.servedBy.reduce((sum, { rows }) => sum + rows, 0)
    assert.equal(served, Math.ceil(data.length / (64 * Math.ceil(data.length / 65_536))))
  })
}

// A signer that lies while it is read is found out by name, and its rows are taken from others.
test('rows that a signer falsifies are never returned, and it is named', async () => {
  setFaults('none', 'none', 'none', 'none')
  const data = seededBytes(seed + 50, 60_000)
  const { certificate } = await net.client({ limits: { ...limits, graceMs: 3_000 } }).disperse({ data })
  setFaults('lying', 'none', 'none', 'none')
  // A patient reader waits for it rather than asking others, so that it must be found out.
  const patient = net.client({ limits: { ...limits, hedgeMs: 20_000, callTimeoutMs: 5_000, idleTimeoutMs: 5_000 } })
  for (let round = 0; round < 5; round++) {
    const found = await patient.retrieve({ dataRoot: certificate.dataRoot })
    assert.deepEqual(Buffer.from(found.data), Buffer.from(data))
    const [failure] = found.failures.filter(({ code }) => code === 'SIGNER_BAD_ROWS' || code === 'RLC_ROOT')
    assert.equal(failure?.signer, net.signers[0]?.address)
  }
})

// More than a third gone: no certificate, and the error says who and why; when they are back the same call goes on unpaid.
test('with more than a third silent there is no certificate until they are back, and nothing is paid twice', async () => {
  setFaults('none', 'silent', 'none', 'refusing')
  const data = seededBytes(seed + 60, 500)
  const error = await rejectsWith(
    'QUORUM_NOT_REACHED',
    net.client({ limits: { ...limits, signTimeoutMs: 2_500 } }).disperse({ data }),
  )
  assert.ok(error instanceof QuorumNotReachedError)
  assert.deepEqual(
    new Set(error.failures.map(({ signer }) => signer)),
    new Set([net.signers[1]?.address, net.signers[3]?.address]),
  )
  setFaults()
  const { feeWei, existed, certificate } = await client().disperse({ data })
  assert.equal(feeWei, 0n)
  assert.equal(existed, false)
  const found = await client().retrieve({ dataRoot: certificate.dataRoot })
  assert.deepEqual(Buffer.from(found.data), Buffer.from(data))
})

// A blob too few signers answer for is an error that names them, not wrong data and not "unknown".
test('a blob whose holders are silent is unavailable, with reasons', async () => {
  setFaults()
  const data = seededBytes(seed + 70, 40_000)
  const { certificate } = await net.client({ limits: { ...limits, graceMs: 3_000 } }).disperse({ data })
  setFaults('refusing', 'silent', 'refusing', 'lying')
  const reader = net.client({ limits: { ...limits, retrieveTimeoutMs: 15_000 } })
  const error = await rejectsWith('BLOB_UNAVAILABLE', reader.retrieve({ dataRoot: certificate.dataRoot }))
  assert.ok(error instanceof BlobUnavailableError && error.failures.length >= 3, error.message)
  // With one honest holder of a quarter of the rows back, there are still too few; with two there are enough.
  setFaults('none', 'none', 'refusing', 'lying')
  const found = await net.client().retrieve({ dataRoot: certificate.dataRoot })
  assert.deepEqual(Buffer.from(found.data), Buffer.from(data))
})

// Samples that fail lower the confidence; they never pass.
test('a sampler counts rows that are withheld or false', async () => {
  setFaults()
  const data = seededBytes(seed + 80, 3_000)
  const { certificate } = await net.client({ limits: { ...limits, graceMs: 3_000 } }).disperse({ data })
  setFaults('none', 'refusing', 'none', 'lying')
  const draw = (below: number) => Math.floor(random() * below)
  const found = await client().sample({ dataRoot: certificate.dataRoot, samples: 40, random: draw })
  assert.ok(found.passed < 40 && found.passed > 0)
  assert.ok(found.misled > 0.01, `a third is missing: that shows nothing (${found.misled})`)
  const bad = new Set([net.signers[1]?.address, net.signers[3]?.address])
  for (const { signer } of found.failures) assert.ok(bad.has(signer as `0x${string}`))
})
