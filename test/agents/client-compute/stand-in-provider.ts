import { createHash, randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { privateKeyToAccount } from 'viem/accounts'
import { maximumFee, type TokenPrices, usageFee } from '#protocol/compute/fees.ts'
import {
  engineHash,
  RANDOMNESS_HEADER,
  type Receipt,
  receiptSeed,
  requestHash,
  signReceipt,
  ZERO_HASH,
} from '#protocol/compute/receipt.ts'
import { encodeReceipt } from '#protocol/compute/receipt-json.ts'
import { responseText, signResponse } from '#protocol/compute/response-signature.ts'
import { parseSessionToken } from '#protocol/compute/session-token.ts'
import { tokenRoot } from '#protocol/compute/token-root.ts'
import { decodeVoucherHeader, VOUCHER_HEADER, verifyVoucher } from '#protocol/compute/voucher.ts'
import { encodeVoucherDemand } from '#protocol/compute/voucher-demand.ts'
import type { Hash, Hex } from '#protocol/hex.ts'

/** How the stand-in misbehaves. */
export type Fault =
  | 'none'
  /** Cuts the connection when it has the request. */
  | 'dies-before-token'
  /** Sends head and role, then an error event. */
  | 'error-before-token'
  | 'busy'
  | 'refuses'
  | 'hangs'
  | 'hangs-after-token'
  | 'dies-after-token'
  | 'error-after-token'
  | 'ends-without-done'
  | 'no-receipt'
  | 'late-receipt'
  | 'forged-receipt'
  | 'foreign-request'
  | 'own-seed'
  | 'overpriced'
  | 'same-nonce'
  | 'signs-other-answer'
  | 'miscounts'
  | 'demands-too-much'
  | 'mirrors'
  | 'forgets-token-once'
  | 'lacks-balance-once'

export interface StandInProvider {
  readonly url: string
  readonly address: Hex
  fault: Fault
  /** The engine that its receipts name. */
  engine: string
  /** Requests that came for an answer. */
  readonly requests: { body: Buffer; cumulativeFeeWei: bigint | undefined; path: string }[]
  /** Billed to users over the life of the account, in wei. */
  billedWei(user: Hex): bigint
  /** Answers whose client left before the end. */
  readonly abandoned: number
  /** Asks for other prices from now on. */
  reprice(prices: TokenPrices): void
  /** Ends everything at once; nothing listens after. */
  stop(): Promise<void>
}

export interface StandInParameters {
  privateKey: Hex
  chainId: number
  /** InferenceServing. */
  contract: Hex
  prices: TokenPrices
  model: string
  /** What it says, a token each. */
  words?: readonly string[]
  /** Pause between tokens. */
  pauseMs?: number
  supportedParameters?: readonly string[]
  /** Weights it claims. */
  modelId?: Hash
}

interface Served {
  receipt: object
  signature: object
}

const ENGINE = 'stand-in 1'

/**
 * A provider without an engine, at the edge of tests: it speaks the wire protocol over a real socket, checks tokens and
 * vouchers as a provider must, and can be told to misbehave in ways a real one is not built for.
 */
export async function startStandIn(parameters: StandInParameters): Promise<StandInProvider> {
  const { chainId, contract, model, words = ['Hello', ' from', ' the', ' stand', '-in'] } = parameters
  const account = privateKeyToAccount(parameters.privateKey)
  const served = new Map<string, Served>()
  const billed = new Map<string, bigint>()
  const reserved = new Map<string, bigint>()
  const vouchers = new Map<string, string>()
  const requests: StandInProvider['requests'] = []
  let abandoned = 0
  let nonce = BigInt(Date.now())
  let url = ''
  let prices = parameters.prices

  const state = { fault: 'none' as Fault, engine: ENGINE }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const at = new URL(request.url ?? '/', 'http://provider')
    const [, id = ''] = /^\/v1\/receipts\/(.+)$/.exec(at.pathname) ?? []
    const [, signatureId = ''] = /^\/v1\/proxy\/signature\/(.+)$/.exec(at.pathname) ?? []
    if (at.pathname === '/v1/models') return json(response, 200, modelList())
    if (id !== '') return answerKept(response, served.get(id)?.receipt)
    if (signatureId !== '') return answerKept(response, served.get(signatureId)?.signature)
    const [, path] = /^\/v1\/(?:proxy\/)?(chat\/completions|completions|embeddings)$/.exec(at.pathname) ?? []
    if (request.method === 'POST' && path !== undefined) return await answer(request, response, path)
    json(response, 400, { error: 'unsupported endpoint: endpoint not supported' })
  }

  async function answer(request: IncomingMessage, response: ServerResponse, path: string): Promise<void> {
    const body = await readBody(request)
    const header = request.headers[VOUCHER_HEADER.toLowerCase()]
    const voucher = typeof header === 'string' ? decodeVoucherHeader(header) : undefined
    requests.push({ body, cumulativeFeeWei: voucher?.voucher.cumulativeFeeWei, path })
    const token = parseSessionToken(request.headers.authorization, { provider: account.address, nowMs: Date.now() })
    const user = token.address
    if (state.fault === 'dies-before-token') return void request.socket.destroy()
    if (state.fault === 'busy') return json(response, 429, { error: 'too many requests' })
    if (state.fault === 'refuses') {
      return json(response, 400, { error: { message: 'temperature is out of range', param: 'temperature' } })
    }
    if (state.fault === 'forgets-token-once') {
      state.fault = 'none'
      return json(response, 401, { error: 'session token has been revoked (generation expired)' })
    }
    if (state.fault === 'lacks-balance-once') {
      state.fault = 'none'
      return json(response, 400, { error: 'validate request: insufficient balance: your locked balance is too low' })
    }
    const asked = JSON.parse(body.toString()) as {
      max_tokens?: number
      max_completion_tokens?: number
      stream?: boolean
      seed?: number
    }
    const maxTokens = path === 'embeddings' ? 0 : (asked.max_completion_tokens ?? asked.max_tokens ?? 0)
    const maxFeeWei = maximumFee({ bodyBytes: body.length, maxTokens, ...prices })
    if (voucher !== undefined) {
      await verifyVoucher({ chainId, contract, ...voucher, nowMs: Date.now() })
      if (state.fault === 'mirrors') {
        // Calls the voucher that it was just sent one that the user signed elsewhere, and all of it billed.
        const { cumulativeFeeWei } = voucher.voucher
        const requiredCumulativeFeeWei = cumulativeFeeWei + maxFeeWei
        const demand = { cumulativeFeeWei, requiredCumulativeFeeWei, lastVoucher: String(header), chatIds: [] }
        return json(response, 402, encodeVoucherDemand(demand))
      }
      const billedWei = billed.get(user) ?? 0n
      const demanded = state.fault === 'demands-too-much' ? maxFeeWei + 1n : maxFeeWei
      const requiredCumulativeFeeWei = billedWei + (reserved.get(user) ?? 0n) + demanded
      if (voucher.voucher.cumulativeFeeWei < requiredCumulativeFeeWei) {
        const lastVoucher = vouchers.get(user)
        const chatIds = [...served.keys()].slice(-64)
        const demand = { cumulativeFeeWei: billedWei, requiredCumulativeFeeWei, lastVoucher, chatIds }
        return json(response, 402, encodeVoucherDemand(demand))
      }
      vouchers.set(user, String(header))
    }
    if (state.fault === 'hangs') return
    reserved.set(user, (reserved.get(user) ?? 0n) + maxFeeWei)
    let held = true
    // Given back as soon as the fee takes its place.
    const release = () => {
      if (held) reserved.set(user, (reserved.get(user) ?? 0n) - maxFeeWei)
      held = false
    }
    const facts = { path, user, body, asked, maxTokens, release }
    const randomness = request.headers[RANDOMNESS_HEADER.toLowerCase()]
    try {
      await speak({ ...facts, randomness: typeof randomness === 'string' ? (randomness as Hex) : undefined, response })
    } finally {
      release()
    }
  }

  async function speak(facts: {
    path: string
    user: Hex
    body: Buffer
    asked: { stream?: boolean; seed?: number }
    maxTokens: number
    randomness: Hex | undefined
    release: () => void
    response: ServerResponse
  }): Promise<void> {
    const { path, user, body, asked, maxTokens, randomness, release, response } = facts
    const chatId = randomUUID()
    const said = path === 'embeddings' ? [] : words.slice(0, maxTokens)
    const promptTokens = Math.ceil(body.length / 4)
    const usage = {
      prompt_tokens: promptTokens,
      completion_tokens: state.fault === 'miscounts' ? said.length + 1 : said.length,
      total_tokens: promptTokens + said.length,
    }
    const sent = createHash('sha256')
    const write = (text: string) => {
      sent.update(text)
      response.write(text)
    }
    const headers = { 'ZG-Res-Key': chatId, Provider: account.address }
    let left = false
    response.once('close', () => {
      left = !response.writableFinished
      if (left) abandoned += 1
    })
    const fault = state.fault
    let delivered = said.length
    if (asked.stream === true) {
      response.writeHead(200, { ...headers, 'content-type': 'text/event-stream' })
      const event = (value: object) =>
        write(`data: ${JSON.stringify({ id: `chatcmpl-${chatId}`, model, ...value })}\n\n`)
      const object = path === 'completions' ? 'text_completion' : 'chat.completion.chunk'
      if (path !== 'completions') event({ object, choices: [{ index: 0, delta: { role: 'assistant', content: '' } }] })
      if (fault === 'error-before-token') {
        write('data: {"error":{"message":"the engine is out of memory"}}\n\n')
        return void response.end()
      }
      for (const [at, word] of said.entries()) {
        if (left) {
          delivered = at
          break
        }
        const choice = path === 'completions' ? { text: word } : { delta: { content: word } }
        event({ object, choices: [{ index: 0, ...choice, finish_reason: null }] })
        if (at === 0 && fault === 'dies-after-token') {
          await pause(20)
          return void response.socket?.destroy()
        }
        if (at === 0 && fault === 'error-after-token') {
          await pause(20)
          write('data: {"error":{"message":"the engine crashed"}}\n\n')
          return void response.end()
        }
        if (at === 0 && fault === 'hangs-after-token') return
        if (parameters.pauseMs !== undefined) await pause(parameters.pauseMs)
      }
      if (!left && fault !== 'ends-without-done') {
        const last = path === 'completions' ? { text: '' } : { delta: {} }
        event({ object, choices: [{ index: 0, ...last, finish_reason: 'stop' }] })
        event({ object, choices: [], usage })
        write('data: [DONE]\n\n')
      }
      response.end()
    } else {
      response.writeHead(200, { ...headers, 'content-type': 'application/json' })
      const text = said.join('')
      const choice =
        path === 'completions'
          ? { index: 0, text, finish_reason: 'stop' }
          : { index: 0, message: { role: 'assistant', content: text }, finish_reason: 'stop' }
      const whole =
        path === 'embeddings'
          ? { object: 'list', model, data: [{ object: 'embedding', index: 0, embedding: [0.5, 0.25] }], usage }
          : { id: `chatcmpl-${chatId}`, object: 'chat.completion', created: 1, model, choices: [choice], usage }
      write(JSON.stringify(whole))
      response.end()
    }
    const outputLen = delivered
    const feeWei = usageFee({ promptTokens, completionTokens: outputLen, ...prices })
    billed.set(user, (billed.get(user) ?? 0n) + feeWei)
    release()
    if (fault === 'no-receipt') return
    if (fault === 'late-receipt') await pause(400)
    const keep = await prove({
      chatId,
      user,
      body,
      promptTokens,
      outputLen,
      feeWei,
      fault,
      asked,
      randomness,
      maxTokens,
    })
    const requestSha256 = createHash('sha256').update(body).digest('hex')
    const response256 = fault === 'signs-other-answer' ? '0'.repeat(64) : sent.digest('hex')
    const text = responseText({ engineRequest: body, response: response256 })
    served.set(chatId, { receipt: keep, signature: await signResponse({ signer: account, text, requestSha256 }) })
  }

  async function prove(facts: {
    chatId: string
    user: Hex
    body: Buffer
    promptTokens: number
    outputLen: number
    feeWei: bigint
    fault: Fault
    asked: { seed?: number }
    randomness: Hex | undefined
    maxTokens: number
  }): Promise<object> {
    const { user, body, fault, asked, randomness, maxTokens } = facts
    const promptTokens = Array.from({ length: facts.promptTokens }, (_, i) => i)
    const outputTokens = Array.from({ length: facts.outputLen }, (_, i) => 1_000 + i)
    const hash = requestHash(fault === 'foreign-request' ? Buffer.from('{}') : body)
    const ground = randomness === undefined ? 0n : receiptSeed({ requestHash: requestHash(body), randomness })
    const seed = asked.seed === undefined ? ground : BigInt(asked.seed)
    if (fault !== 'same-nonce') nonce += 1n
    const receipt: Receipt = {
      modelId: parameters.modelId ?? ZERO_HASH,
      engine: engineHash(state.engine),
      user,
      provider: account.address,
      requestHash: hash,
      promptRoot: tokenRoot(promptTokens),
      promptLen: promptTokens.length,
      outputRoot: tokenRoot(outputTokens),
      outputLen: outputTokens.length,
      settings: {
        ...{ temperatureQ16: 65_536, cutQ16: 0, maxTokens, stopIds: ZERO_HASH, bias: ZERO_HASH },
        seed: fault === 'own-seed' ? seed + 1n : seed,
      },
      stopReason: 'stop',
      level: 1,
      profile: 'gumbel-philox-1',
      issuedAtS: Math.floor(Date.now() / 1_000),
      feeWei: fault === 'overpriced' ? facts.feeWei + 1n : facts.feeWei,
      coverageWei: 0n,
      plaintextRoot: ZERO_HASH,
      nonce,
    }
    const signer = fault === 'forged-receipt' ? privateKeyToAccount(`0x${'66'.repeat(32)}`) : account
    const signature = await signReceipt({ chainId, contract, receipt, signer })
    return encodeReceipt({ receipt, signature, engine: state.engine, promptTokens, outputTokens })
  }

  function modelList() {
    const { supportedParameters } = parameters
    const known = { id: model, object: 'model', context_length: 8_192, max_completion_tokens: 1_024 }
    const supported = supportedParameters === undefined ? {} : { supported_parameters: supportedParameters }
    return { object: 'list', data: [{ ...known, ...supported, adapters: { by_root: true } }] }
  }

  const server = createServer((request, response) => {
    serve(request, response).catch((error: unknown) => {
      if (response.headersSent) response.destroy()
      else json(response, 400, { error: error instanceof Error ? error.message : String(error) })
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    url,
    address: account.address.toLowerCase() as Hex,
    get fault() {
      return state.fault
    },
    set fault(fault) {
      state.fault = fault
    },
    get engine() {
      return state.engine
    },
    set engine(engine) {
      state.engine = engine
    },
    requests,
    billedWei: (user) => billed.get(user.toLowerCase()) ?? 0n,
    get abandoned() {
      return abandoned
    },
    reprice: (changed) => {
      prices = changed
    },
    stop: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function answerKept(response: ServerResponse, kept: object | undefined): void {
  if (kept === undefined) json(response, 404, { error: 'chat_id_not_found' })
  else json(response, 200, kept)
}

function json(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  return Buffer.concat(parts)
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
