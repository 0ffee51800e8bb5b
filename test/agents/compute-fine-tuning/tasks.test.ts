import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import type { PrivateKeyAccount } from 'viem'
import * as finetuneCommand from '#cli/commands/finetune.ts'
import * as modelCommand from '#cli/commands/model.ts'
import { createIo } from '#cli/io.ts'
import { addGlobalOptions } from '#cli/options.ts'
import { upload } from '#client/storage/upload.ts'
import { findLineage } from '#compute/fine-tuning/client/find-lineage.ts'
import { type FineTuneEvent, type FineTuneParameters, fineTune } from '#compute/fine-tuning/client/fine-tune.ts'
import { ProviderApi } from '#compute/fine-tuning/client/provider-api.ts'
import { verifyLineage } from '#compute/fine-tuning/client/verify-lineage.ts'
import { FineTuningWallet } from '#compute/fine-tuning/client/wallet.ts'
import type { FineTuningConfig, RunningFineTuning } from '#compute/fine-tuning/main.ts'
import { openModels } from '#compute/fine-tuning/models.ts'
import { type ArtefactStorage, fetchBytes, openArtefactStorage } from '#compute/fine-tuning/storage.ts'
import { fileSource } from '#kit/files.ts'
import { decodeLineage } from '#protocol/compute/fine-tuning/lineage.ts'
import { encodeSessionToken } from '#protocol/compute/session-token.ts'
import { WeightlessError } from '#protocol/error.ts'
import { fromHex, type Hash, type Hex } from '#protocol/hex.ts'
import type { startNode } from '#storage/node/main.ts'
import { DEV_ACCOUNTS } from '../../chain.ts'
import {
  createTask,
  type FineTuningMarket,
  MODEL,
  openFineTuningMarket,
  PRICE_WEI,
  reaches,
  startMarketStorage,
  until,
} from './market.ts'

const parameters = (changes: object = {}) =>
  JSON.stringify({
    ...{ neftune_noise_alpha: 0, num_train_epochs: 1, per_device_train_batch_size: 2 },
    ...{ learning_rate: 0.001, max_steps: 4, ...changes },
  })
const line = (answer: string) =>
  JSON.stringify({
    messages: [
      { role: 'user', content: 'What colour?' },
      { role: 'assistant', content: answer },
    ],
  })
const hasCode = (code: string) => (error: unknown) => error instanceof WeightlessError && error.code === code

let market: FineTuningMarket
let config: FineTuningConfig
let provider: RunningFineTuning
let node: Awaited<ReturnType<typeof startNode>>
let storage: ArtefactStorage
let folders = 0

before(async () => {
  market = await openFineTuningMarket()
  const started = await startMarketStorage(market)
  node = started.node
  const command = [process.execPath, fileURLToPath(new URL('./faulty-trainer.ts', import.meta.url))]
  config = market.config({
    storage: started.storage,
    trainer: { command, crashes: 2, stopMs: 5_000 },
    limits: { datasetBytes: 20_000 },
  })
  provider = await market.start(config)
  await market.register(config, provider.url)
  const opened = openArtefactStorage({
    ...{
      rpcUrls: [market.anvil.url],
      nodes: [node.url],
      flow: started.flow,
      account: market.account(9),
      timeoutMs: 20_000,
    },
    journalDir: join(market.folder, 'journal'),
  })
  assert.ok(opened)
  storage = opened
})
after(async () => {
  await storage?.close()
  await market?.close()
  await node?.close()
})

function dataset(text: string): string {
  const path = join(market.folder, `dataset-${folders++}.jsonl`)
  writeFileSync(path, text)
  return path
}

/** One user's way through the market. */
async function tune(index: number, changes: Partial<FineTuneParameters> & { datasetPath: string }) {
  const account = market.account(index)
  const events: FineTuneEvent[] = []
  await using wallet = await FineTuningWallet.open({
    ...{ rpcUrls: [market.anvil.url], contract: market.contracts.fineTuning, account },
  })
  const result = await fineTune({
    ...{ wallet, secretKey: fromHex(DEV_ACCOUNTS[index]?.privateKey ?? ''), base: MODEL },
    ...{ trainingParams: parameters(), folder: join(market.folder, `run-${folders++}`), pollMs: 100 },
    onEvent: (event) => events.push(event),
    ...changes,
  })
  return { result, events }
}

