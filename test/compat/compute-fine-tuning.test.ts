import assert from 'node:assert/strict'
import { mkdirSync, openAsBlob, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type * as Sdk from '@0gfoundation/0g-compute-ts-sdk'
import type * as Ethers from 'ethers'
import { ProviderApi } from '#compute/fine-tuning/client/provider-api.ts'
import type { RunningFineTuning } from '#compute/fine-tuning/main.ts'
import { readArchive } from '#protocol/compute/fine-tuning/archive.ts'
import { datasetUploadDigest, signTaskDigest } from '#protocol/compute/fine-tuning/task-signature.ts'
import {
  createTask,
  type FineTuningMarket,
  MODEL,
  openFineTuningMarket,
  PRICE_WEI,
  until,
} from '../agents/compute-fine-tuning/market.ts'
import { DEV_ACCOUNTS } from '../chain.ts'
import { releaseLongTimers } from './compute-packages.ts'

/** The build for Node: as an ES module the package is built for browsers, without what reads files. */
const require = createRequire(import.meta.url)
const { createZGComputeNetworkBroker } = require('@0gfoundation/0g-compute-ts-sdk') as typeof Sdk

releaseLongTimers()
const { ethers } = require('ethers') as typeof Ethers

/** What of the public package is used here. */
interface Broker {
  ledger: {
    addLedger(coins: number): Promise<unknown>
    transferFund(provider: string, service: string, amount: bigint): Promise<unknown>
  }
  fineTuning: {
    listService(): Promise<{ provider: string; url: string }[]>
    listModel(): Promise<[string, { description: string; provider?: string }][][]>
    getAccount(provider: string): Promise<{ balance: bigint; nonce: bigint }>
    acknowledgeProviderSigner(provider: string): Promise<unknown>
    uploadDatasetToTEE(provider: string, path: string): Promise<{ datasetHash: string }>
    createTask(provider: string, model: string, datasetHash: string, parametersPath: string): Promise<string>
    listTask(provider: string): Promise<{ id: string; progress: string }[]>
    getTask(provider: string, id?: string): Promise<{ id: string; progress: string }>
    getLog(provider: string, id?: string): Promise<string>
    cancelTask(provider: string, id: string): Promise<string>
    modelUsage(provider: string, model: string, path: string): Promise<void>
    acknowledgeModel(provider: string, id: string, path: string, options: object): Promise<void>
    decryptModel(provider: string, id: string, from: string, to: string): Promise<void>
  }
}

let market: FineTuningMarket
let provider: RunningFineTuning
let rpc: Ethers.JsonRpcProvider
let broker: Broker
let datasetPath: string
let parametersPath: string
const address = () => market.provider.address
const parameters = {
  ...{ neftune_noise_alpha: 5, num_train_epochs: 1, per_device_train_batch_size: 2 },
  ...{ learning_rate: 0.001, max_steps: 4 },
}

before(async () => {
  market = await openFineTuningMarket()
  // The own trainer; what a dataset that says LARGE leaves is made larger.
  const command = [
    process.execPath,
    fileURLToPath(new URL('../agents/compute-fine-tuning/faulty-trainer.ts', import.meta.url)),
  ]
  const config = market.config({ trainer: { command, stopMs: 10_000 } })
  provider = await market.start(config)
  await market.register(config, provider.url)
  rpc = new ethers.JsonRpcProvider(market.anvil.url, undefined, { cacheTimeout: -1, pollingInterval: 50 })
  const wallet = new ethers.Wallet(DEV_ACCOUNTS[3]?.privateKey ?? '', rpc)
  broker = (await createZGComputeNetworkBroker(wallet as never)) as unknown as Broker
  datasetPath = join(market.folder, 'dataset.jsonl')
  const lines = ['red', 'green', 'blue'].flatMap((colour) =>
    ['ball', 'cup', 'hat'].map((thing) => ({ instruction: `What colour is the ${thing}?`, input: '', output: colour })),
  )
  writeFileSync(datasetPath, lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  parametersPath = join(market.folder, 'parameters.json')
  writeFileSync(parametersPath, JSON.stringify(parameters))
})
after(async () => {
  rpc?.destroy()
  await market?.close()
})

test('finds the service and its models, funds the account, acknowledges the signer', async () => {
  const services = await broker.fineTuning.listService()
  assert.equal(services[0]?.provider, address())
  const [, customised = []] = await broker.fineTuning.listModel()
  assert.deepEqual(
    customised.map(([name]) => name),
    [MODEL],
  )
  await broker.ledger.addLedger(10)
  await assert.rejects(broker.fineTuning.acknowledgeProviderSigner(address()), 'before the account is funded')
  await broker.ledger.transferFund(address(), 'fine-tuning', 2n * 10n ** 18n)
  await broker.fineTuning.acknowledgeProviderSigner(address())
  assert.equal((await broker.fineTuning.getAccount(address())).balance, 2n * 10n ** 18n)
  const usage = join(market.folder, 'usage.zip')
  await broker.fineTuning.modelUsage(address(), MODEL, usage)
  assert.deepEqual(
    readArchive(readFileSync(usage)).map(({ name }) => name),
    ['README.md'],
  )
})

test('is refused parameters that are not as they must be, with a message', async () => {
  const { datasetHash } = await broker.fineTuning.uploadDatasetToTEE(address(), datasetPath)
  assert.equal(datasetHash, ethers.keccak256(readFileSync(datasetPath)))
  for (const bad of [{ ...parameters, more: 1 }, { ...parameters, num_train_epochs: 0 }, {}]) {
    const path = join(market.folder, 'bad.json')
    writeFileSync(path, JSON.stringify(bad))
    await assert.rejects(
      broker.fineTuning.createTask(address(), MODEL, datasetHash, path),
      /more|num_train_epochs|neftune_noise_alpha/,
    )
  }
})

/** The whole way of the package from a dataset to the opened archive. */
async function trainAndDecrypt(path: string): Promise<{ id: string; archive: string }> {
  const { datasetHash } = await broker.fineTuning.uploadDatasetToTEE(address(), path)
  const id = await broker.fineTuning.createTask(address(), MODEL, datasetHash, parametersPath)
  assert.match(id, /^[0-9a-f-]{36}$/)
  const at = async (progress: string) =>
    await until(async () => {
      const task = await broker.fineTuning.getTask(address(), id)
      assert.notEqual(task.progress, 'Failed', await broker.fineTuning.getLog(address(), id))
      return task.progress === progress
    }, `the task is ${progress}`)
  await at('Delivered')
  // Until it is acknowledged and settled there is no other.
  await assert.rejects(broker.fineTuning.createTask(address(), MODEL, datasetHash, parametersPath), /in-progress tasks/)
  assert.equal((await broker.fineTuning.listTask(address()))[0]?.id, id)
  assert.match(await broker.fineTuning.getLog(address(), id), /Delivered/)
  const folder = join(market.folder, `fetched-${id}`)
  mkdirSync(folder)
  await broker.fineTuning.acknowledgeModel(address(), id, folder, { downloadMethod: 'tee' })
  await at('Finished')
  const archive = join(market.folder, `model-${id}.zip`)
  await broker.fineTuning.decryptModel(address(), id, join(folder, `lora_model_${id}.zip`), archive)
  return { id, archive }
}

// The whole way of the unmodified package: send, create, follow, fetch, acknowledge, decrypt. What it decrypts is the
// adapter; what it paid is the price of the tokens.
test('trains, fetches, acknowledges and decrypts a model', async () => {
  const { archive } = await trainAndDecrypt(datasetPath)
  const files = readArchive(readFileSync(archive))
  assert.deepEqual(
    files.map(({ name }) => name),
    ['adapter.gguf', 'adapter_model.safetensors', 'adapter_config.json', 'loss-curve.json'],
  )
  assert.equal(Buffer.from(files[0]?.data.subarray(0, 4) ?? []).toString(), 'GGUF')
  const paid = 2n * 10n ** 18n - (await market.balance(market.account(3)))
  assert.ok(paid > 0n && paid % PRICE_WEI === 0n, `${paid} wei is a price of whole tokens`)
})

// An artefact of more than one encrypted chunk (64 MiB each) comes through the package whole.
test('decrypts a model of more than 64 MiB', async () => {
  const path = join(market.folder, 'large.jsonl')
  writeFileSync(path, `${JSON.stringify({ instruction: 'How much?', input: '', output: 'LARGE' })}\n`)
  const { archive } = await trainAndDecrypt(path)
  const [adapter] = readArchive(readFileSync(archive))
  assert.equal(adapter?.name, 'adapter.gguf')
  assert.equal(adapter?.data.length, 66 * 2 ** 20)
  assert.equal(Buffer.from(adapter?.data.subarray(0, 4) ?? []).toString(), 'GGUF')
  assert.ok(adapter?.data.subarray(-1_000).every((byte) => byte === 0))
})

// The package refuses more than 100 MB itself; whoever sends it all the same, or with an old signature, hears so from the
// provider, in the form that the package reads.
test('is refused a dataset of 101 MB, and one that was signed long ago', async () => {
  const path = join(market.folder, 'huge.jsonl')
  writeFileSync(path, '')
  truncateSync(path, 101 * 2 ** 20)
  await assert.rejects(broker.fineTuning.uploadDatasetToTEE(address(), path), /exceeds maximum/)
  const user = market.account(3)
  const send = async (file: Blob, timestampS: number) => {
    const form = new FormData()
    form.set('file', file, 'dataset.jsonl')
    const digest = datasetUploadDigest({ user: user.address, timestampS })
    form.set('signature', await signTaskDigest({ signer: user, digest }))
    form.set('timestamp', String(timestampS))
    const response = await fetch(`${provider.url}/v1/user/${user.address}/dataset`, { method: 'POST', body: form })
    return { status: response.status, body: (await response.json()) as { error: string } }
  }
  const nowS = Math.floor(Date.now() / 1000)
  const huge = await send(await openAsBlob(path), nowS)
  assert.equal(huge.status, 413)
  assert.ok(huge.body.error.length > 0)
  const stale = await send(new Blob([readFileSync(datasetPath)]), nowS - 600)
  assert.ok(stale.status >= 400 && stale.status < 500)
  assert.ok(stale.body.error.length > 0)
})

/** Another user's task that trains for longer than any of these tests, or waits until it may. */
async function otherTask(index: number): Promise<{ id: string; api: ProviderApi }> {
  const user = market.account(index)
  await market.fund(user, '2')
  const api = new ProviderApi({ url: provider.url, provider: provider.address, account: user })
  const trainingParams = JSON.stringify({ ...parameters, max_steps: 10_000 })
  const id = await createTask({ api, user, dataset: readFileSync(datasetPath, 'utf8'), trainingParams })
  return { id, api }
}

/** Answers what the package asks on the terminal while `work` goes on. */
async function answering<T>(answer: string, work: () => Promise<T>): Promise<T> {
  const terminal = Object.getOwnPropertyDescriptor(process, 'stdin')
  const stdin = new PassThrough()
  Object.defineProperty(process, 'stdin', { value: stdin, configurable: true })
  stdin.write(`${answer}\n`)
  try {
    return await work()
  } finally {
    if (terminal !== undefined) Object.defineProperty(process, 'stdin', terminal)
  }
}

// While another task waits the package asks whether to queue behind it, and says no for those who do not want to. Its task then
// waits too, is cancelled by the package, costs nothing, and makes room for the next.
test('cancels a task that does not train yet', async () => {
  const first = await otherTask(4)
  await until(async () => (await first.api.task(first.id)).progress === 'Training', 'it trains')
  const second = await otherTask(5)
  const before = await market.balance(market.account(3))
  const { datasetHash } = await broker.fineTuning.uploadDatasetToTEE(address(), datasetPath)
  const create = () => broker.fineTuning.createTask(address(), MODEL, datasetHash, parametersPath)
  await assert.rejects(answering('no', create), /pending tasks/)
  for (const attempt of [1, 2]) {
    const id = await answering('yes', create)
    assert.match(await broker.fineTuning.cancelTask(address(), id), new RegExp(`${id} cancelled`), `task ${attempt}`)
    assert.equal((await broker.fineTuning.getTask(address(), id)).progress, 'Failed')
  }
  assert.equal(await market.balance(market.account(3)), before)
  await second.api.cancel(second.id)
})

test('cannot cancel what is finished', async () => {
  const tasks = await broker.fineTuning.listTask(address())
  const id = tasks.find(({ progress }) => progress === 'Finished')?.id ?? ''
  await broker.fineTuning.cancelTask(address(), id).then(
    () => assert.fail('it was cancelled'),
    (error: Error) => assert.match(error.message, /409/),
  )
})
