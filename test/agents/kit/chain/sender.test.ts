import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { pad, parseAbi, toFunctionSelector, toHex } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import type { Hash } from '#kit/chain/block.ts'
import { type Chain, connectChain } from '#kit/chain/client.ts'
import {
  ContractRevertError,
  type CreateSenderParameters,
  createSender,
  InsufficientFundsError,
  TransactionRejectedError,
  type TransactionSender,
  TransactionTimeoutError,
} from '#kit/chain/sender.ts'
import { type Anvil, DEV_ACCOUNTS, mine, startAnvil } from '../../../chain.ts'
import { startFaultyProxy } from './faulty-proxy.ts'
import { EMITTER, fullScan, installEmitter, TOPIC, until } from './log-source.ts'
import { runSeed, seededRandom } from './random.ts'

/** Reverts with Refused(1, 2). */
const REFUSER = '0x00000000000000000000000000000000000000ee'
const abi = parseAbi(['error Refused(uint256 have, uint256 want)'])

let anvil: Anvil
let chain: Chain
let nextAccount = 0
const senders: TransactionSender[] = []

before(async () => {
  anvil = await startAnvil()
  await installEmitter(anvil)
  const selector = toFunctionSelector('Refused(uint256,uint256)').slice(2)
  await anvil.rpc('anvil_setCode', [REFUSER, `0x63${selector}60e01b5f526001600452600260245260445ffd`])
  chain = await connectChain({ rpcUrls: [anvil.url] })
})

after(async () => {
  for (const sender of senders) await sender.close()
  chain.close()
  await anvil.stop()
})

/** A sender with an account of its own, so that tests do not share nonces. */
function newSender(options: Partial<CreateSenderParameters> = {}) {
  const key = DEV_ACCOUNTS[nextAccount++ % DEV_ACCOUNTS.length]
  assert.ok(key)
  const sender = createSender({ chain, account: privateKeyToAccount(key.privateKey), pollIntervalMs: 50, ...options })
  senders.push(sender)
  return sender
}

function emission(payload: number): { to: Hash; data: Hash } {
  return { to: EMITTER, data: `${TOPIC}${pad(toHex(payload)).slice(2)}` }
}

async function withManualMining(body: () => Promise<void>): Promise<void> {
  await anvil.rpc('evm_setAutomine', [false])
  try {
    await body()
  } finally {
    await anvil.rpc('evm_setAutomine', [true])
    await anvil.rpc('anvil_setNextBlockBaseFeePerGas', ['0x3b9aca00'])
    await mine(anvil)
  }
}

/** Hashes of the account's transactions in the pool. */
async function poolOf(address: Hash): Promise<Record<string, { hash: Hash }>> {
  const content = (await anvil.rpc('txpool_content')) as { pending: Record<string, Record<string, { hash: Hash }>> }
  return Object.entries(content.pending).find(([owner]) => owner.toLowerCase() === address)?.[1] ?? {}
}

// A transaction comes back as its receipt, with its logs, and onHash heard its hash before.
test('sends and returns the receipt', async () => {
  const sender = newSender()
  const hashes: Hash[] = []
  const receipt = await sender.send(emission(7), { onHash: (hash) => void hashes.push(hash) })
  assert.equal(receipt.status, 'success')
  assert.deepEqual(hashes, [receipt.transactionHash])
  assert.equal(receipt.logs[0]?.topics[0], TOPIC)
  assert.equal(receipt.from.toLowerCase(), sender.address)
  assert.equal(sender.pendingCount, 0)
})

// Overlapping sends each get a nonce of their own and are all mined, once each.
test('sends many at once', async () => {
  const sender = newSender()
  const receipts = await Promise.all(Array.from({ length: 40 }, (_, index) => sender.send(emission(1000 + index))))
  assert.equal(new Set(receipts.map((receipt) => receipt.transactionHash)).size, 40)
  assert.equal(Number(await anvil.rpc('eth_getTransactionCount', [sender.address, 'latest'])), 40)
})