/** Creates a task without terms. */
const createPlain = (user: PrivateKeyAccount, text: string): Promise<string> =>
  createTask({ api: apiOf(user), user, dataset: text, trainingParams: parameters() })
const apiOf = (account: PrivateKeyAccount) =>
  new ProviderApi({ url: provider.url, provider: provider.address, account })
const stateOf = (folder: string) => JSON.parse(readFileSync(join(folder, 'task.json'), 'utf8')) as { id: string }

describe('from a dataset to an adapter', () => {
  let folder: string
  let id: string
  let lineageRoot: Hash

  // Quote, deposit, terms, training, delivery over storage, key: the fee quoted is the fee paid, to the wei, and the
  // provider holds no more than that.
  test('pays what was quoted and gets an adapter', async () => {
    const datasetPath = dataset(['red', 'green', 'blue', 'red', 'green', 'blue'].map((c) => `${line(c)}\n`).join(''))
    await using source = await fileSource(datasetPath)
    await upload(storage.connection, { source })
    folder = join(market.folder, 'first')
    const { result, events } = await tune(2, { datasetPath, folder, storage })
    id = result.id
    assert.equal(readFileSync(result.adapterPath).subarray(0, 4).toString(), 'GGUF')
    const quote = events.find((event) => event.type === 'quote')
    assert.equal(quote?.type === 'quote' ? BigInt(quote.quote.fee) : 0n, result.feeWei)
    const trained = quote?.type === 'quote' ? quote.quote.trainedTokens : 0
    assert.equal(result.feeWei, BigInt(trained) * PRICE_WEI)
    const steps = events.flatMap((event) => (event.type === 'curve' ? event.points.map(({ step }) => step) : []))
    assert.deepEqual(steps, [1, 2, 3, 4])
    const user = market.account(2)
    assert.equal(await market.balance(user), 10n ** 18n - result.feeWei)
    assert.equal(await market.ledgerTotal(user), 3n * 10n ** 18n - result.feeWei)
    assert.ok(result.lineageRoot)
    lineageRoot = result.lineageRoot
  })

  // The same call with the same folder finds everything done.
  test('pays nothing twice', async () => {
    const before = await market.ledgerTotal(market.account(2))
    const { result } = await tune(2, { datasetPath: 'not looked at', folder, storage })
    assert.equal(result.id, id)
    assert.equal(await market.ledgerTotal(market.account(2)), before)
  })

  // The record that was stored links dataset, base, recipe, checkpoints, adapter and artefact; a changed file breaks its
  // link, and the others hold.
  test('leaves a record whose every link holds', async () => {
    const bytes = await fetchBytes(storage, {
      root: lineageRoot,
      scratch: join(market.folder, 'l.json'),
      maxBytes: 1e6,
    })
    assert.deepEqual(new Uint8Array(bytes), new Uint8Array(readFileSync(join(folder, 'lineage.json'))))
    await using wallet = await FineTuningWallet.open({
      ...{ rpcUrls: [market.anvil.url], contract: market.contracts.fineTuning, account: market.account(2) },
    })
    const reader = () => wallet.reader(provider.address)
    const files = { base: market.model.path, adapter: join(folder, 'adapter.gguf') }
    const { lineage, links } = await verifyLineage({ bytes, root: lineageRoot, reader, storage, files })
    assert.deepEqual(
      links.filter(({ state }) => state !== 'holds'),
      [],
    )
    assert.deepEqual(
      lineage.record.checkpoints.map(({ step }) => step),
      [2, 4],
    )
    assert.equal(lineage.record.recipe.rank, 2)
    assert.equal(lineage.record.scores.steps, 4)
    const wrong = { bytes, root: lineageRoot, reader, storage, files: { ...files, adapter: market.model.path } }
    const broken = (await verifyLineage(wrong)).links.filter(({ state }) => state === 'broken')
    assert.deepEqual(
      broken.map(({ name }) => name),
      ['adapter'],
    )
  })

  // Whoever has an artefact's root alone finds its record by the tag on the chain; somebody else's record with the same tag,
  // later or of another artefact, is passed over.
  test('leaves a record that is found from the artefact', async () => {
    const { record, signature } = decodeLineage(readFileSync(join(folder, 'lineage.json')))
    const { root } = record.artefact
    const [forged, junk] = [Buffer.from(`{"record":{},"signature":"${signature}"}`), Buffer.from('tagged junk')]
    for (const bytes of [forged, junk]) await storage.putRecord(bytes, { tag: root as Hash })
    for (const asked of [root as Hash, lineageRoot]) {
      const found = await findLineage({ storage, root: asked, folder: market.folder })
      assert.equal(found.root, lineageRoot)
      assert.deepEqual(Buffer.from(found.bytes), readFileSync(join(folder, 'lineage.json')))
    }
    const junkRoot = await storage.putRecord(Buffer.from('no record, and none of it'), { tag: lineageRoot })
    await assert.rejects(findLineage({ storage, root: junkRoot, folder: market.folder }), hasCode('LINEAGE_FORMAT'))
  })

  // Dataset, settings, fee, log and curve are the owner's; others learn an id and its progress.
  test('shows what is private to its owner alone', async () => {
    const stranger = market.account(3)
    const owner = market.account(2)
    const path = `${provider.url}/v1/user/${owner.address}/task`
    const nowMs = Date.now()
    const token = await encodeSessionToken({ signer: stranger, provider: provider.address, nowMs, generation: 0 })
    for (const what of [`/${id}/log`, `/${id}/curve`, `/${id}/lineage`, `/${id}`, '']) {
      const response = await fetch(`${path}${what}`, { headers: { authorization: `Bearer ${token}` } })
      assert.equal(response.status, 403, what)
    }
    for (const what of [`/${id}/curve`, `/${id}/lineage`])
      assert.equal((await fetch(`${path}${what}`)).status, 401, what)
    const seen = (await (await fetch(`${path}/${id}`)).json()) as Record<string, string>
    assert.equal(seen.progress, 'Finished')
    assert.deepEqual([seen.datasetHash, seen.trainingParams, seen.fee, seen.lineageRoot], ['', '', '0', undefined])
    assert.doesNotMatch(await (await fetch(`${path}/${id}/log`)).text(), /loss|dataset/)
    assert.match(await apiOf(owner).log(id), /loss/)
    const elsewhere = await fetch(`${provider.url}/v1/user/${stranger.address}/task/${id}`)
    assert.equal(elsewhere.status, 404)
    await assert.rejects(
      apiOf(stranger).fetchArtefact({ id, to: join(market.folder, 'x'), maxBytes: 1e6 }),
      hasCode('TASK_UNKNOWN'),
    )
  })
})

