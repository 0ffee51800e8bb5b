import { z } from 'zod'
import type { EngineUsage, OpenAiStreamChoice } from './engine.ts'
import { EngineError } from './engine-error.ts'

const count = z.number().int().min(0).max(0xffffffff)
const ids = z.array(count).max(4_194_304)
const usageSchema = z.looseObject({
  prompt_tokens: count,
  completion_tokens: count.default(0),
  prompt_tokens_details: z.looseObject({ cached_tokens: count.nullish() }).nullish(),
})
const choiceSchema = z.looseObject({
  index: z.number().int().min(0).max(127).default(0),
  delta: z.record(z.string(), z.unknown()).nullish(),
  text: z.string().nullish(),
  finish_reason: z.string().max(64).nullish(),
  logprobs: z.unknown().optional(),
  token_ids: ids.nullish(),
})
const chunkSchema = z.looseObject({
  choices: z.array(choiceSchema).max(128).nullish(),
  usage: usageSchema.nullish(),
  error: z.unknown().optional(),
  prompt_token_ids: ids.nullish(),
})
const embeddingsSchema = z.looseObject({
  data: z.array(
    z.looseObject({ index: count.optional(), embedding: z.union([z.array(z.number()).max(65_536), z.string()]) }),
  ),
  usage: usageSchema.nullish(),
})

/** What one event of an upstream's stream says. */
export interface UpstreamChunk {
  choices: OpenAiStreamChoice[]
  tokenIds: number[]
  promptTokenIds: readonly number[] | undefined
  usage: EngineUsage | undefined
}

/**
 * Reads one event. Servers that give token ids (`return_token_ids` of vLLM) have them in `token_ids` of the choice.
 *
 * @throws EngineError `ENGINE_UPSTREAM` for what is no chunk, or carries an error
 */
export function readChunk(data: string): UpstreamChunk {
  const { choices, usage, error, prompt_token_ids } = parse(chunkSchema, data)
  if (error !== undefined && error !== null) {
    const message = String(Reflect.get(Object(error), 'message') ?? error).slice(0, 500)
    throw new EngineError({ code: 'ENGINE_UPSTREAM', message: `the upstream broke off: ${message}` })
  }
  return {
    choices: (choices ?? []).map(({ index, delta, text, finish_reason, logprobs }) => ({
      index,
      finish_reason: finish_reason ?? null,
      ...(delta ? { delta } : {}),
      ...(typeof text === 'string' ? { text } : {}),
      ...(logprobs === undefined || logprobs === null ? {} : { logprobs }),
    })),
    tokenIds: (choices ?? []).flatMap(({ token_ids }) => token_ids ?? []),
    promptTokenIds: prompt_token_ids ?? undefined,
    usage: usage ? usageOf(usage) : undefined,
  }
}

/**
 * Reads the answer to an embedding request for `inputs` inputs.
 *
 * @throws EngineError `ENGINE_UPSTREAM`
 */
export function readEmbeddings(text: string, inputs: number): { vectors: number[][]; promptTokens: number } {
  const { data, usage } = parse(embeddingsSchema, text)
  const vectors = data
    .toSorted((a, b) => (a.index ?? 0) - (b.index ?? 0))
    .map(({ embedding }) => (typeof embedding === 'string' ? fromBase64(embedding) : embedding))
  if (vectors.length !== inputs || !usage) {
    throw new EngineError({
      code: 'ENGINE_UPSTREAM',
      message: usage
        ? `the upstream gave ${vectors.length} vectors for ${inputs} inputs`
        : 'the upstream did not say how many tokens it read',
    })
  }
  return { vectors, promptTokens: usage.prompt_tokens }
}

function usageOf(usage: z.infer<typeof usageSchema>): EngineUsage {
  return {
    promptTokens: usage.prompt_tokens,
    completionTokens: usage.completion_tokens,
    cachedTokens: Math.min(usage.prompt_tokens_details?.cached_tokens ?? 0, usage.prompt_tokens),
  }
}

function fromBase64(text: string): number[] {
  const bytes = Buffer.from(text, 'base64')
  return Array.from({ length: Math.floor(bytes.length / 4) }, (_, i) => bytes.readFloatLE(4 * i))
}

function parse<T>(schema: z.ZodType<T>, text: string): T {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new EngineError({ code: 'ENGINE_UPSTREAM', message: 'the upstream sent what is no JSON', cause })
  }
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new EngineError({
    code: 'ENGINE_UPSTREAM',
    message: `the upstream sent what is no answer: ${issue?.path.join('.')}: ${issue?.message}`,
    details: { field: issue?.path.join('.') },
  })
}
