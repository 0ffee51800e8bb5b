import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { createWalletClient, http, parseEventLogs } from 'viem'
import { custodyAbi, entranceAbi } from '#client/da/abi.ts'
import type { SubmittedBlob } from '#client/da/submit-blobs.ts'
import { mine } from '../../chain.ts'
import { accountOf, type DaNet, openNet, rejectsWith, seededBytes, until } from './harness.ts'

let net: DaNet

before(async () => {
  net = await openNet({
    deploy: { samplePeriod: 5, rewardRatio: 10, answerBlocks: 50 },
    overrides: () => ({
      sampling: { enabled: true, pollIntervalMs: 100 },
      custody: { pollIntervalMs: 100 },
      data: { pruneIntervalMs: 200, pruneGraceEpochs: 0 },
      rewards: { checkIntervalMs: 100 },
    }),
  })
})

after(() => net?.close())

/** Asks a signer, on chain, for the first kilobyte of its first row. */
async function challenge({ dataRoot, epoch }: { dataRoot: `0x${string}`; epoch: number }, row: number): Promise<void> {
  const chain = await net.client().connection.chain()
  const account = accountOf(9)
  const wallet = createWalletClient({ account, chain: chain.client.chain, transport: http(net.anvil.url) })
  const hash = await wallet.writeContract({
    address: net.contracts.custody,
    abi: custodyAbi,
    functionName: 'challengeCustody',
    args: [{ dataRoot, epoch: BigInt(epoch), quorumId: 0n, row, fromSubline: 0, toSubline: 1 }],
    value: 10n ** 15n,
  })
  const receipt = await chain.client.waitForTransactionReceipt({ hash })
  assert.equal(parseEventLogs({ abi: custodyAbi, eventName: 'CustodyChallenged', logs: receipt.logs }).length, 1)
}

// Whoever asks a signer on chain for a row it signed for gets it without anybody's doing, and the signer is paid.
test('custody requests are answered', async () => {
  const client = net.client({ limits: { graceMs: 5_000 } })
  const { certificate } = await client.disperse({ data: seededBytes(11, 5_000), retentionEpochs: 5 })
  const signer = net.signers[1]
  assert.ok(signer)
  await challenge(certificate, signer.status().rows?.first ?? -1)
  await until('the answer', () => signer.status().custody.answered === 1)
  const { custody, earnings } = signer.status()
  assert.deepEqual([custody.asked, custody.failed], [1, 0])
  assert.equal(earnings.custodyWei, String(10n ** 15n))
  await until('the money', () => BigInt(signer.status().earnings.claimableWei ?? 0) >= 10n ** 15n)
})

// Rows damaged on the disk are not handed out; when they are asked for on chain they are fetched from the others first.
test('damaged rows are found out, fetched anew, and shown', async () => {
  const client = net.client({ limits: { graceMs: 5_000 } })
  const data = seededBytes(12, 5_000)
  const { certificate } = await client.disperse({ data, retentionEpochs: 5 })
  const { dataRoot, epoch } = certificate
  const key = { dataRoot, epoch, quorumId: 0 }
  const signer = net.signers[0]
  assert.ok(signer)
  await until('the record', () => signer.store.isRecorded(key))
  const file = await open(signer.files.pathOf(key), 'r+')
  // Row 3 of rows of 64 bytes behind the 16 KiB of combinations.
  await file.write(Buffer.from([1, 2, 3]), 0, 3, 16_384 + 3 * 64)
  await file.close()
  const found = await client.retrieve({ dataRoot })
  assert.deepEqual(Buffer.from(found.data), Buffer.from(data))
  assert.equal(found.failures[0]?.signer, signer.address)
  assert.equal(signer.store.held.get(key)?.damaged, true)
  const asked = signer.status().custody.asked
  await challenge(certificate, 3)
  await until('the answer', () => signer.status().custody.answered === asked + 1)
  assert.equal(signer.store.held.get(key)?.damaged, false)
  assert.equal(signer.status().held.repaired, 1)
  assert.deepEqual((await client.retrieve({ dataRoot })).failures, [])
})