describe('what goes wrong costs nothing', () => {
  // The error names the line; nothing is deposited for a dataset that cannot be used.
  for (const [what, text, code] of [
    ['a broken line', `${line('red')}\n{"messages": [}\n`, 'TRAINER_DATASET_LINE'],
    ['no examples', '\n\n', 'TRAINER_DATASET_EMPTY'],
    ['an empty file', '', 'DATASET_LIMIT'],
    ['too many bytes', `${line('x'.repeat(100))}\n`.repeat(200), 'DATASET_LIMIT'],
  ] as const) {
    test(`a dataset with ${what} is refused before anything is paid`, async () => {
      await assert.rejects(tune(4, { datasetPath: dataset(text) }), hasCode(code))
      await assert.rejects(market.ledgerTotal(market.account(4)), /LedgerNotExists/)
    })
  }

  // A task that was created with such a dataset all the same fails with the same code.
  test('a task with a broken dataset fails with its reason', async () => {
    const user = market.account(4)
    await market.fund(user, '1')
    const failed = await reaches({ api: apiOf(user), id: await createPlain(user, 'no json\n'), progress: 'Failed' })
    assert.equal(failed.failure?.code, 'TRAINER_DATASET_LINE')
    assert.equal(await market.balance(user), 10n ** 18n)
  })

  // A trainer that names as its result what is none is found out before anything is delivered, and nothing is charged.
  for (const mark of ['NO_ADAPTER', 'MISSING_FILE', 'ELSEWHERE', 'OTHER_BYTES']) {
    test(`a result with ${mark} is not delivered`, async () => {
      const user = market.account(4)
      const id = await createPlain(user, `${line(mark)}\n${line('red')}\n`)
      const failed = await reaches({ api: apiOf(user), id, progress: 'Failed' })
      assert.equal(failed.failure?.code, 'TRAINER_PROTOCOL')
      assert.match(failed.failure?.message ?? '', /cannot be delivered/)
      assert.equal(await market.balance(user), 10n ** 18n)
    })
  }

  // A full disk holds a task up and does not end it: once there is room it goes on, and costs what it would have cost.
  test('a full disk is waited for', async () => {
    const user = market.account(4)
    const id = await createPlain(user, `${line('FULL_DISK')}\n${line('red')}\n`)
    const api = apiOf(user)
    await until(async () => (await api.log(id)).includes('TRAINER_WRITE'), 'the disk is full')
    assert.equal(await market.balance(user), 10n ** 18n)
    writeFileSync(join(config.dataDir, 'tasks', id, 'room'), '')
    const { fee } = await reaches({ api, id, progress: 'Delivered' })
    assert.equal((await api.curve(id, 0)).length, 4)
    await market.call(user, market.contracts.fineTuning, 'acknowledgeDeliverable', [provider.address, id])
    await reaches({ api, id, progress: 'Finished' })
    assert.equal(await market.balance(user), 10n ** 18n - BigInt(fee))
  })

  // A base model that is exchanged under a running provider is not trained on: the record would name another. Put back, it
  // is as before.
  test('an exchanged base model takes no tasks', async () => {
    const user = market.account(4)
    const before = await market.balance(user)
    const honest = readFileSync(market.model.path)
    const other = Buffer.from(honest)
    other.writeFloatLE(0.5, other.length - 8)
    writeFileSync(market.model.path, other)
    try {
      const failed = await reaches({
        api: apiOf(user),
        id: await createPlain(user, `${line('red')}\n`),
        progress: 'Failed',
      })
      assert.equal(failed.failure?.code, 'MODEL_CHANGED')
      assert.equal(await market.balance(user), before)
      await assert.rejects(tune(9, { datasetPath: dataset(`${line('red')}\n`) }), hasCode('MODEL_CHANGED'))
    } finally {
      writeFileSync(market.model.path, honest)
    }
    const datasetHash = await apiOf(user).sendDataset(Buffer.from(`${line('red')}\n`))
    const preTrainedModelHash = (await apiOf(user).models())[0]?.hash as Hash
    const quote = await apiOf(user).quote({ datasetHash, preTrainedModelHash, trainingParams: parameters() })
    assert.ok(quote.trainedTokens > 0)
  })

  // A loss that is no number, or a trainer that dies again and again, ends the task with its reason, and nothing is
  // charged.
  for (const [index, mark, code] of [
    [5, 'NAN_LOSS', 'TRAINER_LOSS'],
    [6, 'CRASH', 'TRAINER_CRASHED'],
  ] as const) {
    test(`${code} fails the task, and nothing is charged`, async () => {
      const isOfTask = (error: unknown) =>
        hasCode('TASK_FAILED')(error) && error instanceof WeightlessError && error.details.reason === code
      await assert.rejects(tune(index, { datasetPath: dataset(`${line(mark)}\n${line('red')}\n`) }), isOfTask)
      assert.equal(await market.ledgerTotal(market.account(index)), 3n * 10n ** 18n)
    })
  }

  // A wrong architecture or tokenizer is found when the provider starts: nobody can pay for it. With an external trainer the
  // architecture is that trainer's matter; tokens are counted here all the same.
  test('a base model that cannot be trained is refused at the start', async () => {
    const bytes = readFileSync(market.model.path)
    const changed = (name: string, after: string, from: string, to: string): string => {
      const copy = Buffer.from(bytes)
      copy.write(to, copy.indexOf(from, copy.indexOf(after) + after.length))
      const path = join(market.folder, name)
      writeFileSync(path, copy)
      return path
    }
    const cut = join(market.folder, 'cut.gguf')
    writeFileSync(cut, bytes.subarray(0, 5_000))
    const bpe = changed('bpe.gguf', 'tokenizer.ggml.model', 'llama', 'gpt-2')
    const other = changed('other.gguf', 'general.architecture', 'llama', 'xlama')
    const { trainer } = config
    for (const [path, code, parts] of [
      [other, 'TRAINER_ARCHITECTURE', {}],
      [bpe, 'TRAINER_TOKENIZER', {}],
      [bpe, 'TRAINER_TOKENIZER', { trainer }],
      [cut, 'TRAINER_BASE', {}],
      [cut, 'TRAINER_BASE', { trainer }],
    ] as const) {
      const dataDir = join(market.folder, `refused-${folders++}`)
      const own = market.config({ models: [{ ...config.models[0], path }], dataDir, ...parts })
      await assert.rejects(market.start(own), hasCode(code), `${path} ${JSON.stringify(parts)}`)
    }
    const broken = await openModels(market.config({ models: [{ ...config.models[0], path: other }], trainer })).then(
      () => undefined,
      (error: unknown) => error,
    )
    assert.ok(hasCode('TRAINER_BASE')(broken), 'it names no context under its own name')
  })

  // One trains, one waits and knows its place; the waiting one can be cancelled, by its owner alone.
  test('a waiting task shows its place and can be cancelled', async () => {
    const [first, second] = [join(market.folder, 'slow'), join(market.folder, 'waiting')]
    const running = tune(7, { datasetPath: dataset(`${line('SLOW')}\n`), folder: first })
    running.catch(() => undefined)
    await until(async () => existsSync(join(first, 'task.json')), 'it is agreed')
    const owner = apiOf(market.account(7))
    await until(
      async () => (await owner.task(stateOf(first).id).catch(() => undefined))?.progress === 'Training',
      'it trains',
    )
    const waiting = tune(8, { datasetPath: dataset(`${line('blue')}\n${line('red')}\n`), folder: second })
    waiting.catch(() => undefined)
    const other = apiOf(market.account(8))
    const seen = await until(async () => {
      const task = existsSync(join(second, 'task.json'))
        ? await other.task(stateOf(second).id).catch(() => undefined)
        : undefined
      return task?.progress === 'SetUp' ? task : undefined
    }, 'it waits')
    assert.equal(seen.queuePosition, 1)
    assert.ok((seen.estimatedSeconds ?? 0) > 0)
    await assert.rejects(owner.cancel(seen.id), hasCode('TASK_UNKNOWN'))
    await assert.rejects(owner.cancel(stateOf(first).id), hasCode('TASK_NOT_READY'))
    await other.cancel(seen.id)
    await assert.rejects(
      waiting,
      (error: unknown) => error instanceof WeightlessError && error.details.reason === 'TASK_CANCELLED',
    )
    assert.equal(await market.balance(market.account(8)), 10n ** 18n)
    writeFileSync(join(config.dataDir, 'tasks', stateOf(first).id, 'go'), '')
    await assert.rejects(running, hasCode('TASK_FAILED'))
  })
})

