import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { askAdapter } from '#compute/fine-tuning/client/ask-model.ts'
import { fineTune } from '#compute/fine-tuning/client/fine-tune.ts'
import { ProviderApi } from '#compute/fine-tuning/client/provider-api.ts'
import { FineTuningWallet } from '#compute/fine-tuning/client/wallet.ts'
import type { FineTuningConfig, RunningFineTuning } from '#compute/fine-tuning/main.ts'
import { TrainerProcess } from '#compute/trainer/process.ts'
import { decodeLineage } from '#protocol/compute/fine-tuning/lineage.ts'
import { WeightlessError } from '#protocol/error.ts'
import { fromHex } from '#protocol/hex.ts'
import { DEV_ACCOUNTS } from '../../chain.ts'
import { type FineTuningMarket, MODEL, openFineTuningMarket, until } from './market.ts'

const trainer = fileURLToPath(new URL('./example-trainer.ts', import.meta.url))
const trainingParams =
  '{"neftune_noise_alpha":0,"num_train_epochs":1,"per_device_train_batch_size":2,"learning_rate":0.001,"max_steps":10}'
const text = ['red', 'green', 'blue', 'red', 'green', 'blue']
  .map((colour) => `${JSON.stringify({ prompt: 'What colour?', completion: colour })}\n`)
  .join('')

let market: FineTuningMarket
let config: FineTuningConfig
let provider: RunningFineTuning

before(async () => {
  market = await openFineTuningMarket()
  config = market.config({ trainer: { command: [process.execPath, trainer], stopMs: 10_000 } })
  provider = await market.start(config)
  await market.register(config, provider.url)
})
after(() => market?.close())

// A provider whose trainer is somebody else's command: quote, terms, training, a restart in the middle, delivery, key,
// payment are the same; the adapter is the command's own, works in the engine, and the record says who trained it.
test('another trainer behind the same market', async () => {
  const account = market.account(2)
  const datasetPath = join(market.folder, 'external.jsonl')
  writeFileSync(datasetPath, text)
  await using wallet = await FineTuningWallet.open({
    ...{ rpcUrls: [market.anvil.url], contract: market.contracts.fineTuning, account },
  })
  const folder = join(market.folder, 'external')
  const tune = () =>
    fineTune({
      ...{ wallet, secretKey: fromHex(DEV_ACCOUNTS[2]?.privateKey ?? ''), base: MODEL, datasetPath, folder },
      ...{ trainingParams, pollMs: 100 },
    })
  const first = tune()
  first.catch(() => undefined)
  const api = new ProviderApi({ url: provider.url, provider: provider.address, account })
  const id = await until(async () => {
    const [task] = (await (await fetch(`${provider.url}/v1/user/${account.address}/task?latest=true`)).json()) as {
      id: string
    }[]
    return task !== undefined && (await api.curve(task.id, 0)).length >= 3 ? task.id : undefined
  }, 'it trains')
  await provider.close()
  await assert.rejects(first)
  provider = await market.start({ ...config, port: Number(new URL(provider.url).port) })
  // The same call goes on with the same task.
  const result = await tune()
  assert.equal(result.id, id)
  const curve = await api.curve(id, 0)
  assert.deepEqual(
    curve.map(({ step }) => step),
    Array.from({ length: 10 }, (_, i) => i + 1),
  )
  assert.ok((curve.at(-1)?.loss ?? 9) < (curve[0]?.loss ?? 0), 'the loss falls')
  assert.match(await api.log(id), /going on from step [1-9]/)
  const { record } = decodeLineage(readFileSync(join(folder, 'lineage.json')))
  assert.deepEqual([record.trainer.name, record.scores.steps, record.task.id], ['external', 10, id])
  assert.equal(await market.ledgerTotal(account), 3n * 10n ** 18n - result.feeWei)
  // The engine refuses an adapter that does not fit.
  const asked = askAdapter({
    ...{ basePath: market.model.path, adapterPath: result.adapterPath, question: 'What colour?', maxTokens: 4 },
    signal: AbortSignal.timeout(30_000),
  })
  await assert.doesNotReject(async () => {
    for await (const piece of asked) assert.equal(typeof piece, 'string')
  })
})

// What such a command refuses reaches the caller with its code, as the own trainer's errors do.
test('its errors keep their codes', async () => {
  const job = { basePath: market.model.path, datasetPath: join(market.folder, 'none.jsonl') }
  const run = new TrainerProcess({ command: [process.execPath, trainer] }).run({
    job: { ...job, outputDir: join(market.folder, 'refused'), recipe: {} },
  })
  await assert.rejects(run, (error) => error instanceof WeightlessError && error.code === 'TRAINER_DATASET_EMPTY')
})
