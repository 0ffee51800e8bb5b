import type { ChatRequest, ToolDefinition } from '../requests.ts'
import type { ToolCall } from './messages.ts'

const TAG = '<tool_call>'

/**
 * Separates text from calls in a growing answer: everything before `<tool_call>`, or before a `{` that begins the answer, is
 * text and comes out at once; the rest is looked at when the answer is complete.
 */
export class ToolText {
  readonly #tools: ReadonlySet<string>
  #held = ''
  #isHolding = false
  #hasText = false

  constructor(tools: readonly ToolDefinition[]) {
    this.#tools = new Set(tools.map((tool) => tool.function.name))
  }

  push(text: string): string {
    this.#held += text
    if (this.#isHolding) return ''
    const trimmed = this.#held.trimStart()
    const tag = this.#held.indexOf(TAG)
    if (tag >= 0 || (!this.#hasText && (trimmed === '' || trimmed.startsWith('{')))) {
      this.#isHolding = tag >= 0 || trimmed !== ''
      return tag > 0 ? this.#take(tag) : ''
    }
    let keep = Math.min(TAG.length - 1, this.#held.length)
    while (keep > 0 && !TAG.startsWith(this.#held.slice(-keep))) keep--
    return this.#take(this.#held.length - keep)
  }

  /** The calls of the complete answer, and what was held back and is no call. */
  finish(): { text: string; calls: ToolCall[] } {
    const calls = parseToolCalls(this.#held).filter(({ name }) => this.#tools.has(name))
    return calls.length > 0 ? { text: '', calls } : { text: this.#held, calls }
  }

  #take(length: number): string {
    const text = this.#held.slice(0, length)
    this.#held = this.#held.slice(length)
    if (text.trim() !== '') this.#hasText = true
    return text
  }
}

/**
 * Calls in the forms that open models write: `<tool_call>` around JSON (Hermes, Qwen) or around
 * `<function=…><parameter=…>` (Qwen Coder), or JSON alone (Llama 3).
 */
export function parseToolCalls(text: string): ToolCall[] {
  const tagged = [...text.matchAll(/<tool_call>([\s\S]*?)(?:<\/tool_call>|$)/g)].map(([, inner = '']) => inner.trim())
  const parts = tagged.length > 0 ? tagged : [text.trim()]
  return parts.slice(0, 128).flatMap((part) => (part.startsWith('<function=') ? markedCall(part) : jsonCall(part)))
}

/** The schema that a forced call must match: one of the tools, or the one that was named. */
export function toolCallSchema({ tools = [], toolChoice }: ChatRequest): Record<string, unknown> | undefined {
  const named = typeof toolChoice === 'object' ? toolChoice.function.name : undefined
  if (toolChoice !== 'required' && named === undefined) return undefined
  const wanted = tools.filter((tool) => named === undefined || tool.function.name === named)
  const schemas = wanted.map((tool) => ({
    type: 'object',
    properties: {
      name: { const: tool.function.name },
      arguments: tool.function.parameters ?? { type: 'object', properties: {} },
    },
    required: ['name', 'arguments'],
  }))
  return schemas.length === 1 ? schemas[0] : { oneOf: schemas }
}

function jsonCall(text: string): ToolCall[] {
  try {
    const value: unknown = JSON.parse(text)
    const name: unknown = Reflect.get(Object(value), 'name')
    const given: unknown = Reflect.get(Object(value), 'arguments') ?? Reflect.get(Object(value), 'parameters') ?? {}
    return typeof name === 'string' ? [{ name, arguments: JSON.stringify(given) }] : []
  } catch {
    return []
  }
}

function markedCall(text: string): ToolCall[] {
  const name = /^<function=([^>\s]{1,256})>/.exec(text)?.[1]
  if (name === undefined) return []
  const values = [...text.matchAll(/<parameter=([^>\s]{1,256})>([\s\S]*?)<\/parameter>/g)]
  const fields = values.map(([, key = '', value = '']) => [key, jsonOrText(value.replace(/^\n|\n$/g, ''))])
  return [{ name, arguments: JSON.stringify(Object.fromEntries(fields)) }]
}

function jsonOrText(value: string): unknown {
  try {
    return JSON.parse(value)
  } catch {
    return value
  }
}
