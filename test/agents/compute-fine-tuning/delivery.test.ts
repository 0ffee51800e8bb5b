import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { PrivateKeyAccount } from 'viem'
import { FineTuningReader } from '#compute/fine-tuning/chain/fine-tuning-chain.ts'
import { fetchArtefact } from '#compute/fine-tuning/client/fetch-model.ts'
import { ProviderApi } from '#compute/fine-tuning/client/provider-api.ts'
import type { FineTuningConfig, RunningFineTuning } from '#compute/fine-tuning/main.ts'
import { type Chain, connectChain } from '#kit/chain/client.ts'
import type { TaskView } from '#protocol/compute/fine-tuning/task.ts'
import { signTerms } from '#protocol/compute/fine-tuning/terms.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import type { startNode } from '#storage/node/main.ts'
import {
  createTask,
  type FineTuningMarket,
  openFineTuningMarket,
  reaches,
  startMarketStorage,
  until,
} from './market.ts'

const COIN = 10n ** 18n
const parameters = JSON.stringify({
  ...{
    neftune_noise_alpha: 0,
    num_train_epochs: 1,
    per_device_train_batch_size: 2,
    learning_rate: 0.001,
    max_steps: 40,
  },
})
const examples = ['red', 'green', 'blue', 'red', 'green', 'blue']
  .map((colour) => `${JSON.stringify({ instruction: 'What colour?', input: '', output: colour })}\n`)
  .join('')

let market: FineTuningMarket
let config: FineTuningConfig
let provider: RunningFineTuning
let node: Awaited<ReturnType<typeof startNode>>
let chain: Chain

before(async () => {
  market = await openFineTuningMarket()
  const started = await startMarketStorage(market)
  node = started.node
  config = market.config({
    storage: started.storage,
    trainer: { stopMs: 5_000 },
  })
  provider = await market.start(config)
  await market.register(config, provider.url)
  chain = await connectChain({ rpcUrls: [market.anvil.url] })
})
after(async () => {
  chain?.close()
  await market?.close()
  await node?.close()
})

const apiOf = (account: PrivateKeyAccount) =>
  new ProviderApi({ url: provider.url, provider: provider.address, account })
const reader = () => new FineTuningReader({ chain, contract: market.contracts.fineTuning, provider: provider.address })

/** Creates a task, with terms where `maxFeeWei` is given. */
async function create(user: PrivateKeyAccount, o: { maxFeeWei?: bigint; id?: string; steps?: number } = {}) {
  const { maxFeeWei, id = crypto.randomUUID(), steps = 2 } = o
  const deliverBy = (await reader().nowS()) + 600
  const terms = {
    user: user.address,
    provider: provider.address,
    id,
    maxFeeWei: maxFeeWei ?? 0n,
    deliverByS: deliverBy,
  }
  const signature = await signTerms({ signer: user, chainId: 31_337, contract: market.contracts.taskBook, terms })
  return await createTask({
    ...{ api: apiOf(user), user, dataset: examples, trainingParams: parameters.replace('40', String(steps)) },
    terms: maxFeeWei === undefined ? undefined : { id, maxFee: String(maxFeeWei), deliverBy, signature },
  })
}

const follow = (user: PrivateKeyAccount, id: string, progress: string): Promise<TaskView> =>
  reaches({ api: apiOf(user), id, progress })

async function pass(seconds: number): Promise<void> {
  await market.anvil.rpc('evm_increaseTime', [seconds])
  await market.anvil.rpc('anvil_mine', ['0x1'])
}

// A provider that is stopped while it trains goes on after its restart, from its checkpoint, and delivers; its user
// notices nothing.
test('a restart in the middle of training costs nothing', async () => {
  const user = market.account(2)
  await market.fund(user, '1')
  const id = await create(user, { steps: 40 })
  await until(async () => (await apiOf(user).curve(id, 0)).length >= 4, 'it trains')
  await provider.close()
  provider = await market.start({ ...config, port: Number(new URL(provider.url).port) })
  const task = await follow(user, id, 'Delivered')
  const curve = await apiOf(user).curve(id, 0)
  assert.deepEqual(
    curve.map(({ step }) => step),
    Array.from({ length: 40 }, (_, i) => i + 1),
  )
  const log = await apiOf(user).log(id)
  assert.match(log, /going on from step/)
  assert.equal((await reader().deliverable(user.address, id))?.modelRootHash, task.artefactRoot)
})

