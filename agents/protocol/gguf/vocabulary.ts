import { GgufError } from './gguf-error.ts'
import type { GgufMetadata } from './layout.ts'
import { arrayOf, numberOf, textOf } from './metadata.ts'
import type { GgufHead } from './read.ts'

/** Kinds of tokens, as GGUF numbers them. */
export const TOKEN_TYPES = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const

/**
 * A SentencePiece-style BPE vocabulary: what GGUF calls the tokenizer `llama`. Spaces are written ▁ (U+2581) in pieces;
 * all 256 byte tokens `<0x00>`..`<0xFF>` must be there, in order, since everything without a piece is written with them.
 */
export interface Vocabulary {
  pieces: readonly string[]
  /** Of two possible merges the higher score goes first. */
  scores: readonly number[]
  /** `TOKEN_TYPES` of each. */
  types: readonly number[]
  bos: number
  eos: number
  unk: number
  pad: number
  /** Jinja; see `CHAT_TEMPLATE`. */
  chatTemplate: string
}

/** Tokens that stand at the beginning of a vocabulary, in this order; never part of text. */
export const CONTROL_TOKENS = ['<unk>', '<s>', '</s>', '<pad>', '<|system|>', '<|user|>', '<|assistant|>'] as const

/** Renders a chat with `CONTROL_TOKENS`: every turn is its role's token, the text, and the end token. */
export const CHAT_TEMPLATE =
  '{{ bos_token }}{% for message in messages %}' +
  "{% if message['role'] == 'system' %}<|system|>{{ message['content'] }}{{ eos_token }}" +
  "{% elif message['role'] == 'user' %}<|user|>{{ message['content'] }}{{ eos_token }}" +
  "{% elif message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}{{ eos_token }}" +
  '{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}'

/** The vocabulary as metadata of a model file. */
export function vocabularyMetadata(vocabulary: Vocabulary): GgufMetadata {
  const { pieces, scores, types, bos, eos, unk, pad, chatTemplate } = vocabulary
  return {
    'tokenizer.ggml.model': { type: 'string', value: 'llama' },
    'tokenizer.ggml.pre': { type: 'string', value: 'default' },
    'tokenizer.ggml.tokens': { type: 'array', of: 'string', value: pieces },
    'tokenizer.ggml.scores': { type: 'array', of: 'f32', value: scores },
    'tokenizer.ggml.token_type': { type: 'array', of: 'i32', value: types },
    'tokenizer.ggml.bos_token_id': { type: 'u32', value: bos },
    'tokenizer.ggml.eos_token_id': { type: 'u32', value: eos },
    'tokenizer.ggml.unknown_token_id': { type: 'u32', value: unk },
    'tokenizer.ggml.padding_token_id': { type: 'u32', value: pad },
    'tokenizer.ggml.add_bos_token': { type: 'bool', value: true },
    'tokenizer.ggml.add_eos_token': { type: 'bool', value: false },
    // Otherwise text after every control token would begin with a space.
    'tokenizer.ggml.add_space_prefix': { type: 'bool', value: false },
    'tokenizer.ggml.remove_extra_whitespaces': { type: 'bool', value: false },
    'tokenizer.chat_template': { type: 'string', value: chatTemplate },
  }
}

/**
 * The vocabulary of a model file.
 *
 * @throws GgufError `VOCABULARY` for tokenizers other than `llama`, `GGUF_METADATA`
 */
export function readVocabulary(head: GgufHead): Vocabulary {
  const kind = textOf(head, 'tokenizer.ggml.model')
  if (kind !== 'llama') {
    throw new GgufError({
      code: 'VOCABULARY',
      message: `the tokenizer of the file is ${kind}; only llama (SentencePiece BPE) is read here`,
      details: { kind },
    })
  }
  return {
    pieces: arrayOf(head, 'tokenizer.ggml.tokens', 'string'),
    scores: arrayOf(head, 'tokenizer.ggml.scores', 'number'),
    types: arrayOf(head, 'tokenizer.ggml.token_type', 'number'),
    bos: numberOf(head, 'tokenizer.ggml.bos_token_id', 1),
    eos: numberOf(head, 'tokenizer.ggml.eos_token_id', 2),
    unk: numberOf(head, 'tokenizer.ggml.unknown_token_id', 0),
    pad: numberOf(head, 'tokenizer.ggml.padding_token_id', 0),
    chatTemplate: textOf(head, 'tokenizer.chat_template', ''),
  }
}