// A custom error is decoded, whether the estimate or the mined transaction shows it; unknown ones keep their data.
test('decodes custom errors', async () => {
  const sender = newSender({ abi })
  const check = (withReceipt: boolean) => (error: unknown) => {
    assert.ok(error instanceof ContractRevertError)
    assert.equal(error.errorName, 'Refused')
    assert.deepEqual(error.args, [1n, 2n])
    assert.equal(error.receipt?.status, withReceipt ? 'reverted' : undefined)
    return true
  }
  await assert.rejects(sender.send({ to: REFUSER }), check(false))
  await assert.rejects(sender.send({ to: REFUSER, gas: 100_000n }), check(true))
  await assert.rejects(newSender().send({ to: REFUSER }), (error: unknown) => {
    assert.ok(error instanceof ContractRevertError)
    assert.equal(error.errorName, undefined)
    assert.equal(error.data.slice(0, 10), toFunctionSelector('Refused(uint256,uint256)'))
    return true
  })
  assert.equal((await sender.send(emission(8))).status, 'success', 'a refused one leaves no hole in the nonces')
})

// An account that cannot pay is told what it has and what it would need; one that can pay today's price, but not with
// room for a rising base fee, sends all the same.
test('says how much is missing', async () => {
  const key = '0x00000000000000000000000000000000000000000000000000000000000000a1'
  const sender = createSender({ chain, account: privateKeyToAccount(key), pollIntervalMs: 50 })
  senders.push(sender)
  await anvil.rpc('anvil_setBalance', [sender.address, toHex(1000n)])
  for (const gas of [undefined, 21_000n]) {
    await assert.rejects(sender.send({ to: EMITTER, valueWei: 5000n, gas }), (error: unknown) => {
      assert.ok(error instanceof InsufficientFundsError)
      assert.equal(error.balanceWei, 1000n)
      assert.ok(error.neededWei >= 5000n)
      return true
    })
  }
  const { baseFeePerGas } = await chain.client.getBlock()
  assert.ok(baseFeePerGas)
  await anvil.rpc('anvil_setBalance', [sender.address, toHex((21_000n * (baseFeePerGas + 10n ** 9n) * 14n) / 10n)])
  const receipt = await sender.send({ to: DEV_ACCOUNTS[0]?.address, gas: 21_000n })
  assert.equal(receipt.status, 'success')
})

// A transaction that is stuck because the base fee rose is replaced with a higher fee, and mined once.
test('replaces a stuck transaction', async () => {
  const sender = newSender({ gasPolicy: { stuckAfterMs: 100 } })
  await withManualMining(async () => {
    const hashes: Hash[] = []
    const sent = sender.send(emission(9), { onHash: (hash) => void hashes.push(hash) })
    await until('the first is sent', () => sender.pendingCount === 1)
    const behind = sender.send(emission(10))
    await until('both are sent', () => sender.pendingCount === 2)
    await anvil.rpc('anvil_setNextBlockBaseFeePerGas', [toHex(6n * 10n ** 9n)])
    await mine(anvil)
    await until('a replacement was sent', () => hashes.length >= 2)
    await until('the pool took one that pays', async () => {
      await anvil.rpc('anvil_setNextBlockBaseFeePerGas', [toHex(3n * 10n ** 9n)])
      await mine(anvil)
      return sender.pendingCount === 0
    })
    const receipt = await sent
    assert.ok(hashes.includes(receipt.transactionHash))
    await behind
    assert.equal(Number(await anvil.rpc('eth_getTransactionCount', [sender.address, 'latest'])), 2)
  })
})

// The fee cap holds: no offer goes above it, and the time limit says why nothing happened, and under which hashes.
test('keeps to its caps', async () => {
  const cap = 10n * 10n ** 9n
  const sender = newSender({ gasPolicy: { stuckAfterMs: 50, maxFeePerGasWei: cap, maxGas: 60_000n } })
  await assert.rejects(sender.send({ ...emission(1), gas: 70_000n }), { code: 'TRANSACTION_GAS_CAP' })
  await withManualMining(async () => {
    await assert.rejects(sender.send(emission(11), { timeoutMs: 1_200 }), (error: unknown) => {
      assert.ok(error instanceof TransactionTimeoutError)
      assert.ok(error.hashes.length >= 2)
      assert.match(error.message, /fee cap|not mined/)
      return true
    })
    const pool = Object.values(await poolOf(sender.address))
    assert.equal(pool.length, 1)
    assert.ok(BigInt(String(Reflect.get(pool[0] ?? {}, 'maxFeePerGas'))) <= cap)
    // Dearer than the cap from the start: nothing is sent.
    await anvil.rpc('anvil_setNextBlockBaseFeePerGas', [toHex(2n * cap)])
    await mine(anvil)
    const dear = newSender({ gasPolicy: { maxFeePerGasWei: cap } })
    await assert.rejects(dear.send(emission(12), { timeoutMs: 300 }), (error: unknown) => {
      assert.ok(error instanceof TransactionTimeoutError)
      assert.deepEqual(error.hashes, [])
      assert.match(error.message, /the policy allows/)
      return true
    })
  })
})

