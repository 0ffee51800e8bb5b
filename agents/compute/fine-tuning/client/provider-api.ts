import { createWriteStream } from 'node:fs'
import { rename } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { getAddress, type LocalAccount } from 'viem'
import { z } from 'zod'
import { MAX_LINEAGE_BYTES } from '#protocol/compute/fine-tuning/lineage.ts'
import type { CreateTaskInput, TaskView } from '#protocol/compute/fine-tuning/task.ts'
import {
  artefactDownloadDigest,
  cancelTaskDigest,
  datasetUploadDigest,
  signTaskDigest,
} from '#protocol/compute/fine-tuning/task-signature.ts'
import { encodeSessionToken } from '#protocol/compute/session-token.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import { FineTuningError } from '../error.ts'
import type { CurvePoint } from '../store/task-store.ts'
import type { TaskQuote } from '../task-service.ts'

/** Limit of one small call, and of a silence in a transfer. */
const CALL_MS = 30_000
const COUNT_MS = 600_000
const MAX_ANSWER_BYTES = 8 * 2 ** 20
const TOKEN_MS = 3_600_000

const quoteSchema = z.object({
  ...{
    examples: z.number(),
    tokens: z.number(),
    epochs: z.number(),
    maxSteps: z.number(),
    trainedTokens: z.number(),
    pricePerToken: z.string().regex(/^\d+$/),
  },
  ...{ fee: z.string().regex(/^\d+$/), queuePosition: z.number(), estimatedSeconds: z.number() },
})
const providerSchema = z.object({
  ...{ storage: z.boolean(), datasetBytes: z.number(), attestation: z.string() },
})
const modelSchema = z.object({
  name: z.string(),
  hash: z.string().regex(/^0x[0-9a-f]{64}$/),
  ...{ description: z.string().default(''), sizeBytes: z.number().default(0) },
})
const taskSchema = z.looseObject({ id: z.string(), progress: z.string(), fee: z.string() })
const curveSchema = z.array(z.object({ step: z.number(), loss: z.number(), heldOutLoss: z.number().optional() }))

/** An account's conversation with one fine-tuning provider. */
export class ProviderApi {
  readonly url: string
  readonly provider: Hex
  readonly #account: LocalAccount
  #token: { text: string; untilMs: number } | undefined

  constructor({ url, provider, account }: { url: string; provider: Hex; account: LocalAccount }) {
    this.url = url.replace(/\/+$/, '')
    this.provider = provider
    this.#account = account
  }

