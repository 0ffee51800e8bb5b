import { type Llama, LlamaGrammar } from 'node-llama-cpp'
import { EngineError } from '../engine-error.ts'
import type { ChatRequest } from '../requests.ts'
import { unsupported } from './plan.ts'
import { toolCallSchema } from './tool-calls.ts'

const MAX_SCHEMA_CHARACTERS = 65_536
const MAX_DEPTH = 32
/** llama.cpp unrolls repetitions. */
const MAX_REPETITIONS = 1000

/** The end of what a JSON schema grammar lets a model write; text from there on is cut. */
export const GRAMMAR_END = '\n\n\n\n'

/**
 * The grammar that a chat asks for: its `response_format`, or a call that is forced by `tool_choice`.
 *
 * @throws EngineError `ENGINE_UNSUPPORTED`, `ENGINE_REQUEST`
 */
export async function grammarOf(llama: Llama, request: ChatRequest): Promise<LlamaGrammar | undefined> {
  const forced = toolCallSchema(request)
  if (forced !== undefined) {
    const none: unknown = Reflect.get(forced, 'oneOf')
    if (Array.isArray(none) && none.length === 0) {
      throw new EngineError({
        code: 'ENGINE_REQUEST',
        message: 'tool_choice forces a call of a tool that is not there',
        details: { field: 'tool_choice' },
      })
    }
    return schemaGrammar(llama, forced, 'tools')
  }
  const format = request.responseFormat
  if (format === undefined || format.type === 'text') return undefined
  if (format.type === 'json_object') return LlamaGrammar.getFor(llama, 'json')
  return schemaGrammar(llama, format.json_schema.schema, 'response_format')
}

async function schemaGrammar(llama: Llama, schema: Record<string, unknown>, field: string): Promise<LlamaGrammar> {
  checkSchema(schema, field)
  try {
    // The library's type lists the schemas that it can make a grammar of; what others do is caught below.
    const known = schema as Parameters<Llama['createGrammarForJsonSchema']>[0]
    return await llama.createGrammarForJsonSchema(known)
  } catch (cause) {
    throw new EngineError({
      code: 'ENGINE_UNSUPPORTED',
      message: `${field}: no grammar can be made of this JSON schema`,
      fix: 'use objects, arrays, enum, const, strings, numbers, booleans and null',
      details: { field },
      cause,
    })
  }
}

function checkSchema(schema: Record<string, unknown>, field: string): void {
  if (JSON.stringify(schema).length > MAX_SCHEMA_CHARACTERS) throw unsupported(field, 'the JSON schema is too large')
  const walk = (value: unknown, depth: number): void => {
    if (depth > MAX_DEPTH) throw unsupported(field, 'the JSON schema is too deep')
    if (typeof value !== 'object' || value === null) return
    for (const [key, inner] of Object.entries(value)) {
      const isCount = /^(min|max)(Items|Length|Properties)$/.test(key)
      if (isCount && typeof inner === 'number' && !(inner >= 0 && inner <= MAX_REPETITIONS)) {
        throw unsupported(field, `${key} must lie within 0 and ${MAX_REPETITIONS}`)
      }
      walk(inner, depth + 1)
    }
  }
  walk(schema, 0)
}
