// Run as a process of its own by the proxy bench: `upstream`, `bare URL` or `provider CONFIG`. Says its address on stdout.
import { readFileSync } from 'node:fs'
import { Agent, createServer, request as httpRequest, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { fastify } from 'fastify'
import { privateKeyToAccount } from 'viem/accounts'
import { providerConfigSchema, startProvider } from '#compute/provider/main.ts'
import { DEV_ACCOUNTS } from '#kit/chain/local-chain.ts'
import { silentLog } from '#kit/log.ts'

const PROMPT_TOKENS = 20

/** What a request asks of the upstream, in its last message. */
interface Order {
  tokens: number
  /** Pause between two tokens. */
  everyMs: number
}

const [role = '', argument = ''] = process.argv.slice(2)
if (role === 'upstream') await serveUpstream()
else if (role === 'bare') await serveBare(argument)
else await serveProvider(argument)

/** A fast upstream: tokens at a steady pace, or all at once. */
async function serveUpstream(): Promise<void> {
  const server = createServer((request, response) => {
    if (request.url === '/v1/models') {
      response.end(JSON.stringify({ object: 'list', data: [{ id: 'bench', max_model_len: 8_192 }] }))
      return
    }
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const body = JSON.parse(Buffer.concat(parts).toString('utf8')) as { messages: { content: string }[] }
      void stream(response, JSON.parse(body.messages.at(-1)?.content ?? '{}') as Order)
    })
  })
  server.listen(0, '127.0.0.1', () => say((server.address() as AddressInfo).port))
}

async function stream(response: ServerResponse, { tokens, everyMs }: Order): Promise<void> {
  response.socket?.setNoDelay(true)
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  const head = '{"id":"up","object":"chat.completion.chunk","created":1,"model":"bench","choices":'
  for (let token = 0; token < tokens && !response.destroyed; token += 1) {
    // The time of sending travels in the token: what it took to arrive is seen on the other side.
    const sent = (performance.timeOrigin + performance.now()).toFixed(3)
    response.write(`data: ${head}[{"index":0,"delta":{"content":"@${sent} "},"finish_reason":null}]}\n\n`)
    if (everyMs > 0) await delay(everyMs)
  }
  const usage = `{"prompt_tokens":${PROMPT_TOKENS},"completion_tokens":${tokens},"total_tokens":${PROMPT_TOKENS + tokens}}`
  response.write(`data: ${head}[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n`)
  response.end(`data: ${head}[],"usage":${usage}}\n\ndata: [DONE]\n\n`)
}

/** A proxy that does nothing but pass requests on: fastify, and the platform's own client with connections kept. */
async function serveBare(upstream: string): Promise<void> {
  const app = fastify({ logger: false })
  const agent = new Agent({ keepAlive: true, maxSockets: 256 })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_, body, done) => done(null, body))
  app.post('/v1/chat/completions', (request, reply) => {
    reply.hijack()
    const headers = { 'content-type': 'application/json' }
    const call = httpRequest(`${upstream}/v1/chat/completions`, { method: 'POST', agent, headers }, (answer) => {
      reply.raw.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(reply.raw)
    })
    call.on('error', () => reply.raw.destroy())
    call.end(request.body as Buffer)
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  say((app.server.address() as AddressInfo).port)
}

async function serveProvider(configPath: string): Promise<void> {
  const config = providerConfigSchema.parse(JSON.parse(readFileSync(configPath, 'utf8')))
  const key = DEV_ACCOUNTS[1]?.privateKey ?? '0x'
  const provider = await startProvider(config, { log: silentLog(), account: privateKeyToAccount(key) })
  say(Number(new URL(provider.url).port))
  process.once('SIGTERM', () => void provider.close().then(() => process.exit(0)))
}

function say(port: number): void {
  process.stdout.write(`http://127.0.0.1:${port}\n`)
}
