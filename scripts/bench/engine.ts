import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getLlama, type Token } from 'node-llama-cpp'
import { createLlamaEngine } from '#compute/engines/llama-engine.ts'
import { parseCompletionRequest } from '#compute/engines/requests.ts'
import { WeightlessError } from '#protocol/error.ts'
import { writeGgufFile } from '#scripts/model/random.ts'
import { randomModel } from '#scripts/model/random-model.ts'
import type { BenchContext } from './context.ts'
import { openProviderEndpoint } from './engine-provider.ts'

/** Requests at the same time, for each of which a figure is given. */
const SEQUENCES = [1, 8]
const CONTEXT_TOKENS = 1024
const PROMPT_TOKENS = 24
/** Prompts tried, at most, to find some with long answers. */
const MAX_CANDIDATES = 1_000

/** Something that answers greedily. Opened for one model file; what it does until a request is answered is measured. */
interface TokenEndpoint {
  /** Continues a prompt of token ids at temperature 0. */
  generate(request: { prompt: readonly number[]; maxTokens: number; signal: AbortSignal }): Promise<TokenAnswer>
  close(): Promise<void>
}

/** What an endpoint wrote. */
export interface TokenAnswer {
  tokens: number
  text: string
}

/** Opens an endpoint that serves the model with so many sequences and one thread. */
type OpenEndpoint = (model: ServedFile) => Promise<TokenEndpoint>

interface ServedFile {
  path: string
  sequences: number
  contextTokens: number
}

/** The endpoints gave not the same text, or too little (code `BENCH_TOKENS`): their speeds cannot be compared. */
export class TokensDifferError extends WeightlessError {}

/** Measured in this order, taking turns. */
const ENDPOINTS: Readonly<Record<'direct' | 'layer' | 'provider', OpenEndpoint>> = {
  direct: openDirectEndpoint,
  layer: openLayerEndpoint,
  provider: openProviderEndpoint,
}
type EndpointName = keyof typeof ENDPOINTS
const NAMES = Object.keys(ENDPOINTS) as EndpointName[]

/**
 * `engine.tokens-ratio`: tokens per second that a client reads from a whole provider (HTTP, session token, charge, stream);
 * the peer is node-llama-cpp called directly with as many sequences in one context. They write the same text, in rounds in
 * which they take turns, and the best of each counts. The figure is the worse of one and eight requests at a time; both
 * stand in its detail, and so does the engine layer alone with its child process (`layer`).
 */
