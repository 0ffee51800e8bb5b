import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { keccak256 } from 'viem'
import type { Client } from '#client/connect.ts'
import { prepareSubmit, quoteSubmission } from '#client/storage/flow-contract.ts'
import { openSubmissionJournal } from '#client/storage/submission-journal.ts'
import { genesisOf } from '#kit/chain/genesis.ts'
import type { Hash } from '#protocol/hex.ts'
import { memorySource } from '#protocol/storage/byte-source.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import { submissionIdentity } from '#protocol/storage/submission.ts'
import { deployLegacyFlow } from './legacy-flow.ts'
import { seededBytes, testSeed } from './seeded.ts'
import { type StorageNetwork, startStorageNetwork } from './storage-network.ts'

const seed = testSeed()
interface Unsent {
  client: Client
  bytes: Uint8Array
  /** Default: the account's next. */
  nonce?: number
  /** First block of the chain it was signed for. Default: the network's. */
  onChain?: Hash
}

const bytesOf = (name: string, length: number) => seededBytes({ seed: `${seed}/${name}`, length })

describe(`paying (seed ${seed})`, () => {
  let network: StorageNetwork
  before(async () => {
    network = await startStorageNetwork()
  })
  after(() => network.stop())

  test('the fee is sectors times price, and the account loses that and gas, once', async () => {
    const client = await network.client({ who: 5 })
    const bytes = bytesOf('fee', 1_000_000)
    const { connection } = client.storage
    const { client: chain } = await connection.chain({ purpose: 'test' })
    const address = connection.account?.address ?? '0x'
    const before = await chain.getBalance({ address })
    const { feeWei, txHash } = await client.storage.upload({ source: memorySource(bytes) })
    // 3907 sectors of data; padded to a multiple of 4096 / 16.
    assert.equal(feeWei, 4096n * network.contracts.pricePerSector)
    const receipt = await chain.getTransactionReceipt({ hash: txHash ?? '0x' })
    assert.equal(before - (await chain.getBalance({ address })), feeWei + receipt.gasUsed * receipt.effectiveGasPrice)
  })

  test('a submission that a reorganisation took back is sent again, not paid again', async () => {
    const client = await network.client({ who: 6 })
    const bytes = bytesOf('reorg', 500_000)
    let reorganised: Promise<unknown> | undefined
    const result = await client.storage.upload({
      source: memorySource(bytes),
      onEvent: ({ type }) => {
        if (type === 'transaction-mined') reorganised ??= network.anvil.rpc('anvil_reorg', [1, []])
      },
    })
    await reorganised
    assert.equal(result.nodes[0]?.finalized, true)
    const { client: chain } = await client.storage.connection.chain({ purpose: 'test' })
    assert.equal(await chain.getTransactionCount({ address: client.storage.connection.account?.address ?? '0x' }), 1)
  })

  /** What a crash right before sending leaves: a journal entry with the signed transaction, which nobody has seen. */
  const leaveUnsent = async ({ client, bytes, nonce, onChain }: Unsent) => {
    const { connection } = client.storage
    const { account } = connection
    if (account === undefined) throw new TypeError('the client has no account')
    const chain = await connection.chain({ purpose: 'test' })
    const tree = await buildFileTree({ source: memorySource(bytes) })
    const { flow } = network.contracts
    const submission = { sizeBytes: bytes.length, tags: '0x' as const, nodes: tree.nodes }
    const { feeWei } = await quoteSubmission({ chain, flow, nodes: tree.nodes })
    const { data, gas } = await prepareSubmit({ chain, flow, submission, submitter: account.address, feeWei })
    const pending = await chain.client.getTransactionCount({ address: account.address, blockTag: 'pending' })
    const fees = { type: 'eip1559' as const, maxFeePerGas: 10n ** 10n, maxPriorityFeePerGas: 1n }
    const fields = { chainId: chain.id, to: flow, data, gas, value: feeWei, nonce: nonce ?? pending }
    const raw = await account.signTransaction({ ...fields, ...fees })
    const identity = submissionIdentity(tree.nodes)
    const genesis = onChain ?? (await genesisOf(chain))
    const key = { dir: connection.journalDir, chainId: chain.id, genesis, flow, submitter: account.address, identity }
    const journal = openSubmissionJournal({ ...key, sizeBytes: bytes.length, tags: '0x' })
    await journal.write({ root: tree.root, nonce: fields.nonce, transactions: [{ hash: keccak256(raw), raw }] })
    return { journal, hash: keccak256(raw) }
  }

  test('a crash before the signed transaction went out: the same bytes go out on the next run', async () => {
    const client = await network.client({ who: 8 })
    const bytes = bytesOf('unsent', 30_000)
    const { hash, journal } = await leaveUnsent({ client, bytes })
    const { txHash, paid } = await client.storage.upload({ source: memorySource(bytes) })
    assert.deepEqual({ txHash, paid }, { txHash: hash, paid: false })
    assert.equal(await journal.read(), undefined, 'the entry is gone when the file is stored')
  })

  test('a journalled transaction whose nonce went to another one is forgotten, and the file is paid once', async () => {
    const client = await network.client({ who: 8 })
    const bytes = bytesOf('overtaken', 30_000)
    const { hash } = await leaveUnsent({ client, bytes, nonce: 0 })
    const { txHash, paid } = await client.storage.upload({ source: memorySource(bytes) })
    assert.equal(paid, true)
    assert.notEqual(txHash, hash)
  })

  // What another chain with the same id and contracts left, as a local network does that begins anew, is not this one's:
  // waiting for it would be in vain, and sending it might pay for what nobody asked for here.
  test('a journalled transaction of another chain with the same id is not waited for', async () => {
    const client = await network.client({ who: 8 })
    const bytes = bytesOf('elsewhere', 30_000)
    const { hash, journal } = await leaveUnsent({ client, bytes, nonce: 1_000, onChain: `0x${'99'.repeat(32)}` })
    const { txHash, paid } = await client.storage.upload({ source: memorySource(bytes) })
    assert.equal(paid, true)
    assert.notEqual(txHash, hash)
    assert.notEqual(await journal.read(), undefined, 'the entry of the other chain stays')
  })

  // An endpoint that drops a transaction whose sender has given up must not keep the account's next ones from being mined.
  test('a hole in the nonces before a transaction is filled', async () => {
    const client = await network.client({ who: 6, limits: { receiptTimeoutMs: 12_000 } })
    const { connection } = client.storage
    const { client: chain } = await connection.chain({ purpose: 'test' })
    const address = connection.account?.address ?? '0x'
    const bytes = bytesOf('behind a hole', 30_000)
    const before = await chain.getTransactionCount({ address })
    const { hash } = await leaveUnsent({ client, bytes, nonce: before + 2 })
    const { txHash } = await client.storage.upload({ source: memorySource(bytes) })
    assert.equal(txHash, hash, 'the same bytes, signed once')
    assert.equal(await chain.getTransactionCount({ address }), before + 3)
  })

  test('chain, Flow and nodes that do not belong together are told apart before anything is paid', async () => {
    const wrong = await network.client({ flow: `0x${'77'.repeat(20)}` })
    await assert.rejects(
      wrong.storage.upload({ source: memorySource(bytesOf('mismatch', 1000)) }),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, 'NETWORK_MISMATCH')
        assert.match(error.message, new RegExp(network.contracts.flow.toLowerCase()))
        return true
      },
    )
  })

  test('a chain that does not answer, no account, no chain: each is named', async () => {
    const source = memorySource(bytesOf('settings', 1000))
    const dead = await network.client({ rpcUrl: 'http://127.0.0.1:9' })
    await assert.rejects(dead.storage.upload({ source }), { code: 'CHAIN_UNREACHABLE' })
    const keyless = await network.client({ account: undefined })
    await assert.rejects(keyless.storage.upload({ source }), { code: 'SETTING_MISSING', message: /account is needed/ })
    const chainless = await network.client({ rpcUrl: undefined })
    await assert.rejects(chainless.storage.upload({ source }), { code: 'SETTING_MISSING', message: /rpcUrl is needed/ })
  })

  test('an account that signs several uploads at once gives each its own nonce', async () => {
    const client = await network.client({ who: 7 })
    const results = await Promise.all(
      [1, 2, 3, 4].map((which) =>
        client.storage.upload({ source: memorySource(bytesOf(`parallel-${which}`, 20_000)) }),
      ),
    )
    assert.equal(new Set(results.map(({ txSeq }) => txSeq)).size, 4)
  })
})

describe(`a Flow that knows only the older submit (seed ${seed})`, () => {
  let network: StorageNetwork
  before(async () => {
    network = await startStorageNetwork({ flowOf: ({ url }) => deployLegacyFlow({ url }) })
  })
  after(() => network.stop())

  test('is found out by a trial, and used', async () => {
    const client = await network.client()
    const bytes = bytesOf('legacy', 700_000)
    const { feeWei, nodes, root } = await client.storage.upload({ source: memorySource(bytes) })
    assert.equal(feeWei, 7n * 2816n)
    assert.equal(nodes[0]?.finalized, true)
    const parts: Uint8Array[] = []
    for await (const part of client.storage.readFile({ root })) parts.push(part)
    assert.deepEqual(new Uint8Array(Buffer.concat(parts)), bytes)
  })
})
