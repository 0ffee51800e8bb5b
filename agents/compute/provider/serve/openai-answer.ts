import type { EngineUsage, OpenAiStreamChoice } from '#compute/engines/engine.ts'

/** Which of the two generating routes. */
export type AnswerKind = 'chat' | 'completion'

export interface AnswerHead {
  kind: AnswerKind
  id: string
  model: string
  createdS: number
}

/** Text before the choices of a streamed chunk: the same for every chunk of an answer. */
export function chunkPrefix({ kind, id, model, createdS }: AnswerHead): string {
  const object = kind === 'chat' ? 'chat.completion.chunk' : 'text_completion'
  const head = JSON.stringify({ id: bodyId(kind, id), object, created: createdS, model })
  return `${head.slice(0, -1)},"choices":`
}

/** The chunk that ends a stream with what it used. */
export function usageChunk(prefix: string, usage: EngineUsage): string {
  return `${prefix}[],"usage":${JSON.stringify(usageJson(usage))}}`
}

/** `usage` as OpenAI has it. */
export function usageJson({ promptTokens, completionTokens, cachedTokens }: EngineUsage) {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  }
}

/** The id in the body: clients that use it instead of the header find the signature with it too. */
export function bodyId(kind: AnswerKind, id: string): string {
  return `${kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${id}`
}

interface ToolCall {
  id: string
  type: 'function'
  function: { name: string; arguments: string }
}

interface Choice {
  text: string
  extra: Record<string, unknown>
  toolCalls: ToolCall[]
  content: unknown[]
  refusal: unknown[]
  completionLogprobs: Record<string, unknown[]> | undefined
  hasLogprobs: boolean
  finishReason: string | null
}

/** Choices an answer may have; also the largest index looked at. */
const MAX_CHOICES = 128
const MAX_TOOL_CALLS = 256

/** Gathers the chunks of an answer into one body. */
export class AnswerBuilder {
  readonly #head: AnswerHead
  readonly #choices = new Map<number, Choice>()

  constructor(head: AnswerHead) {
    this.#head = head
  }

  add(choices: readonly OpenAiStreamChoice[]): void {
    for (const { index, delta, text, finish_reason: finish, logprobs } of choices) {
      if (!Number.isInteger(index) || index < 0 || index >= MAX_CHOICES) continue
      const choice = this.#choice(index)
      choice.text += delta?.content ?? text ?? ''
      for (const [field, value] of Object.entries(delta ?? {})) {
        if (field === 'content' || field === 'role' || field === 'tool_calls') continue
        const before = choice.extra[field]
        choice.extra[field] = typeof before === 'string' && typeof value === 'string' ? before + value : value
      }
      for (const call of delta?.tool_calls ?? []) addToolCall(choice.toolCalls, call)
      addLogprobs(choice, logprobs)
      if (finish !== null && finish !== undefined) choice.finishReason = finish
    }
  }

  /** The whole body. `finishReason` is for choices that the engine gave none. */
  json(usage: EngineUsage, finishReason: string): string {
    if (this.#choices.size === 0) this.#choice(0)
    const { kind, id, model, createdS } = this.#head
    const choices = [...this.#choices]
      .sort(([a], [b]) => a - b)
      .map(([index, choice]) => ({
        index,
        ...(kind === 'chat' ? { message: message(choice) } : { text: choice.text }),
        logprobs: logprobsOf(choice),
        finish_reason: choice.finishReason ?? finishReason,
      }))
    const object = kind === 'chat' ? 'chat.completion' : 'text_completion'
    return JSON.stringify({
      ...{ id: bodyId(kind, id), object, created: createdS, model, choices, usage: usageJson(usage) },
    })
  }

  #choice(index: number): Choice {
    const known = this.#choices.get(index)
    if (known !== undefined) return known
    const lists = { toolCalls: [], content: [], refusal: [] }
    const fresh: Choice = {
      ...{ text: '', extra: {}, ...lists, completionLogprobs: undefined, hasLogprobs: false, finishReason: null },
    }
    this.#choices.set(index, fresh)
    return fresh
  }
}

function message({ text, extra, toolCalls }: Choice): Record<string, unknown> {
  const content = text === '' && toolCalls.length > 0 ? null : text
  return {
    ...{ role: 'assistant', content, refusal: null, ...extra },
    ...(toolCalls.length === 0 ? {} : { tool_calls: toolCalls }),
  }
}

function addToolCall(
  calls: ToolCall[],
  part: { index: number; id?: string; function?: { name?: string; arguments?: string } },
): void {
  if (!Number.isInteger(part.index) || part.index < 0 || part.index >= MAX_TOOL_CALLS) return
  while (calls.length <= part.index) calls.push({ id: '', type: 'function', function: { name: '', arguments: '' } })
  const call = calls[part.index]
  if (call === undefined) return
  call.id += part.id ?? ''
  call.function.name += part.function?.name ?? ''
  call.function.arguments += part.function?.arguments ?? ''
}

/** Chats have `content` and `refusal` lists; completions have parallel lists by name. */
function addLogprobs(choice: Choice, logprobs: unknown): void {
  if (typeof logprobs !== 'object' || logprobs === null) return
  choice.hasLogprobs = true
  const content: unknown = Reflect.get(logprobs, 'content')
  const refusal: unknown = Reflect.get(logprobs, 'refusal')
  if (Array.isArray(content)) choice.content.push(...content)
  if (Array.isArray(refusal)) choice.refusal.push(...refusal)
  if ('content' in logprobs || 'refusal' in logprobs) return
  choice.completionLogprobs ??= {}
  for (const [name, list] of Object.entries(logprobs)) {
    if (!Array.isArray(list)) continue
    const gathered = choice.completionLogprobs[name] ?? []
    gathered.push(...list)
    choice.completionLogprobs[name] = gathered
  }
}

function logprobsOf({ hasLogprobs, completionLogprobs, content, refusal }: Choice): unknown {
  if (!hasLogprobs) return null
  return completionLogprobs ?? { content, refusal: refusal.length === 0 ? null : refusal }
}
