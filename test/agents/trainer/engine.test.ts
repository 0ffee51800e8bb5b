import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { getLlama, LlamaLogLevel, type Token } from 'node-llama-cpp'
import { writeOutput } from '#compute/trainer/checkpoint.ts'
import { TrainerError } from '#compute/trainer/error.ts'
import { initialAdapter, zerosLike } from '#compute/trainer/initial-weights.ts'
import { mergeAdapter } from '#compute/trainer/merge-adapter.ts'
import { seededRandom } from '#compute/trainer/random.ts'
import { openSession } from '#compute/trainer/session.ts'
import { loraGguf } from '#protocol/gguf/lora.ts'
import { writeGguf } from '#protocol/gguf/write.ts'
import { tinyModel } from './tiny-model.ts'

describe('what the trainer writes', () => {
  // Base, base with adapter, and merged model have in llama.cpp the loss that the trainer computed for them.
  it('means the same to llama.cpp', async () => {
    await using model = await tinyModel()
    const { config, weights } = model
    const random = seededRandom(1)
    const adapter = initialAdapter({ config, rank: 4, seed: 2 })
    for (const [name, { data }] of Object.entries(adapter)) {
      if (name.endsWith('.b')) for (const i of data.keys()) data[i] = 0.2 * random.normal()
    }
    const lora = { alpha: 8, weights: adapter }
    const adapterPath = join(model.folder, 'adapter.gguf')
    await writeOutput({ path: adapterPath, data: writeGguf(loraGguf({ config, lora, name: 'a' })) })
    const mergedPath = join(model.folder, 'merged.gguf')
    await mergeAdapter({ basePath: model.path, adapterPath, outputPath: mergedPath, type: 'F32' })
    const misfit = mergeAdapter({ basePath: model.path, adapterPath: model.path, outputPath: mergedPath })
    await assert.rejects(misfit, (error) => error instanceof TrainerError && error.code === 'TRAINER_BASE')

    const tokens = Int32Array.from({ length: 25 }, (_, i) => (i === 0 ? 1 : 7 + random.below(config.vocab - 7)))
    const positions = tokens.length - 1
    const batch = {
      rows: 1,
      rowTokens: positions,
      ids: tokens.slice(0, -1),
      targets: tokens.slice(1),
      weights: new Float32Array(positions).fill(1),
      segments: new Int32Array(positions).fill(1),
    }
    const optimiser = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0, clipNorm: 1 }
    const lossHere = async (adapterScale: number | undefined): Promise<number> => {
      const trained = adapterScale === undefined ? weights : adapter
      const state = { trained, m: zerosLike(trained), v: zerosLike(trained) }
      const session = await openSession({ config, base: weights, state, adapterScale, optimiser })
      const loss = await session.evaluate([batch])
      session.close()
      return loss
    }
    const [base, adapted] = [await lossHere(undefined), await lossHere(lora.alpha / 4)]
    assert.ok(Math.abs(base - adapted) > 0.01, 'the adapter changes something')

    assertClose(await lossInEngine({ modelPath: model.path, tokens }), base)
    assertClose(await lossInEngine({ modelPath: model.path, adapterPath, tokens }), adapted)
    assertClose(await lossInEngine({ modelPath: mergedPath, tokens }), adapted)
  })
})

function assertClose(engine: number, trainer: number): void {
  assert.ok(Math.abs(engine - trainer) < 1e-4, `llama.cpp ${engine}, trainer ${trainer}`)
}

/** Mean cross-entropy of each token after those before it, from llama.cpp's logits. */
async function lossInEngine({
  modelPath,
  adapterPath,
  tokens,
}: {
  modelPath: string
  adapterPath?: string
  tokens: Int32Array
}): Promise<number> {
  const llama = await getLlama({ gpu: false, build: 'never', maxThreads: 1, logLevel: LlamaLogLevel.error })
  const model = await llama.loadModel({ modelPath })
  try {
    const context = await model.createContext({
      contextSize: 64,
      threads: 1,
      flashAttention: false,
      experimentalKvCacheKeyType: 'F32',
      experimentalKvCacheValueType: 'F32',
      ...(adapterPath === undefined ? {} : { lora: adapterPath }),
    })
    const input = Array.from(tokens.subarray(0, -1), (token) => {
      return [token as Token, { generateNext: { logits: true, totalLogitWeight: true } }] as const
    })
    const outputs = await context.getSequence().controlledEvaluate(input as never)
    let loss = 0
    for (const [i, output] of outputs.entries()) {
      const logits = output?.next.logits
      const target = logits?.get(tokens[i + 1] as Token)
      assert.ok(logits !== undefined && target !== undefined)
      const values = [...logits.values()]
      const largest = Math.max(...values)
      loss += largest + Math.log(values.reduce((sum, x) => sum + Math.exp(x - largest), 0)) - target
    }
    return loss / outputs.length
  } finally {
    await model.dispose()
    await llama.dispose()
  }
}
