import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import { exampleEncoder } from '#compute/trainer/chat-format.ts'
import { datasetLimits, readDataset } from '#compute/trainer/dataset.ts'
import { TrainerError, type TrainerErrorCode } from '#compute/trainer/error.ts'
import { packRows, rowSequence, rowTokensFor, type TokenExample } from '#compute/trainer/packing.ts'
import { Tokenizer } from '#protocol/gguf/tokenizer.ts'
import { trainVocabulary } from '#protocol/gguf/train-vocabulary.ts'

let folder: string
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightless-dataset-'))
})
after(() => rm(folder, { recursive: true, force: true }))

const failsWith = (code: TrainerErrorCode, line?: number) => (error: unknown) =>
  error instanceof TrainerError && error.code === code && (line === undefined || error.details.line === line)

async function dataset(content: string | Uint8Array): Promise<string> {
  const path = join(folder, 'dataset.jsonl')
  await writeFile(path, content)
  return path
}

describe('a dataset', () => {
  // The three forms of a line are read; line ends and empty lines do not matter.
  it('holds conversations, pairs and text', async () => {
    const path = await dataset(
      '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\r\n\n' +
        '{"prompt":"p","completion":"c","extra":1}\n{"text":"t"}',
    )
    const { examples } = await readDataset({ path })
    assert.deepEqual(examples, [
      {
        kind: 'chat',
        messages: [
          { role: 'user', content: 'a' },
          { role: 'assistant', content: 'b' },
        ],
      },
      {
        kind: 'chat',
        messages: [
          { role: 'user', content: 'p' },
          { role: 'assistant', content: 'c' },
        ],
      },
      { kind: 'text', text: 't' },
    ])
  })

  // A broken line is named by its number.
  it('names the line that is wrong', async () => {
    const broken = [
      'nonsense',
      '7',
      '{}',
      '{"text":""}',
      '{"text":5}',
      '{"prompt":"p"}',
      '{"messages":[]}',
      '{"messages":[{"role":"user","content":"a"}]}',
      '{"messages":[{"role":"king","content":"a"}]}',
    ]
    for (const line of broken) {
      const path = await dataset(`{"text":"fine"}\n${line}\n`)
      await assert.rejects(readDataset({ path }), failsWith('TRAINER_DATASET_LINE', 2), line)
    }
  })

  // Bytes that are no text, nothing at all, and too much of anything are refused.
  it('has limits', async () => {
    const latin = await dataset(Uint8Array.of(0x7b, 0xff, 0x0a))
    await assert.rejects(readDataset({ path: latin }), failsWith('TRAINER_DATASET_LINE'))
    await assert.rejects(readDataset({ path: join(folder, 'missing') }), failsWith('TRAINER_DATASET_EMPTY'))
    await assert.rejects(readDataset({ path: await dataset('') }), failsWith('TRAINER_DATASET_EMPTY'))
    const path = await dataset('{"text":"one"}\n{"text":"two"}\n')
    for (const limit of [{ maxBytes: 20 }, { maxLineBytes: 10 }, { maxExamples: 1 }]) {
      const reading = readDataset({ path, limits: { ...datasetLimits, ...limit } })
      await assert.rejects(reading, failsWith('TRAINER_DATASET_SIZE'), JSON.stringify(limit))
    }
  })
})

describe('examples in tokens', () => {
  const tokenizer = new Tokenizer(trainVocabulary({ texts: ['hello there you are welcome'], size: 300 }))
  const encoder = exampleEncoder(tokenizer)

  // Only what the assistant says, its end included, is learned; markers inside content stay text.
  it('weigh the completion alone', () => {
    const messages = [
      { role: 'user', content: 'hello </s><|assistant|> there' } as const,
      { role: 'assistant', content: 'you are' } as const,
    ]
    const [example] = encoder.encode({ kind: 'chat', messages }, { promptWeight: 0, rowTokens: 64 })
    assert.ok(example !== undefined)
    const learned = [...example.tokens].filter((_, i) => (example.weights[i] ?? 0) > 0)
    assert.equal(tokenizer.decode(learned, { special: true }), 'you are</s>')
    const ends = [...example.tokens].filter((token) => token === tokenizer.vocabulary.eos)
    assert.equal(ends.length, 2, 'the marker in the content is not a token')
  })

  // Text of any length is cut into rows, and every token but the first is asked for exactly once.
  it('cut text to rows', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 8, max: 20 }), (words, rowTokens) => {
        const text = Array(words).fill('hello').join(' ')
        const pieces = encoder.encode({ kind: 'text', text }, { promptWeight: 0, rowTokens })
        const { bos, eos } = tokenizer.vocabulary
        const asked = pieces.flatMap(({ tokens }) => [...tokens.subarray(1)])
        assert.deepEqual([bos, ...asked], [bos, ...tokenizer.encode(text), eos])
        assert.ok(pieces.every(({ tokens }) => tokens.length <= rowTokens + 1))
      }),
    )
  })
})

describe('packed rows', () => {
  const examples = fc.array(
    fc.integer({ min: 2, max: 17 }).map(
      (length): TokenExample => ({
        tokens: Int32Array.from({ length }, (_, i) => 1000 * length + i),
        weights: new Float32Array(length).fill(1),
      }),
    ),
    { minLength: 1, maxLength: 60 },
  )

  // Whatever is packed: each example stands in exactly one row, whole, in a segment of its own.
  it('hold every example once', () => {
    fc.assert(
      fc.property(examples, fc.nat(), (list, seed) => {
        const rowTokens = rowTokensFor(list)
        const rows = packRows({ examples: list, rowTokens, seed })
        const { ids, targets, segments } = rows.batch(Array.from({ length: rows.count }, (_, i) => i))
        const found: string[] = []
        for (let at = 0; at < ids.length; at++) {
          const starts = segments[at] !== 0 && (at % rowTokens === 0 || segments[at - 1] !== segments[at])
          if (!starts) continue
          const tokens = [ids[at]]
          for (let i = at; i < (Math.floor(at / rowTokens) + 1) * rowTokens && segments[i] === segments[at]; i++) {
            tokens.push(targets[i])
          }
          found.push(tokens.join())
        }
        assert.deepEqual(found.sort(), list.map(({ tokens }) => tokens.join()).sort())
      }),
    )
  })

  // A pass takes every row once, and the order depends on the seed and the index alone.
  it('come in an order that can be taken up anywhere', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), fc.nat(), (count, seed) => {
        const rowAt = rowSequence({ count, seed })
        const two = Array.from({ length: 2 * count }, (_, i) => rowAt(i))
        for (const pass of [two.slice(0, count), two.slice(count)]) {
          assert.deepEqual(
            pass.toSorted((a, b) => a - b),
            Array.from({ length: count }, (_, i) => i),
          )
        }
        const resumed = rowSequence({ count, seed })
        assert.equal(resumed(2 * count - 1), two.at(-1))
        assert.equal(resumed(0), two[0])
      }),
    )
  })

  // Rows without anything to learn are an error, not a division by zero.
  it('must have something to learn', () => {
    const idle = { tokens: Int32Array.of(1, 2), weights: new Float32Array(2) }
    assert.throws(() => packRows({ examples: [idle], rowTokens: 32, seed: 0 }), failsWith('TRAINER_DATASET_EMPTY'))
    assert.throws(() => packRows({ examples: [], rowTokens: 32, seed: 0 }), failsWith('TRAINER_DATASET_EMPTY'))
  })
})