// Sixteen blobs in one payment and one certificate; their samples win rounds, and the fees of the epoch before pay them.
test('sampling pays those who hold rows', async () => {
  const client = net.client({ limits: { graceMs: 5_000 } })
  const encoded = await Promise.all(Array.from({ length: 16 }, (_, i) => client.encode(seededBytes(100 + i, 300))))
  const submissions = await client.submitBlobs({
    blobs: encoded.map(({ commitment }) => commitment),
    retentionEpochs: 20,
  })
  assert.equal(new Set(submissions.map(({ submitTx }) => submitTx)).size, 1)
  const signed = await Promise.all(
    submissions.map(async (submission: SubmittedBlob, i) => {
      const blob = encoded[i]
      assert.ok(blob)
      return { submission, ...(await client.collectSignatures({ blob, submission })) }
    }),
  )
  const certificates = await client.confirmBlobs({ blobs: signed })
  assert.equal(new Set(certificates.map(({ confirmTx }) => confirmTx)).size, 1)
  for (const blob of encoded) blob.release()
  await net.nextEpoch()
  const earned = () => net.signers.reduce((sum, { status }) => sum + BigInt(status().earnings.samplesWei), 0n)
  const rounds = () => Math.min(...net.signers.map(({ status }) => status().sampling.rounds))
  // Of 55,000 pieces one and a half win a round, on average.
  for (let round = 0; round < 40 && earned() === 0n; round++) {
    const looked = rounds()
    await mine(net.anvil, 5)
    await until('the signers to look through a round', () => earned() > 0n || rounds() > looked)
  }
  await until('a sample to be paid', () => earned() > 0n)
  const paid = net.signers.reduce((sum, { status }) => sum + status().sampling.rewards, 0)
  assert.ok(paid > 0)
})

// What has expired goes: rows, then what is known of it; a reader is told that it is over, not that it never was.
test('rows go when their retention is over', async () => {
  const client = net.client({ limits: { graceMs: 5_000 } })
  const { certificate } = await client.disperse({ data: seededBytes(13, 900), retentionEpochs: 1 })
  const { dataRoot, epoch } = certificate
  const key = { dataRoot, epoch, quorumId: 0 }
  assert.ok(net.signers.every(({ store }) => store.held.get(key) !== undefined))
  await net.nextEpoch()
  for (const signer of net.signers) await signer.prune()
  assert.ok(
    net.signers.every(({ store }) => store.held.get(key) !== undefined),
    'its last epoch is not over',
  )
  await net.nextEpoch()
  for (const signer of net.signers) await signer.prune()
  for (const { store, files } of net.signers) {
    assert.equal(store.held.get(key), undefined)
    assert.equal(await files.sizeOf(key), undefined)
  }
  await rejectsWith('BLOB_EXPIRED', net.client().retrieve({ dataRoot }))
})

// Rows of a blob that was paid for and never confirmed do not fill the disk until its retention is over.
test('rows of blobs that can no longer be confirmed go', async () => {
  const client = net.client({ limits: { graceMs: 5_000 } })
  const blob = await client.encode(seededBytes(14, 900))
  const [submission] = await client.submitBlobs({ blobs: [blob.commitment], retentionEpochs: 900 })
  assert.ok(submission)
  await client.collectSignatures({ blob, submission })
  blob.release()
  assert.ok(net.signers.every(({ store }) => store.held.get(submission) !== undefined))
  await net.nextEpoch()
  await net.nextEpoch()
  for (const signer of net.signers) await signer.prune()
  assert.ok(net.signers.every(({ store }) => store.held.get(submission) === undefined))
  // Moved to the current epoch, which is free, it is taken again.
  const moved = await client.disperse({ data: seededBytes(14, 900) })
  assert.equal(moved.feeWei, 0n)
  assert.ok(moved.certificate.epoch > submission.epoch)
})

// The contract takes no signature of others.
test('a certificate with a foreign signature is refused on chain', async () => {
  const client = net.client({ limits: { graceMs: 5_000 } })
  const one = await client.encode(seededBytes(15, 100))
  const two = await client.encode(seededBytes(16, 100))
  const [first, second] = await client.submitBlobs({ blobs: [one.commitment, two.commitment] })
  assert.ok(first && second)
  const signed = await client.collectSignatures({ blob: one, submission: first })
  const error = await rejectsWith(
    'ENTRANCE_REFUSED',
    client.confirmBlobs({ blobs: [{ ...signed, submission: second }] }),
  )
  assert.match(error.message, /SignatureInvalid/)
  one.release()
  two.release()
  const chain = await client.connection.chain()
  const call = { address: net.contracts.entrance, abi: entranceAbi, functionName: 'commitmentExists' } as const
  const args = [second.dataRoot, BigInt(second.epoch), 0n] as const
  assert.equal(await chain.client.readContract({ ...call, args }), false)
})
