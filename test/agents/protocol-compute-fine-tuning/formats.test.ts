import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { privateKeyToAccount } from 'viem/accounts'
import { readArchive, writeArchive } from '#protocol/compute/fine-tuning/archive.ts'
import {
  ARTEFACT_CHUNK_BYTES,
  ARTEFACT_HEADER_BYTES,
  ARTEFACT_TAG_BYTES,
  artefactChunks,
  artefactDigest,
  openChunk,
  sealChunk,
  verifyArtefactSignature,
} from '#protocol/compute/fine-tuning/artefact.ts'
import { FineTuningFormatError } from '#protocol/compute/fine-tuning/error.ts'
import { taskFeeWei, trainedTokens } from '#protocol/compute/fine-tuning/fee.ts'
import { decodeLineage, encodeLineage, type Lineage, signLineage } from '#protocol/compute/fine-tuning/lineage.ts'
import { parseCreateTask, parseTrainingParameters } from '#protocol/compute/fine-tuning/task.ts'
import { fromHex, type Hex } from '#protocol/hex.ts'
import { DEV_ACCOUNTS } from '../../chain.ts'

const signer = privateKeyToAccount(DEV_ACCOUNTS[2]?.privateKey as Hex)
const fails = (code: string) => (error: unknown) => error instanceof FineTuningFormatError && error.code === code
const hash = (digit: string): Hex => `0x${digit.repeat(64)}`

describe('encrypted artefacts', () => {
  const key = new Uint8Array(randomBytes(32))
  // The counter runs over the end of the iv's last byte.
  const iv = new Uint8Array(12).fill(0xff)

  test('open chunk by chunk in their place, with their key', () => {
    const plain = new Uint8Array(randomBytes(1_000))
    const sealed = [0, 1, 257].map((index) => {
      const { body, tag } = sealChunk({ key, iv, index, plain })
      return { index, sealed: Buffer.concat([body, tag]) }
    })
    for (const { index, sealed: chunk } of sealed) {
      assert.deepEqual(new Uint8Array(openChunk({ key, iv, index, sealed: chunk })), plain)
      assert.throws(() => openChunk({ key, iv, index: index + 1, sealed: chunk }), fails('ARTEFACT_KEY'))
      assert.throws(() => openChunk({ key: randomBytes(32), iv, index, sealed: chunk }), fails('ARTEFACT_KEY'))
    }
  })

  test('have chunks of 64 MiB and a last one, or are cut short', () => {
    const whole = ARTEFACT_CHUNK_BYTES + ARTEFACT_TAG_BYTES
    const sizes = (size: number) => artefactChunks(size).map(({ sizeBytes }) => sizeBytes)
    assert.deepEqual(sizes(ARTEFACT_HEADER_BYTES + 17), [17])
    assert.deepEqual(sizes(ARTEFACT_HEADER_BYTES + whole), [whole])
    assert.deepEqual(sizes(ARTEFACT_HEADER_BYTES + whole + 20), [whole, 20])
    for (const size of [0, 76, ARTEFACT_HEADER_BYTES + 16, ARTEFACT_HEADER_BYTES + whole + 3]) {
      assert.throws(() => artefactChunks(size), fails('ARTEFACT_FORMAT'), `${size} bytes`)
    }
  })

  // Signatures count with v 0/1 and 27/28, by the named signer alone.
  test('carry the signature of their provider', async () => {
    const tags = [new Uint8Array(randomBytes(16)), new Uint8Array(randomBytes(16))]
    const signature = fromHex(await signer.sign({ hash: artefactDigest(tags) }))
    const zeroBased = Uint8Array.from(signature)
    zeroBased[64] = (zeroBased[64] ?? 0) - 27
    for (const form of [signature, zeroBased])
      verifyArtefactSignature({ signer: signer.address, signature: form, tags })
    const wrong = { signer: signer.address, signature, tags: [...tags].reverse() }
    assert.throws(() => verifyArtefactSignature(wrong), fails('ARTEFACT_SIGNATURE'))
    const nothing = { signer: signer.address, signature: new Uint8Array(65), tags }
    assert.throws(() => verifyArtefactSignature(nothing), fails('ARTEFACT_SIGNATURE'))
  })
})

describe('archives', () => {
  test('give back what was put in, whatever it is', () => {
    const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,20}$/)
    const files = fc.array(fc.record({ name, data: fc.uint8Array({ maxLength: 300 }) }, { noNullPrototype: true }), {
      minLength: 1,
      maxLength: 5,
    })
    fc.assert(fc.property(files, (some) => assert.deepEqual(readArchive(writeArchive(some)), some)))
  })

  test('are refused when damaged, cut short or with a folder in a name', () => {
    const archive = writeArchive([{ name: 'a.txt', data: new Uint8Array(100).fill(7) }])
    const damaged = Uint8Array.from(archive)
    damaged[50] = 8
    const folder = Uint8Array.from(archive)
    folder[31] = '/'.charCodeAt(0)
    for (const bad of [damaged, folder, archive.subarray(0, 60), archive.subarray(0, 3), new Uint8Array(0)]) {
      assert.throws(() => readArchive(bad), fails('ARCHIVE_FORMAT'))
    }
  })
})

