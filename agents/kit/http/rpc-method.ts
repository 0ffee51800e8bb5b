import { z } from 'zod'
import { RpcError } from './rpc-error.ts'

/** What a method's handler is told about the call. */
export interface RpcCallContext {
  /** Aborted when the caller goes away or the time limit passes. */
  readonly signal: AbortSignal
}

/** A method ready to be called with unchecked parameters. */
export interface RpcMethod {
  call(params: unknown, context: RpcCallContext): Promise<unknown>
}

export interface RpcMethodParameters<S extends z.ZodType> {
  /** A tuple with one schema per position, or any schema of an array. Default: no parameters. */
  params?: S | undefined
  /** The parameters' names in order: they name the culprit in errors and allow calls with named parameters. */
  names?: readonly string[] | undefined
  /** Answers the call. `undefined` goes out as `null`. Throw RpcError for errors the caller is to see. */
  handler: (params: z.output<S>, context: RpcCallContext) => unknown
}

/**
 * Defines a JSON-RPC method. Parameters are checked first; wrong ones answer −32602 `Invalid params: NAME`. Surplus
 * trailing parameters are ignored, as the field's servers do.
 *
 * @example
 * const methods = {
 *   zgs_getFileInfo: rpcMethod({
 *     params: z.tuple([rpcHash(), z.boolean().nullish()]),
 *     names: ['root', 'needAvailable'],
 *     handler: ([root]) => store.fileInfo(root) ?? null,
 *   }),
 * }
 */
export function rpcMethod<S extends z.ZodType = z.ZodTuple<[], null>>({
  params,
  names = [],
  handler,
}: RpcMethodParameters<S>): RpcMethod {
  const arity = params instanceof z.ZodTuple && params.def.rest === null ? params.def.items.length : undefined
  return {
    async call(given, context) {
      if (params === undefined) return handler([] as z.output<S>, context)
      const positional = toPositions(given, names)
      // Filled to the method's arity, a missing parameter is reported under its own name.
      const fitted = arity === undefined ? positional : Array.from({ length: arity }, (_, i) => positional[i])
      const checked = await params.safeParseAsync(fitted)
      if (!checked.success) throw invalidParams(checked.error, names)
      return handler(checked.data, context)
    },
  }
}

/** A count, index or sequence number: a JSON number or decimal text, to `max` (default 2^53 − 1). */
export function rpcUint({ max = Number.MAX_SAFE_INTEGER }: { max?: number } = {}): z.ZodType<number> {
  return rpcUintAsBigint(BigInt(max)).transform(Number)
}

/** An unsigned 64-bit integer, every digit kept: a JSON number of any length, decimal text or 0x-quantity. */
export function rpcUint64(): z.ZodType<bigint> {
  return rpcUintAsBigint(2n ** 64n - 1n)
}

/** A 32-byte hash in hex of either case, with or without `0x`; comes out lower-case with `0x`. */
export function rpcHash(): z.ZodType<`0x${string}`> {
  return z
    .string({ error: 'expected 32 bytes as hex text' })
    .regex(/^(0x)?[0-9a-fA-F]{64}$/, 'expected 32 bytes as 64 hex digits after 0x')
    .transform((text): `0x${string}` => `0x${text.replace(/^0x/, '').toLowerCase()}`)
}

/** Bytes in standard base64 with padding, to `maxBytes`. */
export function rpcBytes({ maxBytes }: { maxBytes: number }): z.ZodType<Uint8Array> {
  return z
    .string({ error: 'expected base64 text' })
    .max(Math.ceil(maxBytes / 3) * 4, `longer than ${maxBytes} bytes`)
    .transform((text, context) => {
      const bytes = Buffer.from(text, 'base64')
      // Node's decoder skips what it does not know; the length tells whether anything was skipped.
      const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0
      if (text.length % 4 !== 0 || bytes.length !== (text.length / 4) * 3 - padding || bytes.length > maxBytes) {
        context.addIssue({ code: 'custom', message: `expected at most ${maxBytes} bytes in base64 with padding` })
        return z.NEVER
      }
      return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
    })
}

function rpcUintAsBigint(max: bigint) {
  const message = `expected an integer from 0 to ${max}`
  return z
    .union([z.number(), z.bigint(), z.string().regex(/^(0x[0-9a-fA-F]{1,64}|[0-9]{1,78})$/)], { error: message })
    .transform((given, context) => {
      const value = typeof given === 'number' && !Number.isSafeInteger(given) ? -1n : BigInt(given)
      if (value >= 0n && value <= max) return value
      context.addIssue({ code: 'custom', message })
      return z.NEVER
    })
}

function toPositions(given: unknown, names: readonly string[]): unknown[] {
  if (given === undefined || given === null) return []
  if (Array.isArray(given)) return given
  if (typeof given !== 'object') throw RpcError.invalidRequest('params must be an array')
  if (names.length === 0) throw RpcError.invalidParams('params', 'this method takes its parameters in an array')
  const unknown = Object.keys(given).find((name) => !names.includes(name))
  if (unknown !== undefined) throw RpcError.invalidParams(unknown.slice(0, 64), `known are ${names.join(', ')}`)
  const last = names.findLastIndex((name) => Object.hasOwn(given, name))
  return names.slice(0, last + 1).map((name) => (Object.hasOwn(given, name) ? Reflect.get(given, name) : undefined))
}

function invalidParams(error: z.ZodError, names: readonly string[]): RpcError {
  const [issue] = error.issues
  const [position, ...rest] = issue?.path ?? []
  if (issue === undefined || position === undefined) {
    return RpcError.invalidParams('params', issue?.message ?? 'the parameters do not fit the method')
  }
  const name = typeof position === 'number' ? (names[position] ?? `params[${position}]`) : String(position)
  const inner = rest.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`)).join('')
  return RpcError.invalidParams(`${name}${inner}`, issue.message)
}
