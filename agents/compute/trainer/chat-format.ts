import { CHAT_TEMPLATE, type Vocabulary } from '#protocol/gguf/vocabulary.ts'
import { TrainerError } from './error.ts'
import type { TokenExample } from './packing.ts'

/** One turn of a conversation. */
export interface ChatMessage {
  role: 'system' | 'user' | 'assistant'
  content: string
}

/** What a dataset holds: conversations, whose assistant turns are learned, or plain text, all of which is learned. */
export type Example = { kind: 'chat'; messages: readonly ChatMessage[] } | { kind: 'text'; text: string }

/** Turns examples into tokens, the way the base model was taught to read them. */
export interface ExampleEncoder {
  /** `promptWeight` is the weight of what the model does not write itself. */
  encode(example: Example, o: { promptWeight: number; rowTokens: number }): TokenExample[]
}

/** What turns text into tokens for an {@link ExampleEncoder}: this project's `Tokenizer`, or one like it. */
export interface ExampleTokenizer {
  readonly vocabulary: Pick<Vocabulary, 'bos' | 'eos' | 'chatTemplate'>
  /** Tokens are only counted: a chat template that is not known here is taken for ChatML. */
  readonly isCounting?: boolean | undefined
  /** With `special`, control tokens are read from the text. */
  encode(text: string, options?: { special?: boolean | undefined }): readonly number[]
}

/** Where a turn begins and ends, in the text of known chat templates. */
interface TurnFormat {
  open: (role: ChatMessage['role']) => string
  close: string
}

const chatMl: TurnFormat = { open: (role) => `<|im_start|>${role}\n`, close: '<|im_end|>\n' }
const zephyr: TurnFormat = { open: (role) => `<|${role}|>\n`, close: '</s>\n' }
const ownFormat: TurnFormat = { open: (role) => `<|${role}|>`, close: '</s>' }

/**
 * The encoder of a base model. Chat templates are programs (Jinja); the ones in use for small Llama models are known by
 * their marks: this project's own, ChatML, Zephyr's. Text needs no template.
 */
export function exampleEncoder(tokenizer: ExampleTokenizer): ExampleEncoder {
  const { bos, eos, chatTemplate } = tokenizer.vocabulary
  const format = turnFormat(chatTemplate) ?? (tokenizer.isCounting === true ? chatMl : undefined)

  function encodeChat(messages: readonly ChatMessage[], promptWeight: number): TokenExample {
    if (format === undefined) {
      throw new TrainerError({
        code: 'TRAINER_TOKENIZER',
        message: "the base model's chat template is not one that is known here",
        fix: 'give the dataset as text (one {"text": …} per line), written out as the model expects it',
      })
    }
    const tokens = [bos]
    const weights = [0]
    const add = (text: string, special: boolean, weight: number): void => {
      for (const token of tokenizer.encode(text, { special })) {
        tokens.push(token)
        weights.push(weight)
      }
    }
    for (const { role, content } of messages) {
      const weight = role === 'assistant' ? 1 : promptWeight
      add(format.open(role), true, 0)
      // Content is never read for control tokens: a dataset cannot forge a turn.
      add(content, false, weight)
      add(format.close, true, role === 'assistant' ? 1 : 0)
    }
    return { tokens: Int32Array.from(tokens), weights: Float32Array.from(weights) }
  }

  function encodeText(text: string, rowTokens: number): TokenExample[] {
    const tokens = [bos, ...tokenizer.encode(text), eos]
    const pieces: TokenExample[] = []
    // Pieces share one token, so that each token but the first is asked for once.
    for (let at = 0; at + 1 < tokens.length; at += rowTokens) {
      const piece = Int32Array.from(tokens.slice(at, at + rowTokens + 1))
      pieces.push({ tokens: piece, weights: new Float32Array(piece.length).fill(1) })
    }
    return pieces
  }

  return {
    encode: (example, { promptWeight, rowTokens }) =>
      example.kind === 'text' ? encodeText(example.text, rowTokens) : [encodeChat(example.messages, promptWeight)],
  }
}

function turnFormat(chatTemplate: string): TurnFormat | undefined {
  if (chatTemplate === CHAT_TEMPLATE) return ownFormat
  if (chatTemplate.includes('<|im_start|>')) return chatMl
  if (chatTemplate.includes('<|user|>') && chatTemplate.includes('eos_token')) return zephyr
  return undefined
}
