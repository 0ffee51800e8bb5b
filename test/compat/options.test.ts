import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { ethers } from 'ethers'
import { type Network, Signers, seededBytes, startNetwork } from './network.ts'
import { current, silenceConsole } from './sdk.ts'

const GAS = { gasLimit: 1_000_000n }
let seed = 100

/** Every option of an upload with 1.2.8, against one node and against two sets of two shards. */
describe('upload options', { concurrency: 8 }, () => {
  let network: Network
  let signers: Signers
  let speak: () => void

  before(async () => {
    speak = silenceConsole()
    network = await startNetwork({ groups: [['0/1'], ['0/2', '1/2', '0/2', '1/2'], ['0/1', '0/1']] })
    signers = new Signers(network.rpcUrl)
  })

  after(async () => {
    signers.close()
    await network.close()
    speak()
  })

  interface Case {
    data?: Uint8Array
    options: current.UploadOption
    group?: number
    signer?: ethers.Wallet
  }

  const upload = async ({ data = seededBytes(600_000, seed++), options, group = 0, signer }: Case) => {
    const { indexerUrl } = network.group(group)
    const indexer = new current.Indexer(indexerUrl)
    const run = (wallet: ethers.Wallet) =>
      indexer.upload(new current.MemData(data), network.rpcUrl, wallet as never, options, undefined, GAS)
    const [result, error] = signer === undefined ? await signers.use(run) : await run(signer)
    assert.equal(error, null)
    assert.ok('rootHash' in result)
    const [blob, failed] = await indexer.downloadToBlob(result.rootHash)
    return { data, result, blob, failed, indexer }
  }
  const readsBack = async (given: Case) => {
    const done = await upload(given)
    assert.equal(done.failed, null)
    assert.equal(Buffer.compare(Buffer.from(await done.blob.arrayBuffer()), done.data), 0)
    return done
  }

  for (const group of [0, 1]) {
    const where = group === 0 ? 'one node' : 'shards'
    for (const taskSize of [1, 3, 10, 100]) {
      test(`taskSize ${taskSize} on ${where}`, async () => {
        await readsBack({ data: seededBytes(7 * 262_144 - 3, seed++), options: { taskSize }, group })
      })
    }
    test(`tags on ${where}`, async () => {
      await readsBack({ options: { tags: '0x1234567890' }, group })
    })
  }

  test('two replicas go to two nodes', async () => {
    const { result } = await readsBack({ options: { expectedReplica: 2 }, group: 2 })
    for (const url of network.group(2).nodes) {
      const info = await new current.StorageNode(url).getFileInfo(result.rootHash, true)
      assert.equal(info?.finalized, true)
    }
  })

  test('two replicas on two sets of shards go through two fronts, and every node has its part', async () => {
    const { result } = await readsBack({
      data: seededBytes(7 * 262_144, seed++),
      options: { expectedReplica: 2 },
      group: 1,
    })
    for (const url of network.group(1).nodes) {
      const info = await new current.StorageNode(url).getFileInfo(result.rootHash, true)
      assert.equal(info?.finalized, true)
    }
  })

  test('without waiting for finality the answer comes early, and the file is complete soon after', async () => {
    const { result, indexer } = await upload({ options: { finalityRequired: false } })
    assert.match(result.txHash, /^0x/)
    const deadline = performance.now() + 10_000
    while ((await indexer.getFileLocations(result.rootHash)).length === 0) {
      assert.ok(performance.now() < deadline, 'not complete within 10 s')
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  })

  test('skipTx uploads data for a submission that is there already, and sends no second one', async () => {
    const data = seededBytes(530_000, seed++)
    const file = new current.MemData(data)
    await signers.use(async (signer) => {
      const [submission] = await file.createSubmission('0x', signer.address)
      assert.ok(submission)
      const flow = current.getFlowContract(network.flow, signer as never)
      const value = current.calculatePrice(submission, BigInt(network.pricePerSector))
      const sent = await flow.getFunction('submit').send(submission, { value, ...GAS })
      await sent.wait()
      const [tree] = await file.merkleTree()
      const node = new current.StorageNode(network.group(0).nodes[0] ?? '')
      const deadline = performance.now() + 10_000
      while ((await node.getFileInfo(tree?.rootHash() ?? '', false)) === null) {
        assert.ok(performance.now() < deadline, 'not logged within 10 s')
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      const { result } = await readsBack({ data, options: { skipTx: true }, signer })
      assert.equal(result.txHash, '')
    })
  })

  test('a file that is there already is not paid for again; with skipIfFinalized false it is, and is complete at once', async () => {
    const data = seededBytes(400_000, seed++)
    const first = await readsBack({ data, options: {} })
    const again = await readsBack({ data, options: {} })
    assert.equal(again.result.txHash, '')
    assert.equal(again.result.txSeq, first.result.txSeq)
    const paid = await readsBack({ data, options: { skipIfFinalized: false } })
    assert.match(paid.result.txHash, /^0x[0-9a-f]{64}$/)
  })

  test('fee, nonce and submitter are taken as given, and progress is told', async () => {
    const told: string[] = []
    await signers.use(async (signer) => {
      const before = await signer.provider?.getBalance(signer.address)
      const nonce = BigInt((await signer.provider?.getTransactionCount(signer.address)) ?? 0)
      const fee = 10n ** 17n
      const { result } = await readsBack({
        options: { fee, nonce, submitter: `0x${'42'.repeat(20)}`, onProgress: (message) => told.push(message) },
        signer,
      })
      const receipt = await signer.provider?.getTransactionReceipt(result.txHash)
      assert.equal(receipt?.status, 1)
      const after = await signer.provider?.getBalance(signer.address)
      // What was paid above the price comes back.
      assert.ok((before ?? 0n) - (after ?? 0n) < fee)
    })
    assert.ok(told.length > 0)
  })
})
