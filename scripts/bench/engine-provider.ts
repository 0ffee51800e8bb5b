import type { ChildProcess } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { openMarket } from '../../test/agents/compute-provider/market.ts'
import { startChild, stopChild } from './child-process.ts'
import type { TokenAnswer } from './engine.ts'
import { ProxyBenchError } from './proxy-load.ts'

const USER = 3

/** A provider in a process of its own that serves the file, and a client with a session token that streams from it. */
export async function openProviderEndpoint({ path, sequences, contextTokens }: ProviderEndpointParameters) {
  const market = await openMarket()
  const children: ChildProcess[] = []
  const agent = new Agent({ keepAlive: true })
  const close = async (): Promise<void> => {
    agent.destroy()
    await Promise.all(children.map(stopChild))
    await market.close()
  }
  try {
    const config = {
      ...{ port: 0, dataDir: join(market.folder, 'provider'), model: path, modelName: 'bench', contextTokens },
      ...{ engine: { sequences, threads: 1, promptCache: false }, minimumReserveWei: '0' },
      chain: { rpcUrls: [market.anvil.url], inference: market.contracts.inference },
      settlement: { enabled: false, embeddedQueue: false },
      limits: { requestsPerMinute: 0, addressRequestsPerMinute: 0 },
    }
    await market.register(market.config({ dataDir: config.dataDir, model: path }))
    const user = market.user(USER)
    await user.fund('900')
    const configPath = join(market.folder, 'bench.json')
    await writeFile(configPath, JSON.stringify(config))
    const url = `${await startChild(children, ['provider', configPath])}/v1/completions`
    const headers = { authorization: `Bearer ${await user.token()}`, 'content-type': 'application/json' }
    return {
      async generate({ prompt, maxTokens, signal }: GenerateParameters): Promise<TokenAnswer> {
        const options = { stream: true, stream_options: { include_usage: true } }
        const body = JSON.stringify({ model: 'bench', prompt, max_tokens: maxTokens, temperature: 0, ...options })
        const response = await new Promise<IncomingMessage>((resolve, reject) => {
          const call = httpRequest(url, { method: 'POST', agent, headers, signal }, resolve)
          call.once('error', reject)
          call.end(body)
        })
        return await readAnswer(response)
      },
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

export interface ProviderEndpointParameters {
  path: string
  sequences: number
  contextTokens: number
}

interface GenerateParameters {
  prompt: readonly number[]
  maxTokens: number
  signal: AbortSignal
}

interface Chunk {
  choices?: { text?: string }[]
  usage?: { completion_tokens: number } | null
}

async function readAnswer(response: IncomingMessage): Promise<TokenAnswer> {
  const answer = { tokens: 0, text: '' }
  let rest = ''
  response.setEncoding('utf8')
  for await (const part of response) {
    const lines = (rest + String(part)).split('\n\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (!line.startsWith('data: {')) continue
      const { choices = [], usage } = JSON.parse(line.slice(6)) as Chunk
      for (const { text = '' } of choices) answer.text += text
      if (usage) answer.tokens = usage.completion_tokens
    }
  }
  if (response.statusCode === 200) return answer
  throw new ProxyBenchError({
    code: 'BENCH_PROXY',
    message: `the provider answered ${response.statusCode}: ${rest.slice(0, 300)}`,
  })
}
