import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { Engine } from '#compute/engines/engine.ts'
import { createLlamaEngine, type LlamaEngine } from '#compute/engines/llama-engine.ts'
import { parseChatRequest } from '#compute/engines/requests.ts'
import { createUpstreamEngine } from '#compute/engines/upstream-engine.ts'
import { Tokenizer } from '#protocol/gguf/tokenizer.ts'
import { trainVocabulary } from '#protocol/gguf/train-vocabulary.ts'
import { sampleText } from '#scripts/model/sample-text.ts'
import { ask, continueText, patience, type TestModel, writeRandomModel } from './fixture.ts'
import { type OpenAiServer, serveOpenAi } from './openai-server.ts'

let file: TestModel
let llama: LlamaEngine
let server: OpenAiServer
let upstream: Engine

before(async () => {
  file = await writeRandomModel()
  llama = await createLlamaEngine({ modelPath: file.path, contextTokens: 512 })
  server = await serveOpenAi(llama, { apiKey: 'key' })
  upstream = createUpstreamEngine({ url: server.url, apiKey: 'key', tokenIds: true })
})
after(async () => {
  await upstream?.close()
  await server?.close()
  await llama?.close()
  await file?.remove()
})

const tokenizer = new Tokenizer(trainVocabulary({ texts: [sampleText], size: 512 }))
const prompts = Array.from({ length: 8 }, (_, i) => sampleText.slice(40 * i, 40 * i + 30 + 7 * i))