// What is quoted follows what is trained: a task that ends before its first pass costs less than the pass, one that goes on
// beyond it costs more, and a pass costs the tokens of the dataset.
test('steps are priced by what they train on', async () => {
  const api = apiOf(market.account(2))
  const text = Array.from({ length: 12 }, (_, i) => `${line(['red', 'green', 'blue'][i % 3] ?? '')}\n`).join('')
  const datasetHash = await api.sendDataset(Buffer.from(text))
  const [model] = await api.models()
  const quote = async (maxSteps: number) =>
    await api.quote({
      ...{ datasetHash, preTrainedModelHash: (model?.hash ?? '0x') as Hash },
      trainingParams: parameters({ max_steps: maxSteps }),
    })
  const [pass, one, many] = [await quote(-1), await quote(1), await quote(40)]
  assert.equal(pass.trainedTokens, pass.tokens)
  for (const each of [pass, one, many]) assert.equal(BigInt(each.fee), BigInt(each.trainedTokens) * PRICE_WEI)
  assert.ok(one.trainedTokens < pass.tokens && one.trainedTokens > 0)
  assert.ok(many.trainedTokens > 4 * pass.tokens)
  assert.ok(Math.abs(many.trainedTokens - 40 * one.trainedTokens) <= 40)
})

test('unknown tasks and models are told', async () => {
  const api = apiOf(market.account(2))
  await assert.rejects(api.task(randomUUID()), hasCode('TASK_UNKNOWN'))
  await assert.rejects(tune(2, { datasetPath: dataset(line('x')), base: 'nothing' }), hasCode('MODEL_UNKNOWN'))
  const missing: Hex = `0x${'12'.repeat(32)}`
  const [model] = await api.models()
  const quote = { datasetHash: missing, preTrainedModelHash: (model?.hash ?? '') as Hash, trainingParams: parameters() }
  await assert.rejects(api.quote(quote), hasCode('DATASET_UNKNOWN'))
})

