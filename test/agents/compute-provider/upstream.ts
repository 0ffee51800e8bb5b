import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** What the last message of a request tells the upstream to do, as JSON. */
export interface Script {
  /** Tokens of the answer, one to a chunk. Default 5. */
  tokens?: number
  /** Pause before each token. Default 0. */
  delayMs?: number
  /** After the tokens: stop well (default), go silent, close the connection, send nonsense. */
  ending?: 'end' | 'silent' | 'break' | 'garbage'
  /** Answer with this status instead. */
  status?: number
  /** Take the request and never answer. */
  hang?: boolean
  /** Text of each token. Default `word `. */
  text?: string
}

/** An OpenAI-compatible server as an upstream engine sees one, with faults to order. */
export interface Upstream {
  readonly url: string
  /** Bodies as they came. */
  readonly bodies: Record<string, unknown>[]
  /** Answers that the other side cut off. */
  readonly cut: number
  /** Tokens handed out in all. */
  readonly tokens: number
  close(): Promise<void>
}

export const PROMPT_TOKENS = 11

/** Starts an upstream on a free port. */
export async function startUpstream({ model = 'test-model', contextTokens = 4_096 } = {}): Promise<Upstream> {
  const state = { bodies: [] as Record<string, unknown>[], cut: 0, tokens: 0 }
  const server = createServer((request, response) => void answer(request, response))

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.url === '/v1/models') {
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ object: 'list', data: [{ id: model, max_model_len: contextTokens }] }))
      return
    }
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    const body = JSON.parse(Buffer.concat(parts).toString('utf8')) as Record<string, unknown>
    state.bodies.push(body)
    response.on('close', () => {
      if (!response.writableFinished) state.cut += 1
    })
    const script = scriptOf(body)
    if (script.status !== undefined) {
      response.writeHead(script.status, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ error: { message: 'secret details of the upstream', type: 'x', code: 'y' } }))
      return
    }
    if (request.url === '/v1/embeddings') {
      const inputs = Array.isArray(body.input) ? body.input : [body.input]
      const data = inputs.map((_, index) => ({ object: 'embedding', index, embedding: [0.5, -0.25, index] }))
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ object: 'list', data, model, usage: { prompt_tokens: 7, total_tokens: 7 } }))
      return
    }
    if (script.hang === true) return
    await stream(response, script, { chat: request.url === '/v1/chat/completions', body })
  }

  async function stream(
    response: ServerResponse,
    { tokens = 5, delayMs = 0, ending = 'end', text = 'word ' }: Script,
    { chat, body }: { chat: boolean; body: Record<string, unknown> },
  ): Promise<void> {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const send = (choices: unknown[], usage?: unknown) =>
      response.write(`data: ${JSON.stringify({ id: 'up-1', object: 'chunk', created: 1, model, choices, usage })}\n\n`)
    const limit = Math.min(tokens, Number(body.max_completion_tokens ?? body.max_tokens ?? tokens))
    const tools = Array.isArray(body.tools)
    for (let token = 0; token < limit && !response.destroyed; token += 1) {
      if (delayMs > 0) await delay(delayMs)
      state.tokens += 1
      const choice = chat
        ? { index: 0, delta: deltaOf({ token, text, tools }), finish_reason: null }
        : { index: 0, text, finish_reason: null }
      send([choice])
    }
    if (ending === 'silent') return
    if (ending === 'break') {
      // What was written leaves first.
      await delay(20)
      response.destroy()
      return
    }
    if (ending === 'garbage') {
      response.end('data: {"choices": [{"delta": 17}, nonsense\n\n')
      return
    }
    const finish = tools ? 'tool_calls' : limit < tokens ? 'length' : 'stop'
    send([chat ? { index: 0, delta: {}, finish_reason: finish } : { index: 0, text: '', finish_reason: finish }])
    send([], { prompt_tokens: PROMPT_TOKENS, completion_tokens: limit, total_tokens: PROMPT_TOKENS + limit })
    response.end('data: [DONE]\n\n')
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    get bodies() {
      return state.bodies
    },
    get cut() {
      return state.cut
    },
    get tokens() {
      return state.tokens
    },
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
}

function deltaOf({ token, text, tools }: { token: number; text: string; tools: boolean }): Record<string, unknown> {
  if (!tools) return { ...(token === 0 ? { role: 'assistant' } : {}), content: text }
  const call = token === 0 ? { id: 'call-1', type: 'function', function: { name: 'weather', arguments: '' } } : {}
  const rest = token === 0 ? {} : { function: { arguments: token === 1 ? '{"city":' : token === 2 ? '"Oslo"}' : '' } }
  return { tool_calls: [{ index: 0, ...call, ...rest }] }
}

function scriptOf(body: Record<string, unknown>): Script {
  const messages = Array.isArray(body.messages) ? (body.messages as { content?: unknown }[]) : []
  const text = messages.at(-1)?.content ?? body.prompt ?? body.input
  try {
    const parsed: unknown = JSON.parse(String(text))
    return typeof parsed === 'object' && parsed !== null ? (parsed as Script) : {}
  } catch {
    return {}
  }
}