for (const [name, get] of [
  ['llama', (): Engine => llama],
  ['upstream', (): Engine => upstream],
] as const) {
  describe(`the ${name} engine`, () => {
    // What is streamed, put together, is the text of the output tokens, and the tokens of the chunks are the output tokens.
    it('streams exactly the text of its tokens', async () => {
      for (const body of [{ temperature: 0 }, { seed: 9, temperature: 0.9 }, { seed: 4, temperature: 1, top_p: 0.9 }]) {
        const { text, chunks, end } = await ask(get(), 'Where are you going?', body)
        const ids = chunks.flatMap(({ tokenIds }) => tokenIds)
        assert.deepEqual(ids, end.outputTokenIds)
        assert.equal(text.replaceAll('\uFFFD', ''), tokenizer.decode(ids).replaceAll('\uFFFD', ''))
      }
    })

    // Usage is exact: the prompt as the template renders it, every generated token, of which max_tokens allows so many.
    it('counts every token', async () => {
      const { prompt, end } = await ask(get(), 'Where are you going?', { temperature: 0, max_tokens: 17 })
      const rendered = tokenizer.encode('<s><|user|>Where are you going?</s><|assistant|>', { special: true })
      assert.deepEqual(prompt.promptTokenIds, rendered)
      assert.equal(end.usage.promptTokens, rendered.length)
      assert.equal(end.usage.completionTokens, 17)
      assert.equal(end.outputTokenIds?.length, 17)
      assert.equal(end.finishReason, 'length')
    })

    // The same seed gives the same text alone and among eight at a time; another seed another text.
    it('repeats itself under the same seed, alone and among others', async () => {
      for (const settings of [
        { temperature: 0.8, seed: 7 },
        { temperature: 0.8, seed: 7, top_p: 0.9 },
      ]) {
        const alone = []
        for (const prompt of prompts) alone.push((await ask(get(), prompt, settings)).end.outputTokenIds)
        const together = await Promise.all(prompts.map((prompt) => ask(get(), prompt, settings)))
        assert.deepEqual(
          together.map(({ end }) => end.outputTokenIds),
          alone,
        )
        const other = await ask(get(), prompts[0] ?? '', { ...settings, seed: 8 })
        assert.notDeepEqual(other.end.outputTokenIds, alone[0])
      }
    })

    // Temperature 0 gives the same text every time, alone and among others, and says so.
    it('repeats itself at temperature 0', async () => {
      const greedy = { temperature: 0 }
      const first = await ask(get(), prompts[3] ?? '', greedy)
      const again = await Promise.all([...prompts, prompts[3] ?? ''].map((prompt) => ask(get(), prompt, greedy)))
      assert.deepEqual(again.at(-1)?.end.outputTokenIds, first.end.outputTokenIds)
      assert.equal(first.end.profile, 'greedy')
      assert.equal(first.end.settings.temperatureQ16, 0)
    })

    // The text ends before the stop string, wherever its characters lie in the tokens.
    it('stops before a stop string', async () => {
      const whole = await ask(get(), 'Tell me', { temperature: 0, max_tokens: 60 })
      const printable = /[a-z]{3,}[^a-z\uFFFD]{1,2}[a-z]{2,}/.exec(whole.text.slice(8))?.[0] ?? whole.text.slice(20, 24)
      for (const stop of [printable, printable.slice(1, 4), [printable.slice(1), 'never written']]) {
        const first = typeof stop === 'string' ? stop : (stop[0] ?? '')
        const { text, end } = await ask(get(), 'Tell me', { temperature: 0, max_tokens: 60, stop })
        assert.equal(text, whole.text.slice(0, whole.text.indexOf(first)), JSON.stringify(stop))
        assert.equal(end.finishReason, 'stop')
        assert.equal(end.outputTokenIds?.length, end.usage.completionTokens)
        assert.ok(end.usage.completionTokens < 60)
      }
    })

    // An aborted request ends with the signal's reason, at once, and its place is free again.
    it('ends an aborted request', async () => {
      const abort = new AbortController()
      const reason = new Error('enough')
      const events = get().chat(
        parseChatRequest({ messages: [{ role: 'user', content: 'Tell me' }], temperature: 0, max_tokens: 450 }),
        { signal: abort.signal },
      )
      await assert.rejects(
        async () => {
          for await (const event of events) if (event.type === 'chunk') abort.abort(reason)
        },
        (error) => error === reason,
      )
      const answers = await Promise.all(prompts.map((prompt) => ask(get(), prompt, { temperature: 0, max_tokens: 5 })))
      assert.ok(answers.every(({ end }) => end.usage.completionTokens === 5))
      assert.equal((await get().health()).running, 0)
    })

    // Who stops listening has ended the request.
    it('ends a request that nobody listens to', async () => {
      for await (const event of get().chat(
        parseChatRequest({ messages: [{ role: 'user', content: 'Tell me' }], max_tokens: 450 }),
        { signal: patience() },
      )) {
        if (event.type === 'chunk') break
      }
      const deadline = Date.now() + 10_000
      while (Date.now() < deadline && (await llama.health()).running > 0)
        await new Promise((resolve) => setTimeout(resolve, 5))
      assert.equal((await llama.health()).running, 0)
      assert.equal((await get().health()).running, 0)
    })

    it('refuses an aborted signal', async () => {
      await assert.rejects(ask(get(), 'x', {}, AbortSignal.abort(new Error('before'))), /before/)
    })

    // A prompt that does not fit is refused before anything is generated; one that nearly fits is answered in what is left.
    it('refuses a prompt that is too long', async () => {
      await assert.rejects(ask(get(), 'a river '.repeat(400)), { code: 'ENGINE_CONTEXT' })
      await assert.rejects(ask(get(), 'a river '.repeat(400_000)), { code: 'ENGINE_CONTEXT' })
      const { end } = await continueText(
        get(),
        Array.from({ length: 500 }, (_, i) => 280 + (i % 90)),
        { max_tokens: 100, temperature: 0 },
      )
      assert.ok(end.usage.promptTokens + end.usage.completionTokens <= 512)
      assert.equal(end.finishReason, 'length')
    })

    it('completes text and tokens alike', async () => {
      const text = 'The river begins as a'
      const first = await continueText(get(), text, { temperature: 0 })
      const second = await continueText(get(), tokenizer.encode(text, { bos: true }), { temperature: 0 })
      assert.equal(first.text, second.text)
      assert.equal(first.end.usage.promptTokens, second.end.usage.promptTokens)
      assert.ok(first.chunks.every(({ choices }) => typeof choices[0]?.text === 'string'))
    })

    // A JSON schema is kept to, and nothing is generated after the end of the object.
    it('answers in a JSON schema', async () => {
      const schema = {
        type: 'object',
        properties: { colour: { enum: ['red', 'blue'] }, sure: { type: 'boolean' } },
      }
      const format = { type: 'json_schema', json_schema: { name: 'answer', schema } }
      const { text, end } = await ask(get(), 'Which colour?', {
        temperature: 0,
        max_tokens: 100,
        response_format: format,
      })
      const answer: unknown = JSON.parse(text)
      assert.deepEqual(Object.keys(Object(answer)), ['colour', 'sure'])
      assert.ok(text.endsWith('}'))
      assert.equal(end.finishReason, 'stop')
      assert.equal(end.profile, 'none')
    })

    it('gives log probabilities', async () => {
      const body = { temperature: 0, logprobs: true, top_logprobs: 3, max_tokens: 4 }
      const { chunks, end } = await ask(get(), 'Where are you going?', body)
      const entries = chunks.flatMap(
        ({ choices }): LogprobEntry[] => Reflect.get(Object(choices[0]?.logprobs), 'content') ?? [],
      )
      assert.equal(entries.length, end.usage.completionTokens)
      for (const { logprob, top_logprobs: top } of entries) {
        assert.equal(top.length, 3)
        assert.equal(logprob, top[0]?.logprob)
        assert.ok(logprob < 0 && top.every((other) => other.logprob <= logprob))
      }
    })

    it('embeds texts as vectors of unit length', async () => {
      const inputs = ['The river', 'a computer', 'The river']
      const raw = { input: inputs }
      const { vectors, promptTokens } = await get().embed({ model: '', inputs, raw }, { signal: patience() })
      assert.equal(vectors.length, 3)
      assert.deepEqual(vectors[0], vectors[2])
      assert.notDeepEqual(vectors[0], vectors[1])
      for (const vector of vectors) assert.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-5)
      assert.ok(promptTokens >= 6)
    })

    it('says what it serves', async () => {
      const info = await get().info()
      assert.equal(info.model, 'weightless-random')
      assert.equal(info.contextTokens, 512)
      assert.ok(info.profiles.includes('greedy'))
      assert.deepEqual(await get().health(), { ok: true, running: 0, queued: 0 })
    })
  })
}