/** Runs a command in this process; what it printed and its exit code. */
async function weightless(...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const said = { stdout: '', stderr: '' }
  stdout.on('data', (chunk: Buffer) => {
    said.stdout += chunk.toString()
  })
  stderr.on('data', (chunk: Buffer) => {
    said.stderr += chunk.toString()
  })
  const env = {
    ...{ WEIGHTLESS_PRIVATE_KEY: DEV_ACCOUNTS[9]?.privateKey ?? '', HOME: market.folder },
    WEIGHTLESS_FINE_TUNING: market.contracts.fineTuning,
  }
  const io = createIo({ argv, env, cwd: market.folder, stdin: Readable.from([]), stdout, stderr })
  const program = new Command()
  finetuneCommand.register(program, io)
  modelCommand.register(program, io)
  addGlobalOptions(program)
  try {
    await program.parseAsync(argv, { from: 'user' })
  } finally {
    io.dispose()
  }
  return { code: io.exitCode, ...said }
}

describe('the command line', () => {
  const network = () => ['--rpc', market.anvil.url, '--node', node.url]
  let root: string

  // One command from the price to a chat with the result, the curve on the way; a second one verifies where it came from.
  test('goes from a dataset to a chat, and tells where the model comes from', async () => {
    const path = dataset(['red', 'green', 'blue', 'red'].map((c) => `${line(c)}\n`).join(''))
    const options = ['--base', market.model.path, '--steps', '3', '--out', 'tuned', '--yes', '--ask', 'What colour?']
    const { stdout, stderr } = await weightless('finetune', path, ...options, ...network())
    assert.match(stderr, /4 examples, \d+ tokens, 3 steps: 0\.\d+ and no more/)
    assert.match(stderr, /step \d+ {2}loss/)
    assert.match(stderr, /acknowledged/)
    assert.match(stdout, /adapter {2}.*tuned\/adapter.gguf/)
    root = /model show (0x[0-9a-f]{64})/.exec(stdout)?.[1] ?? ''
    const shown = await weightless('model', 'show', root, '--dataset', path, '--base', market.model.path, ...network())
    assert.equal(shown.code, 0)
    assert.match(shown.stdout, /ok +deliverable/)
    assert.match(shown.stdout, /ok +dataset/)
    assert.match(shown.stdout, /scores +3 steps/)
    assert.doesNotMatch(shown.stdout, /BROKEN/)
    const artefact = /artefact +(0x[0-9a-f]{64})/.exec(shown.stdout)?.[1] ?? ''
    const byArtefact = await weightless('model', 'show', artefact, '--json', ...network())
    assert.equal((JSON.parse(byArtefact.stdout) as { root: string }).root, root)
  })

  test('says which link is broken, and fails', async () => {
    const shown = await weightless('model', 'show', root, '--adapter', market.model.path, '--json', ...network())
    const answer = JSON.parse(shown.stdout) as { verified: boolean; links: { name: string; state: string }[] }
    assert.equal(answer.verified, false)
    assert.deepEqual(
      answer.links.filter(({ state }) => state === 'broken').map(({ name }) => name),
      ['adapter'],
    )
    assert.notEqual(shown.code, 0)
  })

  test('pays nothing where nobody agrees', async () => {
    const path = dataset(`${line('red')}\n`)
    const declined = weightless('finetune', path, '--base', MODEL, '--out', 'other', ...network())
    await assert.rejects(declined, hasCode('CLI_USAGE'))
    assert.equal(existsSync(join(market.folder, 'other', 'task.json')), false)
  })
})
