import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ChunkEvent, EndEvent, Engine, EngineEvent, PromptEvent } from '#compute/engines/engine.ts'
import { parseChatRequest, parseCompletionRequest } from '#compute/engines/requests.ts'
import { writeGgufFile } from '#scripts/model/random.ts'
import { type RandomModelParameters, randomModel } from '#scripts/model/random-model.ts'

/** A small model in a folder of its own. */
export async function writeRandomModel(parameters: RandomModelParameters = {}): Promise<TestModel> {
  const folder = await mkdtemp(join(tmpdir(), 'weightless-engine-'))
  const path = join(folder, 'random.gguf')
  const model = randomModel({ ...parameters, config: { layers: 2, context: 512, ...parameters.config } })
  await writeGgufFile({ path, content: model })
  return { path, folder, model, remove: () => rm(folder, { recursive: true, force: true }) }
}

export interface TestModel {
  path: string
  folder: string
  model: ReturnType<typeof randomModel>
  remove: () => Promise<void>
}

/** All that an engine said to one request. */
export interface Said {
  events: EngineEvent[]
  chunks: ChunkEvent[]
  prompt: PromptEvent
  end: EndEvent
  text: string
}

/** Collects the events of an answer and checks their order. */
export async function collect(events: AsyncIterable<EngineEvent>): Promise<Said> {
  const all: EngineEvent[] = []
  for await (const event of events) all.push(event)
  const chunks = all.filter((event) => event.type === 'chunk')
  const prompts = all.filter((event) => event.type === 'prompt')
  const [prompt] = prompts
  const end = all.at(-1)
  assert.equal(prompts.length, 1, 'one prompt event')
  assert.ok(prompt !== undefined && end?.type === 'end', 'the last event is the end')
  const text = chunks.map(({ choices }) => choices[0]?.delta?.content ?? choices[0]?.text ?? '').join('')
  return { events: all, chunks, prompt, end, text }
}

/** A signal that ends a test which hangs. */
export const patience = () => AbortSignal.timeout(30_000)

/** Asks a chat and collects the answer. */
export function ask(engine: Engine, content: string, body: object = {}, signal = patience()): Promise<Said> {
  return collect(
    engine.chat(parseChatRequest({ messages: [{ role: 'user', content }], max_tokens: 24, ...body }), { signal }),
  )
}

/** Completes a text and collects the answer. */
export function continueText(engine: Engine, prompt: string | number[], body: object = {}): Promise<Said> {
  return collect(engine.complete(parseCompletionRequest({ prompt, max_tokens: 24, ...body }), { signal: patience() }))
}