  get #path(): string {
    return `/v1/user/${getAddress(this.#account.address)}`
  }

  async describe() {
    return providerSchema.parse(await this.#json('GET', '/v1/provider'))
  }

  async models() {
    return z
      .array(modelSchema)
      .max(1_000)
      .parse(await this.#json('GET', '/v1/model'))
  }

  /** What a task would cost; tokens are counted by the provider. */
  async quote(body: { datasetHash: Hash; preTrainedModelHash: Hash; trainingParams: string }): Promise<TaskQuote> {
    const answer = await this.#json('POST', `${this.#path}/quote`, { body, signed: true, limitMs: COUNT_MS })
    return quoteSchema.parse(answer)
  }

  /** Sends a dataset; what it is called: its keccak-256. */
  async sendDataset(data: Uint8Array): Promise<Hash> {
    const timestampS = Math.floor(Date.now() / 1000)
    const digest = datasetUploadDigest({ user: this.#account.address, timestampS })
    const form = new FormData()
    form.set('file', new File([new Uint8Array(data)], 'dataset.jsonl'))
    form.set('signature', await signTaskDigest({ signer: this.#account, digest }))
    form.set('timestamp', String(timestampS))
    const response = await this.#fetch(`${this.#path}/dataset`, { method: 'POST', body: form, limitMs: COUNT_MS })
    const { datasetHash } = z
      .object({ datasetHash: z.string().regex(/^0x[0-9a-f]{64}$/) })
      .parse(await bodyOf(response))
    return datasetHash as Hash
  }

  async create(task: CreateTaskInput): Promise<string> {
    const answer = await this.#json('POST', `${this.#path}/task`, { body: task })
    return z.object({ id: z.string() }).parse(answer).id
  }

  async task(id: string): Promise<TaskView> {
    const answer = await this.#json('GET', `${this.#path}/task/${encodeURIComponent(id)}`, { signed: true })
    return taskSchema.parse(answer) as unknown as TaskView
  }

  async curve(id: string, after: number): Promise<CurvePoint[]> {
    const path = `${this.#path}/task/${encodeURIComponent(id)}/curve?after=${after}`
    return curveSchema.parse(await this.#json('GET', path, { signed: true }))
  }

  async cancel(id: string): Promise<void> {
    const signature = await signTaskDigest({ signer: this.#account, digest: cancelTaskDigest({ id }) })
    const options = { method: 'POST', json: { signature }, limitMs: CALL_MS }
    await this.#fetch(`${this.#path}/task/${encodeURIComponent(id)}/cancel`, options)
  }

  async log(id: string): Promise<string> {
    const headers = { authorization: `Bearer ${await this.#session()}` }
    const options = { headers, limitMs: CALL_MS }
    const response = await this.#fetch(`${this.#path}/task/${encodeURIComponent(id)}/log`, options)
    return new TextDecoder().decode(await bytesOf(response, MAX_ANSWER_BYTES))
  }

  async lineage(id: string): Promise<Uint8Array> {
    const headers = { authorization: `Bearer ${await this.#session()}` }
    const path = `${this.#path}/task/${encodeURIComponent(id)}/lineage`
    return await bytesOf(await this.#fetch(path, { headers, limitMs: CALL_MS }), MAX_LINEAGE_BYTES)
  }

  /** Fetches the encrypted artefact as the provider has it: to be compared with the chain by the caller. */
  async fetchArtefact({ id, to, maxBytes }: { id: string; to: string; maxBytes: number }): Promise<void> {
    const timestamp = Math.floor(Date.now() / 1000)
    const digest = artefactDownloadDigest({ id, timestampS: timestamp })
    const json = { signature: await signTaskDigest({ signer: this.#account, digest }), timestamp }
    const path = `${this.#path}/task/${encodeURIComponent(id)}/lora`
    const response = await this.#fetch(path, { method: 'POST', json, limitMs: COUNT_MS })
    let received = 0
    const limited = async function* (source: AsyncIterable<Uint8Array>) {
      for await (const chunk of source) {
        received += chunk.length
        if (received > maxBytes) throw tooMuch(maxBytes)
        yield chunk
      }
    }
    await pipeline(Readable.from(chunksOf(response)), limited, createWriteStream(`${to}.part`, { mode: 0o600 }))
    await rename(`${to}.part`, to)
  }

  async #session(): Promise<string> {
    const nowMs = Date.now()
    if (this.#token === undefined || this.#token.untilMs < nowMs + 60_000) {
      const text = await encodeSessionToken({
        ...{ signer: this.#account, provider: this.provider, nowMs, generation: 0, lifetimeMs: TOKEN_MS },
      })
      this.#token = { text, untilMs: nowMs + TOKEN_MS }
    }
    return this.#token.text
  }

  async #json(
    method: string,
    path: string,
    options: { body?: unknown; signed?: boolean; limitMs?: number } = {},
  ): Promise<unknown> {
    const { body, signed = false, limitMs = CALL_MS } = options
    const headers: Record<string, string> = signed ? { authorization: `Bearer ${await this.#session()}` } : {}
    return await bodyOf(await this.#fetch(path, { method, headers, json: body, limitMs }))
  }

  async #fetch(
    path: string,
    options: {
      method?: string
      headers?: Record<string, string>
      body?: FormData
      json?: unknown
      limitMs: number
    },
  ): Promise<Response> {
    const { method = 'GET', headers = {}, json, limitMs } = options
    let response: Response
    try {
      response = await fetch(`${this.url}${path}`, {
        ...{ method, signal: AbortSignal.timeout(limitMs), redirect: 'error' },
        headers: json === undefined ? headers : { ...headers, 'content-type': 'application/json' },
        ...(json === undefined ? {} : { body: JSON.stringify(json) }),
        ...(options.body === undefined ? {} : { body: options.body }),
      })
    } catch (cause) {
      throw new FineTuningError({
        ...{ code: 'FINE_TUNING_UNREACHABLE', message: `the provider ${this.provider} does not answer`, cause },
        fix: 'try again later: the same command goes on where it stopped',
        details: { provider: this.provider, url: this.url },
      })
    }
    if (response.ok) return response
    throw await refusal(response)
  }
}

async function bodyOf(response: Response): Promise<unknown> {
  return JSON.parse(new TextDecoder().decode(await bytesOf(response, MAX_ANSWER_BYTES)))
}

async function* chunksOf({ body }: Response): AsyncGenerator<Uint8Array, void, void> {
  const reader = body?.getReader()
  for (let next = await reader?.read(); next !== undefined && !next.done; next = await reader?.read()) yield next.value
}

async function bytesOf(response: Response, maxBytes: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let sizeBytes = 0
  for await (const part of chunksOf(response)) {
    sizeBytes += part.length
    if (sizeBytes > maxBytes) throw tooMuch(maxBytes)
    parts.push(part)
  }
  return Buffer.concat(parts)
}

/** The provider's own refusal, with its code. */
async function refusal(response: Response): Promise<WeightlessError> {
  const body = await bodyOf(response).catch(() => ({}))
  const text = z
    .object({ error: z.string(), code: z.string(), fix: z.string(), details: z.record(z.string(), z.unknown()) })
    .partial()
    .safeParse(body).data
  const { error = `it answered ${response.status}`, code, fix, details } = text ?? {}
  const suffix = fix === undefined ? '' : ` (${fix})`
  const message = error.endsWith(suffix) ? error.slice(0, error.length - suffix.length) : error
  return new WeightlessError({
    ...{ code: code ?? 'FINE_TUNING_UNREACHABLE', message: `the provider refuses: ${message.slice(0, 500)}`, fix },
    details: { ...details, status: response.status },
  })
}

function tooMuch(maxBytes: number): FineTuningError {
  return new FineTuningError({
    ...{ code: 'ARTEFACT_MISMATCH', message: `the provider sends more than ${maxBytes} bytes` },
    fix: 'do not acknowledge it; use another provider',
    details: { limit: maxBytes },
  })
}
