import type { ConfigProblem } from './config-error.ts'
import { plainName, type SchemaKey } from './schema-keys.ts'

/** What a foreign key stands for: one of ours, one of ours in another unit, or nothing here. */
export type ConfigAlias =
  | string
  | { key: string; convert: (value: unknown) => unknown }
  | {
      /** Why the key has no effect; shown as a warning. */
      ignored: string
    }

/** A value found for a key, or why it cannot be one. */
export interface Given {
  key: SchemaKey
  value: unknown
  source: string
  problem?: ConfigProblem
}

export interface CollectContext {
  byName: ReadonlyMap<string, SchemaKey>
  aliases: Readonly<Record<string, ConfigAlias>>
  aliasEnvPrefix: string | undefined
  envPrefix: string
  warn: (warning: string) => void
}

/** The values of a parsed file. Tables are sections; `rpc_listen` at the top may stand for `rpc.listen`. */
export function collectFile({
  file,
  table,
  ...context
}: CollectContext & { file: string; table: Record<string, unknown> }): Given[] {
  const seen = new Map<string, string>()
  return walk(table, [])

  function walk(section: Record<string, unknown>, path: readonly string[]): Given[] {
    return Object.entries(section).flatMap(([name, value]) => {
      const here = [...path, name].join('.')
      const found = find(here, context)
      if (found !== undefined) {
        if ('ignored' in found) {
          context.warn(`${file}: ${here} has no effect: ${found.ignored}`)
          return []
        }
        const twice = seen.get(found.key.key)
        if (twice !== undefined) context.warn(`${file}: ${twice} and ${here} are the same key; ${here} is used`)
        seen.set(found.key.key, here)
        return [convert({ ...found, value, source: `${file}, key ${here}` })]
      }
      if (typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)) {
        return walk(value as Record<string, unknown>, [...path, name])
      }
      context.warn(`${file}: the key ${here} is unknown and has no effect${suggest(here, context)}`)
      return []
    })
  }
}

/** The values of environment variables, which are text. */
export function collectEnvironment({
  env,
  where,
  ...context
}: CollectContext & { env: Readonly<Record<string, string | undefined>>; where: string | undefined }): Given[] {
  const { envPrefix, aliasEnvPrefix } = context
  return Object.entries(env).flatMap(([variable, text]) => {
    // An empty variable means "not set": that is how shells and service files switch one off.
    if (text === undefined || text === '') return []
    const own = variable.startsWith(`${envPrefix}_`)
    const foreign = aliasEnvPrefix !== undefined && variable.startsWith(aliasEnvPrefix)
    if (!own && !foreign) return []
    const name = own ? variable.slice(envPrefix.length + 1) : variable.slice(aliasEnvPrefix?.length ?? 0)
    const source = where === undefined ? `environment ${variable}` : `${where}, ${variable}`
    const found = find(name, context)
    if (found === undefined) {
      context.warn(`${source} is unknown and has no effect${suggest(name, context)}`)
      return []
    }
    if ('ignored' in found) {
      context.warn(`${source} has no effect: ${found.ignored}`)
      return []
    }
    return [convertText({ ...found, text, source })]
  })
}

/** The values of flags: text is read as in the environment, other values are taken as they are. */
export function collectFlags({
  flags,
  ...context
}: CollectContext & { flags: Readonly<Record<string, unknown>> }): Given[] {
  return Object.entries(flags).flatMap(([name, value]) => {
    if (value === undefined) return []
    const found = find(name, context)
    if (found === undefined || 'ignored' in found) {
      context.warn(`the flag ${name} is unknown and has no effect${suggest(name, context)}`)
      return []
    }
    const source = `flag ${found.key.flag}`
    if (found.key.secret) {
      const message = 'is a secret, and flags are visible to every user of the machine'
      const fix = `give it as ${context.envPrefix}_${found.key.envName} or in the configuration file`
      return [{ key: found.key, value: undefined, source, problem: { key: found.key.key, source, message, fix } }]
    }
    return [
      typeof value === 'string' ? convertText({ ...found, text: value, source }) : convert({ ...found, value, source }),
    ]
  })
}

