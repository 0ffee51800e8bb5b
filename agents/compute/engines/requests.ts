import { z } from 'zod'
import type { SamplingProfile } from './engine.ts'
import { EngineError } from './engine-error.ts'

/** Most messages of a chat. */
export const MAX_MESSAGES = 2048

/** Most characters of one message, prompt or input: 4 Mi. */
export const MAX_TEXT_CHARACTERS = 4 * 1024 * 1024

/** Most inputs of one embedding request. */
export const MAX_EMBEDDING_INPUTS = 2048

/** Most tokens a request may ask for. */
export const MAX_TOKENS = 1_048_576

const text = z.string().max(MAX_TEXT_CHARACTERS)
const seed = z
  .union([z.number().int().refine(Number.isSafeInteger), z.string().regex(/^(0x[0-9a-fA-F]{1,16}|\d{1,20})$/)])
  .transform((value) => BigInt.asUintN(64, BigInt(value)))
const stop = z
  .union([z.string().min(1).max(1024), z.array(z.string().min(1).max(1024)).max(16)])
  .transform((value) => (typeof value === 'string' ? [value] : value))
const samplingProfile: z.ZodType<SamplingProfile> = z.enum(['greedy', 'gumbel-philox-1', 'none'])

const sampling = {
  model: z.string().max(256).default(''),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  seed: seed.nullish(),
  stop: stop.nullish(),
  n: z.number().int().min(1).max(128).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  logit_bias: z
    .record(z.string().regex(/^\d{1,9}$/), z.number().min(-100).max(100))
    .refine((bias) => Object.keys(bias).length <= 1024, 'at most 1024 entries')
    .nullish(),
  sampling_profile: samplingProfile.nullish(),
}
const maxTokens = z.number().int().min(1).max(MAX_TOKENS)

const toolCall = z.looseObject({
  id: z.string().max(256),
  type: z.literal('function').default('function'),
  function: z.looseObject({ name: z.string().max(256), arguments: text }),
})
const contentPart = z.looseObject({ type: z.string().max(64), text: text.optional() })
const message = z.looseObject({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool', 'function']),
  content: z.union([text, z.array(contentPart).max(256)]).nullish(),
  name: z.string().max(256).optional(),
  tool_calls: z.array(toolCall).max(256).optional(),
  tool_call_id: z.string().max(256).optional(),
})
const tool = z.looseObject({
  type: z.literal('function'),
  function: z.looseObject({
    name: z.string().regex(/^[A-Za-z0-9_.-]{1,256}$/),
    description: z.string().max(65_536).optional(),
    parameters: z.record(z.string(), z.unknown()).optional(),
  }),
})
const toolChoice = z.union([
  z.enum(['none', 'auto', 'required']),
  z.looseObject({ type: z.literal('function'), function: z.looseObject({ name: z.string().max(256) }) }),
])
const responseFormat = z.discriminatedUnion('type', [
  z.looseObject({ type: z.literal('text') }),
  z.looseObject({ type: z.literal('json_object') }),
  z.looseObject({
    type: z.literal('json_schema'),
    json_schema: z.looseObject({ name: z.string().max(256).optional(), schema: z.record(z.string(), z.unknown()) }),
  }),
])

/** Body of `POST /chat/completions`. Fields it does not name pass untouched. */
export const chatBodySchema = z.looseObject({
  ...sampling,
  messages: z.array(message).min(1).max(MAX_MESSAGES),
  max_tokens: maxTokens.nullish(),
  max_completion_tokens: maxTokens.nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.number().int().min(0).max(20).nullish(),
  tools: z.array(tool).max(128).nullish(),
  tool_choice: toolChoice.nullish(),
  response_format: responseFormat.nullish(),
})

/** Body of `POST /completions`. The prompt is one text or one list of token ids. */
export const completionBodySchema = z.looseObject({
  ...sampling,
  prompt: z.union([
    text,
    z.array(text).length(1),
    z.array(z.number().int().min(0).max(0xffffffff)).min(1).max(MAX_TOKENS),
  ]),
  max_tokens: maxTokens.nullish(),
  logprobs: z.number().int().min(0).max(20).nullish(),
  echo: z.boolean().nullish(),
})

/** Body of `POST /embeddings`. */
export const embeddingBodySchema = z.looseObject({
  model: z.string().max(256).default(''),
  input: z.union([
    text.min(1),
    z.array(text.min(1)).min(1).max(MAX_EMBEDDING_INPUTS),
    z.array(z.number().int().min(0).max(0xffffffff)).min(1).max(MAX_TOKENS),
  ]),
  encoding_format: z.enum(['float', 'base64']).nullish(),
  dimensions: z.number().int().min(1).max(65_536).nullish(),
})

