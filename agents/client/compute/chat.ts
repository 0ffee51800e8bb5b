import { estimatedFee, maximumFee } from '#protocol/compute/fees.ts'
import type { Hex } from '#protocol/hex.ts'
import type { ComputeConnection } from './connection.ts'
import { defaultMaxTokens } from './default-max-tokens.ts'
import { ComputeRequestError } from './errors.ts'
import { type ProviderPreferencesInput, preferencesSchema } from './preferences.ts'
import { offerOf } from './rank.ts'
import { type RoutedBody, type RouteEvent, routeExchange } from './route.ts'
import type { ComputeService } from './services.ts'
import { readStreamEvent, SseParser } from './sse.ts'
import type { Verification } from './verify-exchange.ts'

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string
}

/** What happens on the way to the first token. */
export type ChatEvent =
  | Exclude<RouteEvent, { type: 'ask' }>
  /** The price, before anything is sent. */
  | {
      readonly type: 'quote'
      readonly service: ComputeService
      readonly model: string
      /** For an answer of 200 tokens, or of as many as are allowed. */
      readonly estimatedFeeWei: bigint
      /** What the voucher covers: it cannot cost more. */
      readonly maxFeeWei: bigint
    }

export interface ChatParameters {
  messages: readonly ChatMessage[]
  /** Default: whatever the chosen provider serves. With a LoRA adapter: `base:0x<storage root of the adapter>`. */
  model?: string | undefined
  /** Provider by address, host or name; no other is asked. */
  provider?: string | undefined
  preferences?: ProviderPreferencesInput | undefined
  /** Default 4,096, or what the model's context leaves. */
  maxTokens?: number | undefined
  temperature?: number | undefined
  seed?: number | undefined
  /** Told what is chosen, priced and moved; throwing stops before anything is sent. */
  onEvent?: ((event: ChatEvent) => void | Promise<void>) | undefined
  signal?: AbortSignal | undefined
}

/** An answer under way. */
export interface ChatAnswer {
  readonly service: ComputeService
  readonly chatId: string | undefined
  readonly maxFeeWei: bigint
  readonly firstTokenMs: number
  /** The text as it comes. Read it to its end. */
  readonly text: AsyncIterable<string>
  /** Cost and verification, once the text has ended. */
  readonly verification: Promise<Verification>
}

/** Tokens assumed for the estimate shown beforehand. */
const USUAL_TOKENS = 200

/**
 * Asks a model, streaming. The provider is chosen by price, speed and health unless named; its account is opened out of
 * the user's deposit on the first chat.
 *
 * @throws ComputeFundsError, NoProviderError, ProviderError, ComputeChainError; the signal's reason
 * @example
 * const answer = await chat(connection, { messages: [{ role: 'user', content: 'Why is the sky blue?' }] })
 * for await (const text of answer.text) process.stdout.write(text)
 * const { verified, feeWei } = await answer.verification
 */
export async function chat(connection: ComputeConnection, parameters: ChatParameters): Promise<ChatAnswer> {
  const { messages, model, provider, onEvent, signal } = parameters
  if (messages.length === 0) {
    throw new ComputeRequestError({
      code: 'CHAT_REQUEST',
      message: 'there is nothing to ask',
      fix: 'give at least one message',
      details: { field: 'messages' },
    })
  }
  const wishes = provider === undefined ? {} : { only: [provider] }
  const exchange = await routeExchange(connection, {
    ...{ path: 'chat/completions', stream: true, model, signal },
    preferences: preferencesSchema.parse({ ...parameters.preferences, ...wishes }),
    bodyFor: (candidate, name) => {
      const offer = offerOf(candidate, name)
      const bodyBytes = messages.reduce((sum, { content }) => sum + Buffer.byteLength(content), 100)
      return chatBody(parameters, { model: name, maxTokens: defaultMaxTokens({ offer, bodyBytes }) })
    },
    onEvent: async (event) => {
      if (event.type !== 'ask') return await onEvent?.(event)
      const { service, model: name, body } = event
      await onEvent?.({ type: 'quote', service, model: name, ...priceOf(service, body, parameters.messages) })
    },
  })
  const { service, chatId, maxFeeWei, firstTokenMs, verification } = exchange
  return { service, chatId, maxFeeWei, firstTokenMs, verification, text: textOf(exchange.chunks) }
}

function chatBody(parameters: ChatParameters, fallback: { model: string; maxTokens: number }): RoutedBody {
  const { messages, temperature, seed, maxTokens = fallback.maxTokens } = parameters
  const request = {
    model: fallback.model,
    messages,
    max_tokens: maxTokens,
    ...(temperature === undefined ? {} : { temperature }),
    ...(seed === undefined ? {} : { seed }),
    stream: true,
    stream_options: { include_usage: true },
  }
  return { bytes: new TextEncoder().encode(JSON.stringify(request)), maxTokens, seed }
}

function priceOf(service: ComputeService, { bytes, maxTokens }: RoutedBody, messages: readonly ChatMessage[]) {
  const promptBytes = messages.reduce((sum, { content }) => sum + Buffer.byteLength(content), 0)
  const completionTokens = Math.min(USUAL_TOKENS, maxTokens)
  return {
    estimatedFeeWei: estimatedFee({ promptBytes, completionTokens, ...service }),
    maxFeeWei: maximumFee({ bodyBytes: bytes.length, maxTokens, ...service }),
  }
}

async function* textOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const parser = new SseParser()
  for await (const bytes of chunks) {
    for (const data of parser.feed(bytes)) {
      const event = readStreamEvent(data)
      if (event?.type === 'chunk' && event.text !== '') yield event.text
    }
  }
}

/** Whether text is an address. */
export function isAddress(text: string): text is Hex {
  return /^0x[0-9a-fA-F]{40}$/.test(text)
}