type Found = { key: SchemaKey; change: ((value: unknown) => unknown) | undefined }

function find(name: string, { byName, aliases }: CollectContext): Found | { ignored: string } | undefined {
  const plain = plainName(name)
  const own = byName.get(plain)
  if (own !== undefined) return { key: own, change: undefined }
  const alias = Object.entries(aliases).find(([foreign]) => plainName(foreign) === plain)?.[1]
  if (alias === undefined) return undefined
  if (typeof alias === 'object' && 'ignored' in alias) return alias
  const target = typeof alias === 'string' ? alias : alias.key
  const key = byName.get(plainName(target))
  if (key === undefined) throw new TypeError(`the alias ${name} stands for ${target}, which the schema lacks`)
  return { key, change: typeof alias === 'string' ? undefined : alias.convert }
}

function convertText({ key, change, text, source }: Found & { text: string; source: string }): Given {
  const read = readText(text, key)
  if ('expected' in read) {
    const shown = key.secret ? '' : `, not "${text.slice(0, 80)}"`
    const message = `expected ${read.expected}${shown}`
    return { key, value: undefined, source, problem: { key: key.key, source, message, fix: `expected ${key.type}` } }
  }
  return convert({ key, change, value: read.value, source })
}

function convert({ key, change, value, source }: Found & { value: unknown; source: string }): Given {
  if (change === undefined) return { key, value, source }
  try {
    return { key, value: change(value), source }
  } catch (error) {
    const message = error instanceof Error ? error.message : 'cannot be converted'
    return { key, value: undefined, source, problem: { key: key.key, source, message, fix: `expected ${key.type}` } }
  }
}

function readText(text: string, { textKind }: SchemaKey): { value: unknown } | { expected: string } {
  const trimmed = text.trim()
  switch (textKind) {
    case 'number':
      return /^[+-]?(\d[\d_]*)(\.\d+)?(e[+-]?\d+)?$/i.test(trimmed)
        ? { value: Number(trimmed.replaceAll('_', '')) }
        : { expected: 'a number' }
    case 'bigint':
      return /^-?\d{1,100}$/.test(trimmed) ? { value: BigInt(trimmed) } : { expected: 'an integer' }
    case 'boolean':
      if (/^(true|1|yes|on)$/i.test(trimmed)) return { value: true }
      return /^(false|0|no|off)$/i.test(trimmed) ? { value: false } : { expected: 'true or false' }
    case 'list':
      if (trimmed.startsWith('[')) return readJson(trimmed) ?? { expected: 'a list: a,b,c or JSON' }
      return {
        value: trimmed
          .split(',')
          .map((part) => part.trim())
          .filter((part) => part !== ''),
      }
    case 'json':
      return readJson(trimmed) ?? { expected: 'a JSON object' }
    case 'any':
      return readJson(trimmed) ?? { value: text }
    case 'text':
      return { value: text }
  }
}

function readJson(text: string): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) }
  } catch {
    return undefined
  }
}

function suggest(name: string, { byName }: CollectContext): string {
  const plain = plainName(name)
  let best: { key: string; distance: number } | undefined
  for (const [known, { key }] of byName) {
    const distance = editDistance(plain.slice(0, 64), known.slice(0, 64))
    if (distance <= Math.max(1, Math.floor(known.length / 4)) && distance < (best?.distance ?? Infinity)) {
      best = { key, distance }
    }
  }
  return best === undefined ? '' : `; did you mean ${best.key}?`
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const current = [i]
    for (let j = 1; j <= b.length; j++) {
      const substitution = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      current.push(Math.min((previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1, substitution))
    }
    previous = current
  }
  return previous[b.length] ?? 0
}
