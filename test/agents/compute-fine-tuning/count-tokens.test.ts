import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fineTuningConfigSchema } from '#compute/fine-tuning/main.ts'
import { openModels } from '#compute/fine-tuning/models.ts'
import { openEngineTokenizer } from '#compute/fine-tuning/work/engine-tokenizer.ts'
import { prepareDataset } from '#compute/fine-tuning/work/prepare.ts'
import { readBaseTokenizer } from '#compute/trainer/base-model.ts'
import { type ExampleTokenizer, exampleEncoder } from '#compute/trainer/chat-format.ts'
import { readDataset } from '#compute/trainer/dataset.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { GgufMetadata } from '#protocol/gguf/layout.ts'
import { writeGguf } from '#protocol/gguf/write.ts'
import { type TinyModel, tinyDataset, tinyModel } from '../trainer/tiny-model.ts'

const hasCode = (code: string) => (error: unknown) => error instanceof WeightlessError && error.code === code
const limits = { maxBytes: 1e6, limitMs: 60_000 }

let folder: string
let model: TinyModel
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'count-'))
  model = await tinyModel()
})
after(async () => {
  rmSync(folder, { recursive: true, force: true })
  await model?.[Symbol.asyncDispose]()
})

/** The signs by which byte-level BPE writes the 256 bytes. */
function byteSigns(): string[] {
  let next = 256
  const isPrintable = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte < 256 && byte !== 173)
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPrintable(byte) ? byte : next++))
}

/** The vocabulary of a model of another architecture, with another kind of tokenizer; no weights. */
function otherModel(path: string, { chatTemplate }: { chatTemplate: string }): void {
  const specials = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']
  const tokens = [...byteSigns(), 're', 'red', ...specials]
  const metadata: GgufMetadata = {
    'general.architecture': { type: 'string', value: 'qwen2' },
    'qwen2.context_length': { type: 'u32', value: 512 },
    'tokenizer.ggml.model': { type: 'string', value: 'gpt2' },
    'tokenizer.ggml.pre': { type: 'string', value: 'qwen2' },
    'tokenizer.ggml.tokens': { type: 'array', of: 'string', value: tokens },
    'tokenizer.ggml.token_type': { type: 'array', of: 'i32', value: tokens.map((t) => (specials.includes(t) ? 3 : 1)) },
    'tokenizer.ggml.merges': { type: 'array', of: 'string', value: ['r e', 're d'] },
    'tokenizer.ggml.eos_token_id': { type: 'u32', value: tokens.indexOf('<|im_end|>') },
    'tokenizer.chat_template': { type: 'string', value: chatTemplate },
  }
  writeFileSync(path, writeGguf({ metadata, tensors: [] }))
}

describe('tokens of a dataset', () => {
  // Where an external trainer does the work, the base may be of any architecture and tokenizer that llama.cpp reads: its
  // tokens are counted exactly. The own trainer refuses the same file.
  test('are counted for models that only another trainer knows', async () => {
    const path = join(folder, 'other.gguf')
    otherModel(path, { chatTemplate: '{# <|im_start|> and <|im_end|> #}' })
    const from = join(folder, 'data.jsonl')
    writeFileSync(from, '{"prompt": "red", "completion": "red!"}\n{"text": "redred"}\n')
    const counted = await prepareDataset({ basePath: path, from, to: join(folder, 'out.jsonl'), own: false, ...limits })
    // <|im_end|> stands in for a beginning; then <|im_start|> user \n, red, <|im_end|> \n; the answer likewise, with a sign
    // more and "assistant" for "user". The text: beginning, red twice, end.
    const [begin, turn, user, assistant] = [1, 4, 'user'.length, 'assistant'.length]
    assert.equal(counted.tokens, begin + (turn + user + 1) + (turn + assistant + 2) + 4)
    assert.deepEqual([counted.examples, counted.rows], [2, 1])
    otherModel(path, { chatTemplate: 'one that nobody knows' })
    const unknown = await prepareDataset({ basePath: path, from, to: join(folder, 'out.jsonl'), own: false, ...limits })
    assert.equal(unknown.tokens, counted.tokens)
    const own = prepareDataset({ basePath: path, from, to: join(folder, 'out.jsonl'), own: true, ...limits })
    await assert.rejects(own, hasCode('TRAINER_TOKENIZER'))
    const models = [{ name: 'other', path }]
    const chain = { fineTuning: `0x${'1'.repeat(40)}` }
    const open = (trainer: object) => openModels(fineTuningConfigSchema.parse({ models, chain, trainer }))
    assert.equal((await open({ command: ['/bin/true'] })).byName('other').name, 'other')
    await assert.rejects(open({}), hasCode('TRAINER_ARCHITECTURE'))
  })

  // Both readers give the same tokens where both can read.
  test('are those that the trainer sees', async () => {
    const { examples } = await readDataset({ path: await tinyDataset({ folder, count: 9 }) })
    const own = await readBaseTokenizer(model.path)
    await using engine = await openEngineTokenizer(model.path)
    assert.equal(engine.context, own.context)
    const tokensOf = (tokenizer: ExampleTokenizer) =>
      [...examples, { kind: 'text', text: 'The ball is red.\nÄ {"x": 1}' } as const].flatMap((example) =>
        exampleEncoder(tokenizer)
          .encode(example, { promptWeight: 0, rowTokens: 64 })
          .map(({ tokens }) => [...tokens]),
      )
    assert.deepEqual(tokensOf(engine.tokenizer), tokensOf(own.tokenizer))
  })
})
