import {
  type ControlledEvaluateInputItem,
  type LlamaContextSequence,
  type LlamaGrammar,
  LlamaGrammarEvaluationState,
  type SequenceEvaluateOptions,
  type Token,
  TokenBias,
} from 'node-llama-cpp'
import { type Candidate, sampleToken, TOP_CANDIDATES } from '#protocol/sampling/sample.ts'
import type { SamplingRequest } from '../requests.ts'
import { GRAMMAR_END } from './grammar.ts'
import { JsonEnd } from './json-end.ts'
import { type LoadedModel, tooLong } from './loaded-model.ts'
import type { Reply, TokenLogprob, ToolCall } from './messages.ts'
import type { SamplingPlan } from './plan.ts'
import { TokenText } from './token-text.ts'
import type { ToolText } from './tool-calls.ts'

export interface GenerateParameters {
  id: number
  loaded: LoadedModel
  adapter: string | undefined
  request: SamplingRequest
  prompt: readonly number[]
  plan: SamplingPlan
  grammar: LlamaGrammar | undefined
  tools: ToolText | undefined
  reply: (reply: Reply) => void
  signal: AbortSignal
}

/**
 * Answers one request on one sequence: reads what of the prompt is not in its cache, then chooses token after token. Requests
 * that run at the same time share batches. The sequence is given back whatever happens.
 *
 * @throws EngineError `ENGINE_CONTEXT` and those of `LoadedModel.acquire`; the signal's reason
 */
export async function generate(parameters: GenerateParameters): Promise<void> {
  const { id, loaded, adapter, prompt, reply, signal } = parameters
  if (prompt.length === 0 || prompt.length >= loaded.contextTokens) throw tooLong(prompt.length, loaded.contextTokens)
  const { pool, sequence } = await loaded.acquire(adapter, prompt, signal)
  let isSound = false
  try {
    reply({ id, type: 'started' })
    const cachedTokens = await alignCache(sequence, prompt, loaded.options.promptCache)
    reply({ id, type: 'prompt', tokenIds: prompt, cachedTokens })
    const answer = new Answer(parameters, cachedTokens)
    if (parameters.plan.isSampledHere) await sampleHere(sequence, answer, cachedTokens)
    else await sampleThere(sequence, answer, cachedTokens)
    isSound = true
    signal.throwIfAborted()
    answer.end()
  } finally {
    if (!isSound && !sequence.disposed) await sequence.clearHistory().catch(() => undefined)
    pool.release(sequence)
  }
}

/** Leaves in the sequence's cache the beginning that it shares with the prompt, the last token excepted. */
async function alignCache(sequence: LlamaContextSequence, prompt: readonly number[], keeps: boolean): Promise<number> {
  if (!keeps) {
    await sequence.clearHistory()
    return 0
  }
  await sequence.adaptStateToTokens(prompt.slice(0, -1) as Token[], false)
  return sequence.nextTokenIndex
}

/** llama.cpp chooses the tokens. */
async function sampleThere(sequence: LlamaContextSequence, answer: Answer, cachedTokens: number): Promise<void> {
  const { prompt, signal } = answer.parameters
  const tokens = prompt.slice(cachedTokens) as Token[]
  for await (const { token } of sequence.evaluateWithMetadata(tokens, {}, answer.samplerOptions())) {
    if (signal.aborted || !answer.take(token)) return
  }
}

/** Logits of the best tokens come here and are sampled with noise that others can repeat. */
async function sampleHere(sequence: LlamaContextSequence, answer: Answer, cachedTokens: number): Promise<void> {
  const { prompt, plan, signal } = answer.parameters
  const wantsLogprobs = plan.logprobs !== undefined
  const options = {
    generateNext: {
      logits: { filter: { tokens: [], includeTop: TOP_CANDIDATES } },
      totalLogitWeight: wantsLogprobs,
    },
  }
  const rest = prompt.slice(cachedTokens) as Token[]
  const last = rest.pop()
  if (last === undefined) return
  let input: ControlledEvaluateInputItem[] = [...rest, [last, options]]
  for (let position = prompt.length - 1; ; position++) {
    const results = await sequence.controlledEvaluate(input)
    const next = results.at(-1)?.next
    const candidates: Candidate[] = []
    for (const [token, logit] of next?.logits ?? []) candidates.push({ token, logit })
    const token = sampleToken({ candidates, position, settings: plan.settings })
    if (token === undefined) throw new Error('llama.cpp gave no logits')
    const logprob = wantsLogprobs ? answer.logprob(token, candidates, next?.totalLogitWeight ?? 1) : undefined
    if (signal.aborted || !answer.take(token, logprob)) return
    input = [[token as Token, options]]
  }
}

/** The growing answer to one request: its tokens, its text, and whether it is complete. */
class Answer {
  readonly parameters: GenerateParameters
  readonly #cachedTokens: number
  readonly #text: TokenText
  readonly #json: JsonEnd | undefined
  readonly #most: number
  readonly #output: number[] = []
  #waiting: number[] = []
  #logprobs: TokenLogprob[] = []
  #finishReason = 'length'

