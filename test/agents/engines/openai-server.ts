import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Engine, EngineEvent } from '#compute/engines/engine.ts'
import { EngineError, engineErrorStatus } from '#compute/engines/engine-error.ts'
import { parseChatRequest, parseCompletionRequest, parseEmbeddingRequest } from '#compute/engines/requests.ts'

export interface OpenAiServer {
  url: string
  /** Bodies that came, newest last. */
  bodies: Record<string, unknown>[]
  /** Requests that are being answered. */
  open: () => number
  close: () => Promise<void>
}

/** An OpenAI-compatible server in front of an engine, as an upstream would be: streams, usage, token ids on demand. */
export async function serveOpenAi(engine: Engine, { apiKey }: { apiKey?: string } = {}): Promise<OpenAiServer> {
  const bodies: Record<string, unknown>[] = []
  let open = 0
  const server = createServer((request, response) => {
    const abort = new AbortController()
    response.on('close', () => abort.abort())
    open += 1
    answer(request, response, abort.signal)
      .catch((error: unknown) => fail(response, error))
      .finally(() => {
        open -= 1
      })
  })
  async function answer(request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<void> {
    if (apiKey !== undefined && request.headers.authorization !== `Bearer ${apiKey}`) {
      response.writeHead(401, { 'content-type': 'application/json' }).end('{"error":{"message":"wrong key"}}')
      return
    }
    if (request.url === '/v1/models') {
      const { model, contextTokens } = await engine.info()
      response.setHeader('content-type', 'application/json')
      response.end(
        JSON.stringify({ object: 'list', data: [{ id: model, owned_by: 'test', max_model_len: contextTokens }] }),
      )
      return
    }
    const body: Record<string, unknown> = JSON.parse(await readBody(request))
    bodies.push(body)
    if (request.url === '/v1/embeddings') {
      const { vectors, promptTokens } = await engine.embed(parseEmbeddingRequest(body), { signal })
      const data = vectors.map((embedding, index) => ({ object: 'embedding', index, embedding }))
      response.setHeader('content-type', 'application/json')
      response.end(
        JSON.stringify({ object: 'list', data, usage: { prompt_tokens: promptTokens, total_tokens: promptTokens } }),
      )
      return
    }
    const isChat = request.url === '/v1/chat/completions'
    const events = isChat
      ? engine.chat(parseChatRequest(body), { signal })
      : engine.complete(parseCompletionRequest(body), { signal })
    const wantsUsage = Reflect.get(Object(body.stream_options), 'include_usage') === true
    for await (const event of events) {
      if (!response.headersSent) response.writeHead(200, { 'content-type': 'text/event-stream' })
      for (const chunk of chunksOf(event, { wantsUsage, wantsIds: body.return_token_ids === true })) {
        response.write(`data: ${JSON.stringify({ object: 'chat.completion.chunk', ...chunk })}\n\n`)
      }
    }
    response.end('data: [DONE]\n\n')
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    bodies,
    open: () => open,
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function chunksOf(event: EngineEvent, { wantsUsage, wantsIds }: { wantsUsage: boolean; wantsIds: boolean }): object[] {
  if (event.type === 'prompt') return wantsIds ? [{ choices: [], prompt_token_ids: event.promptTokenIds }] : []
  if (event.type === 'chunk') {
    const ids = wantsIds ? { token_ids: event.tokenIds } : {}
    return [{ choices: event.choices.map((choice) => ({ ...choice, ...ids })) }]
  }
  const { promptTokens, completionTokens, cachedTokens } = event.usage
  const usage = {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  }
  return wantsUsage ? [{ choices: [], usage }] : []
}

function fail(response: ServerResponse, error: unknown): void {
  const code = error instanceof EngineError ? error.code : 'ENGINE_UPSTREAM'
  const name = code === 'ENGINE_CONTEXT' ? 'context_length_exceeded' : code
  const body = JSON.stringify({ error: { message: error instanceof Error ? error.message : '', code: name } })
  if (response.headersSent) response.end(`data: ${body}\n\n`)
  else response.writeHead(engineErrorStatus[code], { 'content-type': 'application/json' }).end(body)
}

async function readBody(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const piece of request) text += String(piece)
  return text
}