// With n confirmations the receipt is held back until its block is n deep; a reorg that drops it in between sends the
// transaction back into the pool and it is confirmed again.
test('confirms through a reorg', async () => {
  const sender = newSender()
  await withManualMining(async () => {
    const sent = sender.send(emission(13), { confirmations: 3 })
    let settled = false
    void sent.then(() => {
      settled = true
    })
    await until('in the pool', async () => Object.keys(await poolOf(sender.address)).length === 1)
    await mine(anvil, 2)
    await new Promise((resolve) => setTimeout(resolve, 150))
    assert.equal(settled, false, 'two blocks are not three')
    await anvil.rpc('anvil_reorg', [2, []])
    assert.equal(Number(await anvil.rpc('eth_getTransactionCount', [sender.address, 'latest'])), 0, 'taken back')
    await until('confirmed', async () => {
      await mine(anvil)
      return settled
    })
    const receipt = await sent
    assert.ok((await chain.client.getBlockNumber()) - receipt.blockNumber >= 2n)
    assert.equal(Number(await anvil.rpc('eth_getTransactionCount', [sender.address, 'latest'])), 1)
  })
})

// When another process uses the same key and takes the nonce, the transaction gets a new one.
test('gets a new nonce when its own was taken', async () => {
  const sender = newSender()
  await withManualMining(async () => {
    const sent = sender.send(emission(14))
    await until('in the pool', async () => Object.keys(await poolOf(sender.address)).length === 1)
    const nonce = await anvil.rpc('eth_getTransactionCount', [sender.address, 'latest'])
    const fees = { maxFeePerGas: toHex(10n ** 12n), maxPriorityFeePerGas: toHex(10n ** 11n) }
    await anvil.rpc('eth_sendTransaction', [{ from: sender.address, to: EMITTER, nonce, gas: '0x186a0', ...fees }])
    await mine(anvil)
    let settled = false
    void sent.then(() => {
      settled = true
    })
    await until('sent under another nonce', async () => Object.keys(await poolOf(sender.address)).length === 1)
    await mine(anvil)
    await until('mined', () => settled)
    const receipt = await sent
    const { nonce: used } = await chain.client.getTransaction({ hash: receipt.transactionHash })
    assert.equal(used, Number(nonce) + 1)
  })
})

// A transaction of an earlier process that vanished from the pool leaves a hole; an empty transfer fills it.
test('fills a hole in the nonces', async () => {
  const sender = newSender({ gasPolicy: { stuckAfterMs: 100 } })
  await withManualMining(async () => {
    const lost = await anvil.rpc('eth_sendTransaction', [{ from: sender.address, to: EMITTER, gas: '0x186a0' }])
    const sent = sender.send(emission(15))
    await until('sent behind it', async () => Object.keys(await poolOf(sender.address)).length === 2)
    await anvil.rpc('anvil_dropTransaction', [lost])
    await until('mined', async () => {
      await mine(anvil)
      return sender.pendingCount === 0
    })
    assert.equal((await sent).status, 'success')
    assert.equal(Number(await anvil.rpc('eth_getTransactionCount', [sender.address, 'latest'])), 2)
  })
})

// A transaction that the pool dropped is offered again.
test('sends a dropped transaction again', async () => {
  const sender = newSender({ gasPolicy: { stuckAfterMs: 100 } })
  await withManualMining(async () => {
    const hashes: Hash[] = []
    const sent = sender.send(emission(16), { onHash: (hash) => void hashes.push(hash) })
    await until('in the pool', async () => Object.keys(await poolOf(sender.address)).length === 1)
    await anvil.rpc('anvil_dropTransaction', [hashes[0]])
    await until('mined', async () => {
      await mine(anvil)
      return sender.pendingCount === 0
    })
    await sent
  })
})