describe('tasks', () => {
  const good = {
    ...{ neftune_noise_alpha: 5, num_train_epochs: 1, per_device_train_batch_size: 2 },
    ...{ learning_rate: 0.0002, max_steps: -1 },
  }
  const text = (changes: object) => JSON.stringify({ ...good, ...changes })

  test('take exactly the five settings, within their limits, in decimal notation', () => {
    assert.deepEqual(parseTrainingParameters(JSON.stringify(good)), good)
    const bad = [
      ...['', '[]', '{}', text({ more: 1 }), text({ num_train_epochs: 11 }), text({ num_train_epochs: 1.5 })],
      ...[text({ learning_rate: 0.1 }), text({ max_steps: 0 }), text({ neftune_noise_alpha: -1 })],
      ...[text({ per_device_train_batch_size: 5 }), text({ learning_rate: undefined })],
      text({}).replace('0.0002', '2e-4'),
    ]
    for (const each of bad) assert.throws(() => parseTrainingParameters(each), fails('TASK_PARAMETERS'), each)
  })

  test('name the field that is wrong', () => {
    const task = {
      ...{ userAddress: signer.address, datasetHash: hash('a'), trainingParams: '{}', preTrainedModelHash: hash('B') },
      ...{ fee: '0', nonce: '17', signature: `0x${'0'.repeat(130)}`, wait: true },
    }
    assert.equal(parseCreateTask(task).preTrainedModelHash, hash('b'))
    for (const field of ['userAddress', 'datasetHash', 'nonce', 'signature']) {
      const isField = (error: unknown) =>
        fails('TASK_FORMAT')(error) && Reflect.get(error as object, 'details').field === field
      assert.throws(() => parseCreateTask({ ...task, [field]: 'x' }), isField, field)
    }
  })

  // The fee is the tokens that are trained on at the price, rounded up, and the storage.
  test('cost what their tokens cost', () => {
    const common = { trainedTokens: 3_003, pricePerTokenWei: 7n, storageFeeWei: 11n }
    assert.equal(taskFeeWei(common), 3_003n * 7n + 11n)
    assert.equal(taskFeeWei({ ...common, coefficientMilli: 1 }), 22n + 11n)
  })

  // Passes count whole; steps count the rows that they take, so that ending early costs less and going on costs more.
  test('count passes, or steps where they are named', () => {
    const common = { tokens: 1_001, rows: 20, epochs: 3, rowsPerStep: 4, maxSteps: -1 }
    assert.equal(trainedTokens(common), 3 * 1_001)
    assert.equal(trainedTokens({ ...common, maxSteps: 15 }), 3 * 1_001, '15 steps are the same three passes')
    assert.equal(trainedTokens({ ...common, maxSteps: 1 }), Math.ceil((4 / 20) * 1_001))
    assert.equal(trainedTokens({ ...common, maxSteps: 1_000_000 }), 200_000 * 1_001)
  })
})

describe('lineage', () => {
  const record: Lineage = {
    format: 'weightless-lineage-1',
    task: {
      id: 'x',
      user: `0x${'1'.repeat(40)}`,
      provider: `0x${'2'.repeat(40)}`,
      chainId: 1,
      contract: `0x${'3'.repeat(40)}`,
    },
    dataset: { root: hash('1'), keccak256: hash('2'), sizeBytes: 10, examples: 1, tokens: 5 },
    base: { name: 'tiny', root: hash('3'), sizeBytes: 100 },
    recipe: { rank: 8, targets: ['q'] },
    seed: 1,
    trainer: { name: 'weightless', version: '1', digest: hash('4') },
    checkpoints: [{ step: 5, root: hash('5') }],
    adapter: { root: hash('6'), sizeBytes: 7 },
    artefact: { root: hash('7'), sizeBytes: 8, kind: 'storage' },
    scores: { steps: 5, loss: 1.5, heldOutLoss: 1.6, learnedTokens: 4 },
    finishedAtS: 1,
    signer: signer.address.toLowerCase() as Hex,
  }

  // A record reads back as it was written, whatever the order of its fields was; any change to it is found.
  test('is the same bytes for the same record, and no change passes', async () => {
    const signed = await signLineage({ record, signer })
    const bytes = encodeLineage(signed)
    const turned = Object.fromEntries(Object.entries(record).reverse()) as Lineage
    assert.deepEqual(encodeLineage(await signLineage({ record: turned, signer })), bytes)
    assert.deepEqual(decodeLineage(bytes), signed)
    const text = new TextDecoder().decode(bytes)
    const changed = new TextEncoder().encode(text.replace('"loss":1.5', '"loss":1.4'))
    assert.throws(() => decodeLineage(changed), fails('LINEAGE_SIGNATURE'))
    for (const bad of ['', '{}', text.replace('"seed"', '"sed"'), 'x'.repeat(300_000)]) {
      assert.throws(() => decodeLineage(new TextEncoder().encode(bad)), fails('LINEAGE_FORMAT'))
    }
  })
})