  constructor(parameters: GenerateParameters, cachedTokens: number) {
    const { loaded, prompt, request, grammar } = parameters
    this.parameters = parameters
    this.#cachedTokens = cachedTokens
    const stops = [...(request.stop ?? []), ...(grammar === undefined ? [] : [GRAMMAR_END])]
    this.#text = new TokenText({ decode: loaded.decode, stops, prompt })
    this.#json = grammar === undefined ? undefined : new JsonEnd()
    this.#most = Math.min(request.maxTokens ?? Number.POSITIVE_INFINITY, loaded.contextTokens - prompt.length)
  }

  samplerOptions(): SequenceEvaluateOptions {
    const { loaded, plan, request, grammar } = this.parameters
    const { frequencyPenalty = 0, presencePenalty = 0, topP = 1, minP = 0, logitBias = {} } = request
    const bias = Object.entries(logitBias)
    const tokenBias = TokenBias.for(loaded.model)
    for (const [id, logit] of bias) tokenBias.set(Number(id) as Token, { logit })
    return {
      temperature: plan.settings.temperatureQ16 / 65_536,
      topK: 0,
      topP,
      minP,
      // The library takes 32 bits.
      seed: Number((plan.settings.seed ^ (plan.settings.seed >> 32n)) & 0xffffffffn),
      yieldEogToken: true,
      contextShift: { size: 1 },
      ...(bias.length > 0 ? { tokenBias } : {}),
      ...(grammar === undefined
        ? {}
        : { grammarEvaluationState: new LlamaGrammarEvaluationState({ model: loaded.model, grammar }) }),
      ...(frequencyPenalty === 0 && presencePenalty === 0
        ? {}
        : {
            repeatPenalty: {
              punishTokens: () => this.#output.slice(-1024) as Token[],
              penalty: 1,
              frequencyPenalty,
              presencePenalty,
            },
          }),
    }
  }

  /** Takes a token; false when the answer is complete. */
  take(id: number, logprob?: TokenLogprob): boolean {
    this.#output.push(id)
    this.#waiting.push(id)
    if (logprob !== undefined) this.#logprobs.push(logprob)
    if (this.parameters.loaded.isEnd(id)) {
      this.#finishReason = 'stop'
      return false
    }
    const text = this.#text.push(id)
    const isJsonEnd = text !== '' && this.#json?.push(text) === true
    this.#say(text)
    if (isJsonEnd || this.#text.isStopped) this.#finishReason = 'stop'
    return !isJsonEnd && !this.#text.isStopped && this.#output.length < this.#most
  }

  /** Says the rest and the end. */
  end(): void {
    const { id, tools, plan, prompt, reply } = this.parameters
    this.#say(this.#text.finish())
    let toolCalls: readonly ToolCall[] = []
    if (tools !== undefined) {
      const { text, calls } = tools.finish()
      toolCalls = calls
      this.#piece(text)
    } else this.#piece('')
    const usage = {
      promptTokens: prompt.length,
      completionTokens: this.#output.length,
      cachedTokens: this.#cachedTokens,
    }
    reply({
      id,
      type: 'end',
      finishReason: toolCalls.length > 0 && this.#finishReason === 'stop' ? 'tool_calls' : this.#finishReason,
      toolCalls,
      usage,
      outputTokenIds: this.#output,
      profile: plan.profile,
      settings: plan.settings,
    })
  }

  /** Log probability of a chosen token and of the best: ln softmax of the raw logits. */
  logprob(token: number, candidates: readonly Candidate[], totalWeight: number): TokenLogprob {
    const { loaded, plan } = this.parameters
    const best = Math.max(...candidates.map(({ logit }) => logit))
    const shift = best + Math.log(totalWeight)
    const text = (id: number) => loaded.model.detokenize([id as Token], true)
    const sorted = candidates.toSorted((a, b) => b.logit - a.logit || a.token - b.token)
    return {
      text: text(token),
      logprob: (candidates.find((candidate) => candidate.token === token)?.logit ?? best) - shift,
      top: sorted.slice(0, plan.logprobs).map((candidate) => ({
        text: text(candidate.token),
        logprob: candidate.logit - shift,
      })),
    }
  }

  #say(text: string): void {
    const said = text === '' ? '' : (this.parameters.tools?.push(text) ?? text)
    if (said !== '') this.#piece(said)
  }

  /** Tokens travel with the text that they completed. */
  #piece(text: string): void {
    if (text === '' && this.#waiting.length === 0) return
    const logprobs = this.parameters.plan.logprobs === undefined ? undefined : this.#logprobs
    this.parameters.reply({ id: this.parameters.id, type: 'piece', text, tokenIds: this.#waiting, logprobs })
    this.#waiting = []
    this.#logprobs = []
  }
}