interface LogprobEntry {
  logprob: number
  top_logprobs: { logprob: number }[]
}

describe('a request body', () => {
  // What is not OpenAI's form is refused with the name of the field; what is unknown passes.
  it('is refused with the field that is wrong', () => {
    const message = { role: 'user', content: 'hi' }
    const cases: [object, string][] = [
      [{}, 'messages'],
      [{ messages: [] }, 'messages'],
      [{ messages: [{ role: 'nobody', content: '' }] }, 'messages.0.role'],
      [{ messages: [message], temperature: 3 }, 'temperature'],
      [{ messages: [message], max_tokens: 0 }, 'max_tokens'],
      [{ messages: [message], seed: 1.5 }, 'seed'],
      [{ messages: [message], stop: [''] }, 'stop'],
      [{ messages: [message], top_logprobs: 21 }, 'top_logprobs'],
      [{ messages: [message], response_format: { type: 'xml' } }, 'response_format.type'],
      [{ messages: [message], tools: [{ type: 'function', function: { name: 'a b' } }] }, 'tools.0.function.name'],
    ]
    for (const [body, field] of cases) {
      assert.throws(
        () => parseChatRequest(body),
        (error) =>
          Reflect.get(Object(error), 'code') === 'ENGINE_REQUEST' &&
          String(Reflect.get(Object(error), 'details').field).startsWith(field.split('.')[0] ?? ''),
        field,
      )
    }
    const request = parseChatRequest({ messages: [message], temperature: null, seed: -1, something: { new: 1 } })
    assert.equal(request.temperature, undefined)
    assert.equal(request.seed, 2n ** 64n - 1n)
    assert.deepEqual(request.raw.something, { new: 1 })
  })
})