export async function bench({ quick, signal, report, note }: BenchContext): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'weightless-engine-bench-'))
  try {
    const path = join(folder, 'random.gguf')
    // Of the demo model's size, with random weights: the demo model's own answers end after a few tokens, and beginning and
    // end of an answer would be measured instead of its tokens.
    await writeGgufFile({ path, content: randomModel() })
    const maxTokens = 128
    const rounds = quick ? 6 : 30
    const detail: Record<string, unknown> = { model: 'random weights', maxTokens, rounds }
    let worst = { provider: 0, direct: 1, ratio: Number.POSITIVE_INFINITY }
    for (const sequences of SEQUENCES) {
      const endpoints = await openAll({ path, sequences, contextTokens: CONTEXT_TOKENS })
      try {
        const prompts = await longPrompts({ endpoint: endpoints.direct, count: sequences, maxTokens, signal })
        const best = await bestRates({ endpoints, prompts, maxTokens, rounds, signal })
        const ratio = best.provider / best.direct
        const layerRatio = best.layer / best.direct
        note(
          `${sequences} at a time: ${Math.round(best.provider)} tokens/s, library ${Math.round(best.direct)}, ` +
            `ratio ${ratio.toFixed(3)} (engine layer ${layerRatio.toFixed(3)})`,
        )
        detail[`sequences${sequences}`] = {
          ...{ tokensPerSecond: Math.round(best.provider), library: Math.round(best.direct) },
          ...{ layer: Math.round(best.layer), ratio: thousandths(ratio), layerRatio: thousandths(layerRatio) },
        }
        if (ratio < worst.ratio) worst = { ...best, ratio }
      } finally {
        await closeAll(endpoints)
      }
    }
    report({
      ...{ name: 'engine.tokens-ratio', value: worst.provider, unit: 'tokens/s' },
      ...{ peer: 'node-llama-cpp called directly', peerValue: worst.direct, ratio: worst.ratio, detail },
    })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

type Endpoints = Record<EndpointName, TokenEndpoint>

async function openAll(model: ServedFile): Promise<Endpoints> {
  const opened: Partial<Endpoints> = {}
  try {
    for (const name of NAMES) opened[name] = await ENDPOINTS[name](model)
    return opened as Endpoints
  } catch (error) {
    await closeAll(opened)
    throw error
  }
}

async function closeAll(endpoints: Partial<Endpoints>): Promise<void> {
  for (const endpoint of Object.values(endpoints)) await endpoint.close()
}

/** The engine layer. */
async function openLayerEndpoint({ path, sequences, contextTokens }: ServedFile): Promise<TokenEndpoint> {
  const engine = await createLlamaEngine({
    ...{ modelPath: path, sequences, contextTokens, threads: 1, gpu: false, promptCache: false, embeddings: false },
  })
  return {
    async generate({ prompt, maxTokens, signal }) {
      const request = parseCompletionRequest({ prompt, max_tokens: maxTokens, temperature: 0 })
      const answer = { tokens: 0, text: '' }
      for await (const event of engine.complete(request, { signal })) {
        if (event.type === 'end') answer.tokens = event.usage.completionTokens
        if (event.type === 'chunk') for (const { text = '' } of event.choices) answer.text += text
      }
      return answer
    },
    close: () => engine.close(),
  }
}

/** The library without anything around it: one context, a sequence per request, text at the end. */
async function openDirectEndpoint({ path, sequences, contextTokens }: ServedFile): Promise<TokenEndpoint> {
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
      const text = model.detokenize(output, false, prompt.slice(-4) as Token[])
      free.push(sequence)
      return { tokens: output.length, text }
    },
    close: () => llama.dispose(),
  }
}

async function bestRates({ endpoints, prompts, maxTokens, rounds, signal }: BestRatesParameters) {
  const best: Record<EndpointName, number> = { direct: 0, layer: 0, provider: 0 }
  for (let round = 0; round < rounds; round++) {
    let expected: string | undefined
    for (const name of NAMES) {
      signal.throwIfAborted()
      const start = performance.now()
      const answers = await Promise.all(
        prompts.map((prompt) => endpoints[name].generate({ prompt, maxTokens, signal })),
      )
      const seconds = (performance.now() - start) / 1000
      const written = JSON.stringify(answers)
      expected ??= written
      if (written !== expected) {
        throw new TokensDifferError({ code: 'BENCH_TOKENS', message: `${name} wrote another text than the library` })
      }
      // The first round warms all up.
      const tokens = answers.reduce((sum, answer) => sum + answer.tokens, 0)
      if (round > 0) best[name] = Math.max(best[name], tokens / seconds)
    }
  }
  return best
}

interface BestRatesParameters {
  endpoints: Endpoints
  prompts: readonly (readonly number[])[]
  maxTokens: number
  rounds: number
  signal: AbortSignal
}

/** Prompts that the model answers at full length. Which these are is found by asking. */
async function longPrompts({ endpoint, count, maxTokens, signal }: LongPromptsParameters): Promise<number[][]> {
  const found: number[][] = []
  for (let candidate = 0; candidate < MAX_CANDIDATES && found.length < count; candidate++) {
    const prompt = Array.from({ length: PROMPT_TOKENS }, (_, at) =>
      at === 0 ? 1 : 270 + ((candidate * 31 + at * 17) % 200),
    )
    if ((await endpoint.generate({ prompt, maxTokens, signal })).tokens === maxTokens) found.push(prompt)
  }
  if (found.length === count) return found
  throw new TokensDifferError({ code: 'BENCH_TOKENS', message: `no ${count} prompts are answered at full length` })
}

interface LongPromptsParameters {
  endpoint: TokenEndpoint
  count: number
  maxTokens: number
  signal: AbortSignal
}

function thousandths(value: number): number {
  return Math.round(value * 1000) / 1000
}
