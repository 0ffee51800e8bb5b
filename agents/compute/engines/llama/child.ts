import { getModuleVersion } from 'node-llama-cpp'
import { EngineError } from '../engine-error.ts'
import type { ChatRequest, CompletionRequest } from '../requests.ts'
import { generate } from './generate.ts'
import { grammarOf } from './grammar.ts'
import { LoadedModel, tooLong } from './loaded-model.ts'
import type { FromChild, PlainError, ToChild } from './messages.ts'
import { Outbox } from './outbox.ts'
import { planSampling, unsupported } from './plan.ts'
import { ToolText } from './tool-calls.ts'

/**
 * The process that holds the model: what crashes llama.cpp ends this process alone. Speaks `ToChild` and `FromChild` with its
 * parent, and ends when the parent does.
 */
if (process.send === undefined) throw new Error('this file is run by the llama engine')

const send = (message: FromChild): void => {
  process.send?.(message)
}
const outbox = new Outbox((replies) => send({ type: 'replies', replies }))
const running = new Map<number, AbortController>()
/** Adapters of requests that answer within a grammar, by request. */
const bound = new Map<number, string>()
let loaded: LoadedModel | undefined

process.on('disconnect', () => process.exit(0))
// A sampler that fails rejects a promise of the library that nobody holds, and its request never ends: where a model
// gives no numbers, and a grammar allows none of what is drawn. The process cannot go on; it says first whose that may be.
process.on('unhandledRejection', (error) => {
  process.stderr.write(`${String(error).slice(0, 500)}\n`)
  const message: FromChild = { type: 'suspects', adapters: [...new Set(bound.values())] }
  process.send?.(message, () => process.exit(1))
})
process.on('message', (message: ToChild) => {
  void receive(message)
})

async function receive(message: ToChild): Promise<void> {
  if (message.type === 'load') return await load(message)
  if (message.type === 'abort') {
    running.get(message.id)?.abort()
    return
  }
  const abort = new AbortController()
  running.set(message.id, abort)
  try {
    await answer(message, abort.signal)
  } catch (error) {
    // An aborted request is told too, so that nothing is remembered of it; nobody listens any more.
    outbox.push({ id: message.id, type: 'error', error: plain(error) })
  } finally {
    running.delete(message.id)
    bound.delete(message.id)
  }
}

async function load({ options }: Extract<ToChild, { type: 'load' }>): Promise<void> {
  try {
    loaded = await LoadedModel.load(options, (level, text) => send({ type: 'log', level, text: text.slice(0, 2000) }))
    send({ type: 'loaded', info: loaded.info(`node-llama-cpp ${await getModuleVersion()}`) })
  } catch (error) {
    send({ type: 'failed', error: plain(error) })
  }
}

async function answer(message: Exclude<ToChild, { type: 'load' | 'abort' }>, signal: AbortSignal): Promise<void> {
  if (loaded === undefined) throw new EngineError({ code: 'ENGINE_LOAD', message: 'no model is loaded' })
  const { id } = message
  switch (message.type) {
    case 'chat':
      return await chat(loaded, message, signal)
    case 'complete':
      return await complete(loaded, message, signal)
    case 'embed':
      return await embed(loaded, message, signal)
    case 'adapter':
      await loaded.setAdapter(message)
      return outbox.push({ id, type: 'done' })
    case 'unload':
      await loaded.unloadAdapter(message.name)
      return outbox.push({ id, type: 'done' })
  }
}

async function chat(model: LoadedModel, message: ChatMessage, signal: AbortSignal): Promise<void> {
  const { id, adapter } = message
  const request: ChatRequest = message.request
  if (model.chat === undefined) throw unsupported('messages', 'the model has no chat template; use completions')
  model.refuseHopeless(request.messages.flatMap(({ content }) => textsOf(content)))
  const prompt = model.chat.tokens(request)
  const grammar = await grammarOf(model.llama, request)
  if (grammar !== undefined && adapter !== undefined) bound.set(id, adapter)
  const logprobs = request.logprobs ? (request.topLogprobs ?? 0) : undefined
  const plan = planSampling(request, { hasGrammar: grammar !== undefined, logprobs })
  const tools = request.tools !== undefined && request.toolChoice !== 'none' ? new ToolText(request.tools) : undefined
  await generate({ id, loaded: model, adapter, request, prompt, plan, grammar, tools, reply, signal })
}

async function complete(model: LoadedModel, message: CompleteMessage, signal: AbortSignal): Promise<void> {
  const { id, adapter } = message
  const request: CompletionRequest = message.request
  if (request.echo) throw unsupported('echo', 'the prompt is not repeated')
  if (typeof request.prompt === 'string') model.refuseHopeless([request.prompt])
  const prompt = typeof request.prompt === 'string' ? model.promptTokens(request.prompt) : [...request.prompt]
  const vocabulary = model.model.fileInfo.metadata.tokenizer?.ggml.tokens?.length ?? Number.POSITIVE_INFINITY
  if (prompt.some((token) => token >= vocabulary)) throw unsupported('prompt', 'a token id is none of this model')
  const plan = planSampling(request, { hasGrammar: false, logprobs: request.logprobs })
  const parts = { loaded: model, adapter, request, prompt, plan, grammar: undefined, tools: undefined }
  await generate({ id, ...parts, reply, signal })
}

async function embed(model: LoadedModel, { id, inputs }: EmbedMessage, signal: AbortSignal): Promise<void> {
  if (!model.options.embeddings) throw unsupported('input', 'embeddings are turned off')
  outbox.push({ id, type: 'started' })
  const vectors: number[][] = []
  let promptTokens = 0
  for (const input of inputs) {
    signal.throwIfAborted()
    if (input.length === 0) throw tooLong(0, model.contextTokens)
    const { vector, tokens } = await model.embed(input)
    vectors.push(vector)
    promptTokens += tokens
  }
  outbox.push({ id, type: 'vectors', vectors, promptTokens })
}

function textsOf(content: ChatRequest['messages'][number]['content']): string[] {
  if (typeof content === 'string') return [content]
  return (content ?? []).map(({ text }) => text ?? '')
}

type ChatMessage = Extract<ToChild, { type: 'chat' }>
type CompleteMessage = Extract<ToChild, { type: 'complete' }>
type EmbedMessage = Extract<ToChild, { type: 'embed' }>

function reply(message: Parameters<Outbox['push']>[0]): void {
  outbox.push(message)
}

function plain(error: unknown): PlainError {
  if (error instanceof EngineError) {
    const { code, message, fix, details } = error
    return { code, message, fix, details: { ...details } }
  }
  const text = error instanceof Error ? error.message : String(error)
  return { code: 'ENGINE_CRASHED', message: `llama.cpp failed: ${text.slice(0, 500)}`, fix: 'try again' }
}