// After a time limit the hashes are enough to find the transaction, also for another process; an abort and a close
// end the waiting at once.
test('can be taken up again', async () => {
  const account = privateKeyToAccount(DEV_ACCOUNTS[0]?.privateKey ?? '0x')
  const sender = newSender({ account })
  await withManualMining(async () => {
    const error = await sender.send(emission(17), { timeoutMs: 200 }).catch((reason: unknown) => reason)
    assert.ok(error instanceof TransactionTimeoutError)
    assert.equal(error.hashes.length, 1)
    const abort = new AbortController()
    const aborted = sender.send(emission(18), { signal: abort.signal })
    await until('sent', async () => Object.keys(await poolOf(sender.address)).length === 2)
    abort.abort(new Error('enough'))
    await assert.rejects(aborted, /enough/)
    const closing = sender.send(emission(19))
    await until('sent', async () => Object.keys(await poolOf(sender.address)).length === 3)
    await sender.close()
    await assert.rejects(closing, { code: 'SENDER_CLOSED' })
    await mine(anvil)
    const later = createSender({ chain, account })
    const receipt = await later.waitFor(error.hashes)
    assert.equal(receipt.transactionHash, error.hashes[0])
    await assert.rejects(later.waitFor([`0x${'00'.repeat(32)}`], { timeoutMs: 100 }), TransactionTimeoutError)
    await later.close()
  })
})

// A chain that was reset under a running agent is told from a dropped transaction.
test('notices that the chain was reset', async () => {
  const other = await startAnvil()
  const otherChain = await connectChain({ rpcUrls: [other.url] })
  const account = privateKeyToAccount(other.accounts[0]?.privateKey ?? '0x')
  const sender = createSender({ chain: otherChain, account, pollIntervalMs: 20, gasPolicy: { stuckAfterMs: 50 } })
  const snapshot = await other.rpc('evm_snapshot')
  for (let count = 0; count < 18; count++) await sender.send({ to: EMITTER, gas: 21_000n })
  await other.rpc('evm_revert', [snapshot])
  await assert.rejects(sender.send({ to: EMITTER, gas: 21_000n }), (error: unknown) => {
    assert.ok(error instanceof TransactionRejectedError)
    assert.equal(error.code, 'TRANSACTION_NONCE_GAP')
    return true
  })
  await sender.close()
  otherChain.close()
  await other.stop()
})

// A chain without a base fee gets legacy transactions.
test('sends legacy transactions where there is no base fee', async () => {
  const old = await startAnvil({ args: ['--hardfork', 'berlin'] })
  const oldChain = await connectChain({ rpcUrls: [old.url] })
  const account = privateKeyToAccount(old.accounts[0]?.privateKey ?? '0x')
  const sender = createSender({ chain: oldChain, account, pollIntervalMs: 20 })
  const receipt = await sender.send({ to: EMITTER, valueWei: 1n })
  assert.equal(receipt.type, 'legacy')
  await sender.close()
  oldChain.close()
  await old.stop()
})

// Through any storm of endpoint faults (answers lost after the transaction went in, rate limits, lag, nonsense), every
// transaction is mined exactly once.
test('sends exactly once through faults', async (t) => {
  const seed = runSeed()
  t.diagnostic(`SEED=${seed}`)
  const random = seededRandom(seed)
  const proxies = [
    await startFaultyProxy({ target: anvil.url, random }),
    await startFaultyProxy({ target: anvil.url, random }),
  ]
  const faulty = await connectChain({ rpcUrls: proxies.map((proxy) => proxy.url), retries: 10, timeoutMs: 2_000 })
  for (const proxy of proxies) {
    proxy.faultRate = 0.15
    proxy.faults = ['drop-connection', 'status-429', 'status-500', 'garbage', 'truncate', 'delay']
  }
  const sender = newSender({ chain: faulty })
  const from = Number(await anvil.rpc('eth_blockNumber'))
  await Promise.all(Array.from({ length: 12 }, (_, index) => sender.send(emission(5000 + index))))
  const scan = await fullScan(anvil, { from: from + 1, to: Number(await anvil.rpc('eth_blockNumber')) })
  const payloads = scan.map((line) => Number(`0x${line.slice(-8)}`)).sort((a, b) => a - b)
  assert.deepEqual(
    payloads,
    Array.from({ length: 12 }, (_, index) => 5000 + index),
  )
  await sender.close()
  faulty.close()
  for (const proxy of proxies) await proxy.stop()
})
