import { access, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { getLlama, type Token } from 'node-llama-cpp'
import { createLlamaEngine } from '#compute/engines/llama-engine.ts'
import { parseCompletionRequest } from '#compute/engines/requests.ts'
import { WeightlessError } from '#protocol/error.ts'
import { writeGgufFile } from '#scripts/model/random.ts'
import { randomModel } from '#scripts/model/random-model.ts'
import type { BenchContext } from './context.ts'

/** Requests at the same time, for each of which a figure is given. */
const SEQUENCES = [1, 8]
const CONTEXT_TOKENS = 1024
const PROMPT_TOKENS = 24

/** Something that answers greedily. Opened for one model file; what it does until a request is answered is measured. */
export interface TokenEndpoint {
  /** Continues a prompt of token ids at temperature 0 and gives the ids of the answer. */
  generate(request: { prompt: readonly number[]; maxTokens: number; signal: AbortSignal }): Promise<readonly number[]>
  close(): Promise<void>
}

/** Opens an endpoint that serves the model with so many sequences and one thread. */
export type OpenEndpoint = (model: { path: string; sequences: number; contextTokens: number }) => Promise<TokenEndpoint>

/** The endpoint and the library did not give the same tokens (code `BENCH_TOKENS`): their speeds cannot be compared. */
export class TokensDifferError extends WeightlessError {}

/**
 * `engine.tokens-ratio`: tokens per second through the engine layer, its child process included; the peer is
 * node-llama-cpp called directly with as many sequences in one context. Both write the same tokens.
 */
export async function bench(context: BenchContext): Promise<void> {
  await compareTokens(context, { figure: 'engine.tokens-ratio', open: openEngineEndpoint })
}

/**
 * Measures an endpoint against the library, in rounds in which they take turns, and compares the best of each. The figure is
 * the worse of one and eight requests at a time; both stand in its detail.
 *
 * @throws TokensDifferError `BENCH_TOKENS`
 */
export async function compareTokens(context: BenchContext, { figure, open }: CompareTokensParameters): Promise<void> {
  const { quick, signal, report, note } = context
  const folder = await mkdtemp(join(tmpdir(), 'weightless-engine-bench-'))
  try {
    const path = await modelFile(folder)
    const maxTokens = 128
    const rounds = quick ? 6 : 30
    const detail: Record<string, unknown> = { model: path.startsWith(folder) ? 'random' : 'demo', maxTokens, rounds }
    let worst = { ours: 0, direct: 1, ratio: Number.POSITIVE_INFINITY }
    for (const sequences of SEQUENCES) {
      const parameters = { path, sequences, contextTokens: CONTEXT_TOKENS }
      const ours = await open(parameters)
      const direct = await openDirectEndpoint(parameters)
      try {
        const best = await bestRates({ ours, direct, sequences, maxTokens, rounds, signal })
        const ratio = best.ours / best.direct
        const rates = { tokensPerSecond: Math.round(best.ours), library: Math.round(best.direct) }
        note(
          `${sequences} at a time: ${rates.tokensPerSecond} tokens/s, library ${rates.library}, ratio ${ratio.toFixed(3)}`,
        )
        detail[`sequences${sequences}`] = { ...rates, ratio: Math.round(ratio * 1000) / 1000 }
        if (ratio < worst.ratio) worst = { ...best, ratio }
      } finally {
        await ours.close()
        await direct.close()
      }
    }
    report({
      ...{ name: figure, value: worst.ours, unit: 'tokens/s' },
      ...{ peer: 'node-llama-cpp called directly', peerValue: worst.direct, ratio: worst.ratio, detail },
    })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

export interface CompareTokensParameters {
  figure: string
  open: OpenEndpoint
}

/** The engine layer as an endpoint. */
export const openEngineEndpoint: OpenEndpoint = async ({ path, sequences, contextTokens }) => {
  const engine = await createLlamaEngine({
    ...{ modelPath: path, sequences, contextTokens, threads: 1, gpu: false, promptCache: false, embeddings: false },
  })
  return {
    async generate({ prompt, maxTokens, signal }) {
      const request = parseCompletionRequest({ prompt, max_tokens: maxTokens, temperature: 0 })
      for await (const event of engine.complete(request, { signal })) {
        if (event.type === 'end') return event.outputTokenIds ?? []
      }
      return []
    },
    close: () => engine.close(),
  }
}

/** The library without anything around it: one context, a sequence per request, text at the end. */
const openDirectEndpoint: OpenEndpoint = async ({ path, sequences, contextTokens }) => {
  const llama = await getLlama({ gpu: false, build: 'never', maxThreads: 1, progressLogs: false })
  const model = await llama.loadModel({ modelPath: path })
  const context = await model.createContext({ contextSize: contextTokens, sequences, threads: 1 })
  const free = Array.from({ length: sequences }, () => context.getSequence())
  return {
    async generate({ prompt, maxTokens, signal }) {
      const sequence = free.pop()
      if (sequence === undefined) throw new Error('more requests than sequences')
      await sequence.clearHistory()
      const output: Token[] = []
      for await (const token of sequence.evaluate([...prompt] as Token[], { temperature: 0, yieldEogToken: true })) {
        signal.throwIfAborted()
        output.push(token)
        if (output.length >= maxTokens || model.isEogToken(token)) break
      }
      model.detokenize(output)
      free.push(sequence)
      return output
    },
    close: () => llama.dispose(),
  }
}

async function bestRates({ ours, direct, sequences, maxTokens, rounds, signal }: BestRatesParameters) {
  const prompts = Array.from({ length: sequences }, (_, i) =>
    Array.from({ length: PROMPT_TOKENS }, (_, j) => (j === 0 ? 1 : 270 + ((i * 31 + j * 17) % 200))),
  )
  const best = { ours: 0, direct: 0 }
  let expected: string | undefined
  for (let round = 0; round < rounds; round++) {
    for (const [name, endpoint] of [
      ['ours', ours],
      ['direct', direct],
    ] as const) {
      signal.throwIfAborted()
      const start = performance.now()
      const answers = await Promise.all(prompts.map((prompt) => endpoint.generate({ prompt, maxTokens, signal })))
      const seconds = (performance.now() - start) / 1000
      const tokens = answers.reduce((sum, answer) => sum + answer.length, 0)
      const text = answers.map((answer) => answer.join()).join(';')
      expected ??= text
      if (text !== expected) {
        throw new TokensDifferError({
          code: 'BENCH_TOKENS',
          message: 'the endpoint and the library wrote different tokens',
        })
      }
      // The first round warms both up.
      if (round > 0) best[name] = Math.max(best[name], tokens / seconds)
    }
  }
  return best
}

interface BestRatesParameters {
  ours: TokenEndpoint
  direct: TokenEndpoint
  sequences: number
  maxTokens: number
  rounds: number
  signal: AbortSignal
}

/** The demo model where it is there, else one with random weights. */
async function modelFile(folder: string): Promise<string> {
  const demo = fileURLToPath(new URL('../../models/weightless-demo.gguf', import.meta.url))
  const isThere = await access(demo).then(
    () => true,
    () => false,
  )
  if (isThere) return demo
  const path = join(folder, 'random.gguf')
  await writeGgufFile({ path, content: randomModel() })
  return path
}
