import { createHash } from 'node:crypto'
import { parseEmbeddingRequest } from '#compute/engines/requests.ts'
import { requestHash } from '#protocol/compute/receipt.ts'
import { badRequest } from '../error.ts'
import { asProviderError } from './engine-errors.ts'
import { identify, readJson, type ServedRequest, type Serving, servedModel } from './serving.ts'

/**
 * Serves `/embeddings`. Billed are the prompt tokens, once the vectors have been sent.
 *
 * @throws ProviderError before anything was sent; then nothing is billed
 */
export async function serveEmbeddings(serving: Serving, served: ServedRequest): Promise<void> {
  const { body, response, signal } = served
  const arrivedAt = performance.now()
  const { caller, place } = await identify(serving, served)
  try {
    const parsed = parseEmbeddingRequest(readJson(body))
    const info = await serving.engineInfo()
    const model = await servedModel(serving, parsed.model, info)
    if (model.adapter !== undefined) {
      throw badRequest({
        ...{ code: 'unsupported_parameter', param: 'model', message: 'adapters give no embeddings' },
        fix: `ask for ${model.engineModel}`,
      })
    }
    const id = crypto.randomUUID()
    const { charge } = await serving.admission.admit(caller, {
      ...{ kind: 'embedding', id, bodyBytes: body.length, maxTokens: 0, choices: 1 },
      contextTokens: serving.contextTokens(info),
    })
    const durable = serving.cashier.durable()
    durable.catch(() => undefined)
    try {
      const raw = { ...parsed.raw, model: model.engineModel }
      const limit = AbortSignal.timeout(serving.limitsMs.firstTokenTimeoutMs)
      const answer = await serving.engine.embed(
        { ...parsed, model: model.engineModel, raw },
        { signal: AbortSignal.any([signal, limit]) },
      )
      await durable
      signal.throwIfAborted()
      const base64 = parsed.raw.encoding_format === 'base64'
      const promptTokens = Math.max(0, Math.trunc(answer.promptTokens) || 0)
      const text = JSON.stringify({
        object: 'list',
        data: answer.vectors.map((vector, index) => ({
          ...{ object: 'embedding', index },
          embedding: base64 ? Buffer.from(new Float32Array(vector).buffer).toString('base64') : vector,
        })),
        model: model.answerModel,
        usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
      })
      const bytes = Buffer.from(text)
      serving.metrics.firstToken(arrivedAt)
      response.writeHead(200, {
        ...served.answerHeaders,
        ...{ 'content-type': 'application/json; charset=utf-8', 'content-length': String(bytes.length) },
        ...{ 'zg-res-key': id, provider: serving.provider },
      })
      response.end(bytes)
      const bodyHash = requestHash(body)
      const usage = { promptTokens, completionTokens: 0, cachedTokens: 0 }
      const feeWei = charge.close({ usage, finish: 'stop', requestHash: bodyHash })
      serving.metrics.ended('embedding', 'ok', usage)
      serving.artifacts.keep({
        ...{ id, user: caller.user, body, bodyHash, feeWei, usage, finish: 'stop', end: undefined, maxTokens: 0 },
        adapter: undefined,
        responseSha256: createHash('sha256').update(bytes).digest('hex'),
        ...{ promptTokenIds: undefined, outputTokenIds: undefined },
      })
    } catch (error) {
      charge.close({ usage: { promptTokens: 0, completionTokens: 0 }, finish: 'failed' })
      serving.metrics.ended('embedding', 'failed', charge.usage)
      throw asProviderError(error)
    }
  } finally {
    place.release()
  }
}
