import { z } from 'zod'
import { isSecretName } from '../redact.ts'

/** One key of a configuration schema. */
export interface SchemaKey {
  /** Path in the schema: `['rpc', 'listen']`. */
  path: readonly string[]
  /** `rpc.listen`. */
  key: string
  /** Name in the environment, after the prefix: `RPC_LISTEN`. */
  envName: string
  /** The flag: `--rpc-listen`. */
  flag: string
  /** For people: `integer 1…65535`, `text`, `true or false`. */
  type: string
  /** What text is to be turned into before it is checked. */
  textKind: TextKind
  default: unknown
  required: boolean
  description: string
  /** Never shown, never taken from a flag. */
  secret: boolean
}

export type TextKind = 'text' | 'number' | 'bigint' | 'boolean' | 'list' | 'json' | 'any'

/** The name all spellings of a key share: `rpcListen`, `rpc_listen`, `rpc-listen`, `rpc.listen` are one. */
export function plainName(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z0-9]/g, '')
}

/**
 * The keys of a schema in order; nested objects are sections.
 *
 * @throws TypeError when two keys would have the same name in the environment.
 */
export function schemaKeys(schema: z.ZodObject): SchemaKey[] {
  const keys = walk(schema, [])
  const seen = new Map<string, string>()
  for (const { key } of keys) {
    const other = seen.get(plainName(key))
    if (other !== undefined) throw new TypeError(`the configuration keys ${other} and ${key} cannot be told apart`)
    seen.set(plainName(key), key)
  }
  return keys
}

/** The sections that get an empty object when nothing in them is given, so that defaults inside apply. */
export function requiredSections(schema: z.ZodObject, path: readonly string[] = []): string[][] {
  return Object.entries(schema.shape).flatMap(([name, entry]) => {
    if (!(entry instanceof z.ZodObject)) return []
    return [[...path, name], ...requiredSections(entry, [...path, name])]
  })
}

function walk(schema: z.ZodObject, path: readonly string[]): SchemaKey[] {
  return Object.entries(schema.shape).flatMap(([name, entry]) => {
    const here = [...path, name]
    const bare = unwrap(entry as z.ZodType)
    if (bare.inner instanceof z.ZodObject) return walk(bare.inner, here)
    const words = here.map((part) => part.replaceAll(/([a-z0-9])([A-Z])/g, '$1_$2'))
    const secret = bare.meta.secret === true || (isSecretName(name) && bare.meta.secret !== false)
    return [
      {
        path: here,
        key: here.join('.'),
        envName: words.join('_').toUpperCase(),
        flag: `--${words.join('-').replaceAll('_', '-').toLowerCase()}`,
        type: typeof bare.meta.type === 'string' ? bare.meta.type : typeName(bare.inner),
        textKind: textKind(bare.inner),
        default: bare.default,
        required: !bare.optional,
        description: typeof bare.meta.description === 'string' ? bare.meta.description : '',
        secret,
      },
    ]
  })
}

interface Unwrapped {
  inner: z.ZodType
  optional: boolean
  default: unknown
  meta: Record<string, unknown>
}

/** The schema under default, optional and nullable, with the descriptions met on the way (the outermost wins). */
function unwrap(schema: z.ZodType): Unwrapped {
  const meta = (schema.meta() ?? {}) as Record<string, unknown>
  if (schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) {
    const below = unwrap(schema.def.innerType as z.ZodType)
    return { ...below, optional: true, default: schema.def.defaultValue, meta: { ...below.meta, ...meta } }
  }
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable) {
    const below = unwrap(schema.def.innerType as z.ZodType)
    return { ...below, optional: true, meta: { ...below.meta, ...meta } }
  }
  if (schema instanceof z.ZodPipe) {
    const below = unwrap(schema.def.in as z.ZodType)
    return { ...below, meta: { ...below.meta, ...meta } }
  }
  if (schema instanceof z.ZodReadonly) {
    const below = unwrap(schema.def.innerType as z.ZodType)
    return { ...below, meta: { ...below.meta, ...meta } }
  }
  return { inner: schema, optional: false, default: undefined, meta }
}

function textKind(schema: z.ZodType): TextKind {
  if (schema instanceof z.ZodNumber) return 'number'
  if (schema instanceof z.ZodBigInt) return 'bigint'
  if (schema instanceof z.ZodBoolean) return 'boolean'
  if (schema instanceof z.ZodArray || schema instanceof z.ZodTuple || schema instanceof z.ZodSet) return 'list'
  if (schema instanceof z.ZodRecord || schema instanceof z.ZodMap) return 'json'
  if (schema instanceof z.ZodUnion || schema instanceof z.ZodAny || schema instanceof z.ZodUnknown) return 'any'
  if (schema instanceof z.ZodLiteral) return typeof schema.value === 'string' ? 'text' : 'any'
  return 'text'
}

function typeName(schema: z.ZodType): string {
  if (schema instanceof z.ZodNumber) return numberName(schema)
  if (schema instanceof z.ZodBigInt) return 'integer'
  if (schema instanceof z.ZodBoolean) return 'true or false'
  if (schema instanceof z.ZodEnum) return schema.options.join(' | ')
  if (schema instanceof z.ZodLiteral) return [...schema.values].map(String).join(' | ')
  if (schema instanceof z.ZodArray) return `list of ${typeName(unwrap(schema.element as z.ZodType).inner)}`
  if (schema instanceof z.ZodRecord) return 'table'
  if (schema instanceof z.ZodUnion) {
    return schema.options.map((option) => typeName(unwrap(option as z.ZodType).inner)).join(' or ')
  }
  return 'text'
}

function numberName(schema: z.ZodNumber): string {
  const integer = schema.isInt ? 'integer' : 'number'
  const bound = (value: number | null, none: number): string => {
    return value === null || Math.abs(value) >= none ? '' : String(value)
  }
  const least = bound(schema.minValue, Number.MAX_SAFE_INTEGER)
  const most = bound(schema.maxValue, Number.MAX_SAFE_INTEGER)
  return least === '' && most === '' ? integer : `${integer} ${least}…${most}`
}
