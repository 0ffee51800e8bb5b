import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { JsonEnd } from '#compute/engines/llama/json-end.ts'
import type { Reply } from '#compute/engines/llama/messages.ts'
import { Outbox } from '#compute/engines/llama/outbox.ts'
import { TokenText } from '#compute/engines/llama/token-text.ts'
import { parseToolCalls, ToolText } from '#compute/engines/llama/tool-calls.ts'

const seed = 20_261_121

/** Tokens that are single bytes: the hardest case for characters and stop strings. */
const decode = (ids: readonly number[]) => new TextDecoder().decode(Uint8Array.from(ids))

describe('text of tokens', () => {
  // Whatever the text and the stop strings: what comes out is the text before the first stop string, and no stop string.
  it('ends before the first stop string', () => {
    const letters = fc.constantFrom('a', 'b', 'ab', 'ü', '🦊', ' ')
    const text = fc.array(letters, { maxLength: 30 }).map((parts) => parts.join(''))
    fc.assert(
      fc.property(
        text,
        fc.array(
          text.filter((stop) => stop.length > 0),
          { maxLength: 3 },
        ),
        (whole, stops) => {
          const tokens = new TokenText({ decode, stops, prompt: [] })
          let said = ''
          for (const byte of new TextEncoder().encode(whole)) {
            said += tokens.push(byte)
            if (tokens.isStopped) break
          }
          said += tokens.finish()
          // Of two stop strings the one that is complete first ends the text.
          const ends = stops
            .map((stop) => whole.indexOf(stop))
            .map((at, i) => (at < 0 ? Infinity : at + (stops[i] ?? '').length))
          const first = Math.min(...ends)
          const cut = Math.min(
            ...stops.map((stop) => whole.indexOf(stop)).filter((at, i) => at >= 0 && ends[i] === first),
          )
          assert.equal(said, Number.isFinite(cut) ? whole.slice(0, cut) : whole)
        },
      ),
      { seed, numRuns: 500 },
    )
  })

  it('writes bytes that are no characters as U+FFFD', () => {
    const tokens = new TokenText({ decode, stops: [], prompt: [] })
    const said = [0x61, 0xff, 0xe2, 0x62, 0xe2].map((byte) => tokens.push(byte)).join('') + tokens.finish()
    assert.equal(said, 'a\uFFFD\uFFFDb\uFFFD')
  })
})

describe('the end of JSON', () => {
  // The end is seen at the last character and not before, whatever strings contain.
  it('is seen exactly', () => {
    fc.assert(
      fc.property(fc.oneof(fc.dictionary(fc.string(), fc.jsonValue()), fc.array(fc.jsonValue())), (value) => {
        const end = new JsonEnd()
        const text = JSON.stringify(value)
        const characters = [...text]
        for (const [i, character] of characters.entries()) {
          assert.equal(end.push(character), i === characters.length - 1, text)
        }
      }),
      { seed, numRuns: 300 },
    )
  })
})

describe('calls of tools', () => {
  it('are found in the forms that models write', () => {
    const call = { name: 'add', arguments: '{"a":1}' }
    assert.deepEqual(parseToolCalls('<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'), [call])
    assert.deepEqual(parseToolCalls('{"name": "add", "parameters": {"a": 1}}'), [call])
    assert.deepEqual(
      parseToolCalls('<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>'),
      [call],
    )
    assert.deepEqual(parseToolCalls('<tool_call>{"name":"add","arguments":{"a":1}}</tool_call>'.repeat(2)), [
      call,
      call,
    ])
    for (const none of ['', 'text', '{"a": 1}', '[1]', 'null', '<tool_call>{</tool_call>'])
      assert.deepEqual(parseToolCalls(none), [])
  })

  // However the answer is split: text before a call comes out, the call does not, and what is no call comes out whole.
  it('are separated from text', () => {
    const tools = [{ type: 'function' as const, function: { name: 'add' } }]
    const call = '<tool_call>{"name":"add","arguments":{}}</tool_call>'
    const cases = [
      [`Let me see. ${call}`, 'Let me see. ', 1],
      [call, '', 1],
      ['{"name":"add","arguments":{}}', '', 1],
      ['{"name":"other"}', '{"name":"other"}', 0],
      ['a < b and <tool but no call', 'a < b and <tool but no call', 0],
      ['text {"name":"add"}', 'text {"name":"add"}', 0],
    ] as const
    for (const [whole, text, calls] of cases)
      for (const size of [1, 3, 7, 100]) {
        const tool = new ToolText(tools)
        let said = ''
        for (let at = 0; at < whole.length; at += size) said += tool.push(whole.slice(at, at + size))
        const rest = tool.finish()
        assert.equal(said + rest.text, text)
        assert.equal(rest.calls.length, calls, whole)
      }
  })
})

describe('the outbox', () => {
  // Pieces that wait are joined per request, in order, and nothing overtakes anything of the same request.
  it('joins what waits', async () => {
    const sent: Reply[][] = []
    const outbox = new Outbox((replies) => sent.push(replies))
    for (const text of ['a', 'b', 'c']) {
      outbox.push({ id: 1, type: 'piece', text, tokenIds: [text.charCodeAt(0)], logprobs: undefined })
      outbox.push({ id: 2, type: 'piece', text: text.toUpperCase(), tokenIds: [], logprobs: undefined })
    }
    outbox.push({ id: 1, type: 'done' })
    const deadline = Date.now() + 5_000
    while (sent.length === 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 2))
    assert.deepEqual(sent, [
      [
        { id: 1, type: 'piece', text: 'abc', tokenIds: [97, 98, 99], logprobs: undefined },
        { id: 2, type: 'piece', text: 'ABC', tokenIds: [], logprobs: undefined },
        { id: 1, type: 'done' },
      ],
    ])
  })
})
