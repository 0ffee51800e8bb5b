import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { readStreamEvent, SseParser } from '#client/compute/sse.ts'

const bytes = (text: string) => new TextEncoder().encode(text)

test('a stream gives the same events however it is cut into pieces', () => {
  const text = ': hello\n\ndata: {"a":"ü€"}\r\n\r\nevent: x\ndata: one\ndata:two\n\ndata: [DONE]\n\n'
  const expected = ['{"a":"ü€"}', 'one\ntwo', '[DONE]']
  assert.deepEqual(new SseParser().feed(bytes(text)), expected)
  const whole = bytes(text)
  fc.assert(
    fc.property(fc.array(fc.nat(whole.length), { maxLength: 12 }), (cuts) => {
      const parser = new SseParser()
      const at = [0, ...cuts.toSorted((a, b) => a - b), whole.length]
      const events = at.slice(1).flatMap((end, i) => parser.feed(whole.subarray(at[i], end)))
      assert.deepEqual(events, expected)
    }),
  )
})

test('an event without an end does not fill the memory', () => {
  const parser = new SseParser()
  const piece = new Uint8Array(2 ** 20).fill(97)
  assert.throws(() => {
    for (let i = 0; i < 6; i++) parser.feed(piece)
  }, RangeError)
})

test('what counts as a token: text, tool calls, the end of a choice; not a role, not usage', () => {
  const chunk = (value: object) => {
    const event = readStreamEvent(JSON.stringify(value))
    return event?.type === 'chunk' && event.hasToken
  }
  assert.equal(chunk({ choices: [{ delta: { role: 'assistant', content: '' } }] }), false)
  assert.equal(chunk({ choices: [], usage: { prompt_tokens: 1, completion_tokens: 2 } }), false)
  assert.equal(chunk({ choices: [{ delta: { content: 'a' } }] }), true)
  assert.equal(chunk({ choices: [{ text: 'a' }] }), true)
  assert.equal(chunk({ choices: [{ delta: { tool_calls: [{}] } }] }), true)
  assert.equal(chunk({ choices: [{ delta: {}, finish_reason: 'stop' }] }), true)
  assert.equal(readStreamEvent('{"error":{"message":"x"}}')?.type, 'error')
  assert.equal(readStreamEvent('[DONE]')?.type, 'done')
  assert.equal(readStreamEvent('not json'), undefined)
})

test('no event of a stream, whatever its shape, throws', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      readStreamEvent(JSON.stringify(value))
      readStreamEvent(JSON.stringify({ choices: [value], usage: value }))
    }),
  )
})
