/** Longest event taken, in characters. */
const MAX_EVENT_CHARS = 4 * 2 ** 20

/**
 * Takes a server-sent event stream apart (WHATWG HTML §9.2): feed it bytes in any pieces, get the `data` of the events
 * that are complete. Comments and other fields are skipped.
 *
 * @example
 * const parser = new SseParser()
 * for await (const bytes of response.body) for (const data of parser.feed(bytes)) handle(data)
 */
export class SseParser {
  readonly #decoder = new TextDecoder()
  #rest = ''
  #data: string[] = []

  /** @throws RangeError for an event above 4 Mi characters */
  feed(bytes: Uint8Array): string[] {
    this.#rest += this.#decoder.decode(bytes, { stream: true })
    if (this.#rest.length > MAX_EVENT_CHARS) throw new RangeError('an event of the stream is too long')
    const events: string[] = []
    for (;;) {
      const end = /\r\n|\n|\r(?!$)/.exec(this.#rest)
      if (end === null) return events
      const line = this.#rest.slice(0, end.index)
      this.#rest = this.#rest.slice(end.index + end[0].length)
      if (line === '') {
        if (this.#data.length > 0) events.push(this.#data.join('\n'))
        this.#data = []
      } else if (line.startsWith('data:')) {
        this.#data.push(line.slice(line[5] === ' ' ? 6 : 5))
      }
    }
  }
}

/** What one event of an OpenAI stream means. */
export type StreamEvent =
  | { readonly type: 'done' }
  | { readonly type: 'error'; readonly error: Readonly<Record<string, unknown>> }
  | {
      readonly type: 'chunk'
      /** Something a user sees, or the end of a choice. */
      readonly hasToken: boolean
      /** Text of the first choice. */
      readonly text: string
      /** Something else than plain text was said: reasoning, a tool call, another choice. */
      readonly other: boolean
      readonly finishReason: string | undefined
      readonly usage: StreamUsage | undefined
    }

export interface StreamUsage {
  readonly promptTokens: number
  readonly completionTokens: number
}

/** Reads the data of an event; undefined for what is none of a chat or completion stream. */
export function readStreamEvent(data: string): StreamEvent | undefined {
  if (data.trim() === '[DONE]') return { type: 'done' }
  let json: unknown
  try {
    json = JSON.parse(data)
  } catch {
    return undefined
  }
  if (!isRecord(json)) return undefined
  if (json.error !== undefined && json.error !== null) {
    return { type: 'error', error: isRecord(json.error) ? json.error : { message: String(json.error) } }
  }
  const [choice] = Array.isArray(json.choices) ? json.choices.filter(isRecord) : []
  const delta = isRecord(choice?.delta) ? choice.delta : {}
  const text = [delta.content, choice?.text].find((part) => typeof part === 'string') ?? ''
  const finishReason = typeof choice?.finish_reason === 'string' ? choice.finish_reason : undefined
  const others = [delta.reasoning_content, delta.reasoning, delta.refusal, delta.tool_calls, delta.function_call]
  const special = others.some((part) => part !== undefined && part !== null && part !== '')
  const other = special || (typeof choice?.index === 'number' && choice.index > 0)
  const hasToken = text !== '' || special || finishReason !== undefined
  return { type: 'chunk', hasToken, text, other, finishReason, usage: readUsage(json) }
}

/** `usage` of a chunk or of a whole answer. */
export function readUsage(json: unknown): StreamUsage | undefined {
  const usage = isRecord(json) ? json.usage : undefined
  if (!isRecord(usage)) return undefined
  const { prompt_tokens: promptTokens, completion_tokens: completionTokens = 0 } = usage
  if (typeof promptTokens !== 'number' || typeof completionTokens !== 'number') return undefined
  return { promptTokens, completionTokens }
}

/** The text of a whole answer with one choice of plain text; undefined for any other. */
export function readText(json: unknown): string | undefined {
  const choices = isRecord(json) && Array.isArray(json.choices) ? json.choices : []
  const [choice] = choices.filter(isRecord)
  if (choices.length !== 1 || choice === undefined) return undefined
  const message = isRecord(choice.message) ? choice.message : {}
  const others = [message.reasoning_content, message.reasoning, message.tool_calls, message.function_call]
  if (others.some((part) => part !== undefined && part !== null && part !== '')) return undefined
  return [message.content, choice.text].find((part) => typeof part === 'string')
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