// What a provider hands out instead of what the chain names is refused, from wherever it comes; nothing is acknowledged.
test('other bytes than the root says are refused', async () => {
  const user = market.account(2)
  const [task] = [(await apiOf(user).task(await lastId(user))) as TaskView]
  const artefact = join(config.dataDir, 'tasks', task.id, 'artefact.bin')
  const honest = readFileSync(artefact)
  const root = task.artefactRoot as Hash
  const parts = { api: apiOf(user), storage: undefined, id: task.id, root, signer: provider.signer }
  const to = join(market.folder, 'fetched.bin')
  const changed = Buffer.from(honest)
  changed[500] = (changed[500] ?? 0) ^ 1
  for (const bytes of [changed, honest.subarray(0, -1), Buffer.alloc(0), Buffer.from('something else')]) {
    writeFileSync(artefact, bytes)
    await assert.rejects(fetchArtefact({ ...parts, to }), (error: unknown) => error instanceof WeightlessError)
  }
  writeFileSync(artefact, honest)
  const otherSigner = { ...parts, signer: user.address.toLowerCase() as Hex, to }
  const isUnsigned = (error: unknown) => error instanceof WeightlessError && error.code === 'ARTEFACT_SIGNATURE'
  await assert.rejects(fetchArtefact(otherSigner), isUnsigned)
  await fetchArtefact({ ...parts, to })
  assert.deepEqual(readFileSync(to), honest)
})

// Who never acknowledges pays 30 per cent after half of the lock time and gets no key; the rest stays, the provider has
// exactly what the user lost, and the pair is free for the next task.
test('without an acknowledgement a part is paid, and no key released', async () => {
  const user = market.account(2)
  const id = await lastId(user)
  const { fee } = await apiOf(user).task(id)
  await provider.settle()
  assert.equal(await market.balance(user), COIN, 'nothing is charged before the time is over')
  await pass(3_700)
  const finished = await follow(user, id, 'Finished')
  assert.equal(await market.balance(user), COIN - (BigInt(fee) * 30n) / 100n)
  const deliverable = await reader().deliverable(user.address, finished.id)
  assert.deepEqual([deliverable?.settled, deliverable?.encryptedSecret], [true, '0x'])
  const next = await create(user)
  await follow(user, next, 'Delivered')
  await market.call(user, market.contracts.fineTuning, 'acknowledgeDeliverable', [provider.address, next])
  await follow(user, next, 'Finished')
})

// Whoever said that it pays for signed terms alone is not taken a task from that could never be settled.
test('an account that pays for signed terms alone needs them', async () => {
  const user = market.account(4)
  await market.fund(user, '1')
  await market.call(user, market.contracts.fineTuning, 'setSignedChargesOnly', [provider.address, true])
  const isRefused = (error: unknown) => error instanceof WeightlessError && error.code === 'TERMS_REQUIRED'
  await assert.rejects(create(user), isRefused)
  const id = await create(user, { maxFeeWei: COIN / 2n })
  await follow(user, id, 'Delivered')
})

// A task on terms that cannot be delivered, because the storage nodes are gone, fails with that reason. What was held comes
// back to the ledger, all of it, once the deadline of the terms is over.
test('storage that is gone at delivery costs the user nothing', async () => {
  const user = market.account(3)
  await market.fund(user, '1')
  const total = await market.ledgerTotal(user)
  await node.close()
  const id = await create(user, { maxFeeWei: COIN / 2n })
  const failed = await follow(user, id, 'Failed')
  assert.equal(failed.failure?.code, 'DELIVERY_STORAGE')
  assert.equal((await reader().terms(user.address, id)).heldWei, COIN / 2n)
  await pass(700)
  await until(async () => (await reader().terms(user.address, id)).heldWei === 0n, 'what was held is returned')
  assert.equal(await market.ledgerTotal(user), total)
  assert.equal(await market.balance(user), COIN / 2n)
})

async function lastId(user: PrivateKeyAccount): Promise<string> {
  const response = await fetch(`${provider.url}/v1/user/${user.address}/task?latest=true`)
  const [task] = (await response.json()) as TaskView[]
  return task?.id ?? ''
}
