import { WeightlessError } from '../error.ts'

/**
 * A GGUF file, or something on its way into one, is not what it must be. Codes: `GGUF_FORMAT` (not GGUF v3, or nonsense in
 * it), `GGUF_SHORT` (cut off), `GGUF_LIMIT` (more than this reader takes), `GGUF_TYPE` (a tensor type that is not
 * supported), `GGUF_TENSOR` (missing, or of the wrong shape), `GGUF_METADATA` (a key is missing or has the wrong type),
 * `VOCABULARY` (a tokenizer that cannot work).
 */
export class GgufError extends WeightlessError {}
