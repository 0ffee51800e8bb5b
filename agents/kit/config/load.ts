import { resolve } from 'node:path'
import { parse as parseToml, TomlError } from 'smol-toml'
import type { z } from 'zod'
import { WeightlessError } from '#protocol/error.ts'
import { type ConfigAlias, collectEnvironment, collectFile, collectFlags, type Given } from './collect.ts'
import { ConfigError, type ConfigProblem } from './config-error.ts'
import { configFileError, readConfigText, readDotenv } from './environment.ts'
import { plainName, requiredSections, type SchemaKey, schemaKeys } from './schema-keys.ts'

export type { ConfigAlias } from './collect.ts'
export { ConfigError, type ConfigProblem } from './config-error.ts'

export interface LoadConfigParameters<S extends z.ZodObject> {
  /** Keys in camelCase; nested objects are sections. */
  schema: S
  /** A TOML or JSON file, by its ending; keys in camelCase, snake_case or kebab-case. */
  file?: string | undefined
  /** Default `process.env`. */
  env?: Readonly<Record<string, string | undefined>> | undefined
  /** `WEIGHTLESS_NODE` makes `WEIGHTLESS_NODE_RPC_LISTEN` set `rpc.listen`. */
  envPrefix: string
  /** Values from the command line by key (`rpcListen` or `rpc.listen`); undefined ones are passed over. */
  flags?: Readonly<Record<string, unknown>> | undefined
  /** Foreign names that are taken too, by their name in the file: `{ blockchain_rpc_endpoint: 'rpcUrl' }`. */
  aliases?: Readonly<Record<string, ConfigAlias>> | undefined
  /** Environment prefix of the foreign names, with its separator: `ZGS_NODE__`. */
  aliasEnvPrefix?: string | undefined
  /** Where `.env` is looked for and relative `file` starts. Default the working directory. */
  cwd?: string | undefined
  /** Told of unknown keys and the like. Default: Node's process warnings. */
  onWarning?: ((warning: string) => void) | undefined
}

/**
 * Gathers the configuration: defaults, then the file, then `.env`, then the environment, then flags; later ones win.
 * Unknown keys warn. Everything wrong is reported together.
 *
 * @throws ConfigError `CONFIG_INVALID` with all problems, or `CONFIG_FILE` when a file cannot be read or parsed.
 * @example
 * const config = loadConfig({ schema: nodeConfigSchema, file: 'node.toml', envPrefix: 'WEIGHTLESS_NODE' })
 */
export function loadConfig<S extends z.ZodObject>(parameters: LoadConfigParameters<S>): z.output<S> {
  const { schema, envPrefix, env = process.env, flags = {}, cwd = process.cwd() } = parameters
  const warn = parameters.onWarning ?? ((warning: string) => process.emitWarning(warning, { code: 'CONFIG' }))
  const keys = schemaKeys(schema)
  const context = {
    byName: new Map(keys.map((key) => [plainName(key.key), key])),
    aliases: parameters.aliases ?? {},
    aliasEnvPrefix: parameters.aliasEnvPrefix,
    envPrefix,
    warn,
  }

  const problems: ConfigProblem[] = []
  const given = new Map<string, Given>()
  const take = (found: Given[]): void => {
    for (const one of found) {
      if (one.problem !== undefined) problems.push(one.problem)
      else given.set(one.key.key, one)
    }
  }
  if (parameters.file !== undefined) {
    const file = resolve(cwd, parameters.file)
    take(collectFile({ ...context, file: parameters.file, table: readTable(file) }))
  }
  take(collectEnvironment({ ...context, env: readDotenv(cwd), where: '.env' }))
  take(collectEnvironment({ ...context, env, where: undefined }))
  take(collectFlags({ ...context, flags }))

  const checked = schema.safeParse(nest(schema, given))
  if (!checked.success) {
    // A value that could not be read at all would show up again as missing.
    const reported = new Set(problems.map(({ key }) => key))
    for (const issue of checked.error.issues) {
      const problem = describeIssue({ issue, keys, given, envPrefix, file: parameters.file })
      if (!reported.has(problem.key)) problems.push(problem)
    }
  }
  if (problems.length > 0 || !checked.success) throw new ConfigError({ problems })
  return checked.data
}

function nest(schema: z.ZodObject, given: ReadonlyMap<string, Given>): Record<string, unknown> {
  const root: Record<string, unknown> = {}
  const section = (path: readonly string[]): Record<string, unknown> => {
    let at = root
    for (const part of path) {
      at[part] ??= {}
      at = at[part] as Record<string, unknown>
    }
    return at
  }
  for (const path of requiredSections(schema)) section(path)
  for (const { key, value } of given.values()) {
    const last = key.path[key.path.length - 1]
    if (last !== undefined) section(key.path.slice(0, -1))[last] = value
  }
  return root
}

function describeIssue({
  issue,
  keys,
  given,
  envPrefix,
  file,
}: {
  issue: z.core.$ZodIssue
  keys: readonly SchemaKey[]
  given: ReadonlyMap<string, Given>
  envPrefix: string
  file: string | undefined
}): ConfigProblem {
  const path = issue.path.map(String)
  const key = keys.find((one) => one.path.every((part, i) => path[i] === part))
  if (key === undefined) {
    return { key: path.join('.'), source: file ?? 'configuration', message: issue.message, fix: 'correct this section' }
  }
  const one = given.get(key.key)
  const places = [
    file === undefined ? 'in a configuration file' : `in ${file}`,
    `as ${envPrefix}_${key.envName}`,
    ...(key.secret ? [] : [`or with ${key.flag}`]),
  ].join(', ')
  if (one === undefined) {
    const about = key.description === '' ? key.type : `${key.type}: ${key.description}`
    return { key: key.key, source: 'missing', message: `is required (${about})`, fix: `give it ${places}` }
  }
  const inside = path.slice(key.path.length)
  const shown = key.secret ? '' : `, not ${show(one.value)}`
  const message = `${inside.length === 0 ? '' : `entry ${inside.join('.')}: `}${issue.message}${shown}`
  return {
    key: key.key,
    source: one.source,
    message,
    fix: `expected ${key.type}; change it where it is set: ${one.source}`,
  }
}

function show(value: unknown): string {
  const text =
    typeof value === 'string' ? `"${value}"` : typeof value === 'bigint' ? String(value) : JSON.stringify(value)
  return text === undefined ? 'nothing' : text.length > 80 ? `${text.slice(0, 80)}…` : text
}

function readTable(file: string): Record<string, unknown> {
  const text = readConfigText(file)
  try {
    const table: unknown = /\.json$/i.test(file)
      ? JSON.parse(text)
      : parseToml(text, { integersAsBigInt: 'asNeeded', maxDepth: 32 })
    if (typeof table === 'object' && table !== null && !Array.isArray(table)) return table as Record<string, unknown>
    throw new WeightlessError({ code: 'CONFIG_FILE', message: 'the file holds no table of keys' })
  } catch (cause) {
    const at = cause instanceof TomlError ? ` at line ${cause.line}, column ${cause.column}` : ''
    const reason = cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause)
    throw configFileError({ file, message: `cannot be understood${at}: ${reason}`, fix: 'correct the syntax', cause })
  }
}