export type ChatMessage = z.infer<typeof message>
export type ToolDefinition = z.infer<typeof tool>
export type ToolChoice = z.infer<typeof toolChoice>
export type ResponseFormat = z.infer<typeof responseFormat>

/** What chats and completions have in common. Absent fields mean the engine's default. */
export interface SamplingRequest {
  model: string
  /** Most tokens of the answer; absent: what the context leaves. */
  maxTokens?: number
  /** 0..2, 0 is greedy; absent: 1, as OpenAI's. */
  temperature?: number
  topP?: number
  minP?: number
  /** 64 bits; absent: the engine draws one and states it. */
  seed?: bigint
  stop?: readonly string[]
  n?: number
  frequencyPenalty?: number
  presencePenalty?: number
  /** Added to the logit of a token id. */
  logitBias?: Readonly<Record<string, number>>
  /** Refuse (`ENGINE_UNSUPPORTED`) rather than answer under another profile. */
  profile?: SamplingProfile
  /** The body as it came, for upstreams. */
  raw: Record<string, unknown>
}

export interface ChatRequest extends SamplingRequest {
  messages: readonly ChatMessage[]
  logprobs?: boolean
  topLogprobs?: number
  tools?: readonly ToolDefinition[]
  toolChoice?: ToolChoice
  responseFormat?: ResponseFormat
}

export interface CompletionRequest extends SamplingRequest {
  prompt: string | readonly number[]
  /** Number of alternatives per token; absent: none. */
  logprobs?: number
  echo?: boolean
}

export interface EmbeddingRequest {
  model: string
  /** Texts, or one list of token ids. */
  inputs: readonly string[] | readonly (readonly number[])[]
  dimensions?: number
  raw: Record<string, unknown>
}

/**
 * Reads a chat body.
 *
 * @throws EngineError `ENGINE_REQUEST`, `details.field` names what is wrong
 */
export function parseChatRequest(body: unknown): ChatRequest {
  const parsed = read(chatBodySchema, body)
  return defined<ChatRequest>({
    ...samplingOf(parsed),
    maxTokens: parsed.max_completion_tokens ?? parsed.max_tokens,
    messages: parsed.messages,
    logprobs: parsed.logprobs,
    topLogprobs: parsed.top_logprobs,
    tools: parsed.tools,
    toolChoice: parsed.tool_choice,
    responseFormat: parsed.response_format,
    raw: body as Record<string, unknown>,
  })
}

/**
 * Reads a completion body.
 *
 * @throws EngineError `ENGINE_REQUEST`, `details.field` names what is wrong
 */
export function parseCompletionRequest(body: unknown): CompletionRequest {
  const parsed = read(completionBodySchema, body)
  const [first] = parsed.prompt
  return defined<CompletionRequest>({
    ...samplingOf(parsed),
    maxTokens: parsed.max_tokens,
    prompt: Array.isArray(parsed.prompt) && typeof first === 'string' ? first : (parsed.prompt as string | number[]),
    logprobs: parsed.logprobs,
    echo: parsed.echo,
    raw: body as Record<string, unknown>,
  })
}

/**
 * Reads an embedding body.
 *
 * @throws EngineError `ENGINE_REQUEST`, `details.field` names what is wrong
 */
export function parseEmbeddingRequest(body: unknown): EmbeddingRequest {
  const parsed = read(embeddingBodySchema, body)
  const { input } = parsed
  const inputs =
    typeof input === 'string' ? [input] : typeof input[0] === 'string' ? (input as string[]) : [input as number[]]
  return defined<EmbeddingRequest>({
    model: parsed.model,
    inputs,
    dimensions: parsed.dimensions,
    raw: body as Record<string, unknown>,
  })
}

function samplingOf(parsed: z.infer<z.ZodObject<typeof sampling>>) {
  return {
    model: parsed.model,
    temperature: parsed.temperature,
    topP: parsed.top_p,
    minP: parsed.min_p,
    seed: parsed.seed,
    stop: parsed.stop,
    n: parsed.n,
    frequencyPenalty: parsed.frequency_penalty,
    presencePenalty: parsed.presence_penalty,
    logitBias: parsed.logit_bias,
    profile: parsed.sampling_profile,
  }
}

function read<T>(schema: z.ZodType<T>, body: unknown): T {
  const parsed = schema.safeParse(body)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const field = issue?.path.join('.') || 'body'
  throw new EngineError({
    code: 'ENGINE_REQUEST',
    message: `${field}: ${issue?.message ?? 'not valid'}`,
    fix: 'see the OpenAI API reference for the fields of this request',
    details: { field },
  })
}

type Nullable<T> = { [K in keyof T]: T[K] | null | undefined }

/** Leaves out what is null or undefined: OpenAI's clients send null for "not given". */
function defined<T>(fields: Nullable<T>): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null && value !== undefined)) as T
}
