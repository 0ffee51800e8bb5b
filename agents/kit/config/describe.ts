import type { z } from 'zod'
import { type SchemaKey, schemaKeys } from './schema-keys.ts'

/** One key as help and documentation show it. */
export interface ConfigKey {
  key: string
  flag: string
  /** The environment variable, with its prefix. */
  env: string
  type: string
  /** As text; undefined when there is none. Empty for secrets. */
  default: string | undefined
  required: boolean
  description: string
  secret: boolean
}

/**
 * Every key of a schema with its type, default and description (zod's `.describe` or `.meta({ description, type })`).
 *
 * @example
 * describeConfig(nodeConfigSchema, { envPrefix: 'WEIGHTLESS_NODE' })[0]?.env // 'WEIGHTLESS_NODE_DATA_DIR'
 */
export function describeConfig(schema: z.ZodObject, { envPrefix }: { envPrefix: string }): ConfigKey[] {
  return schemaKeys(schema).map((key) => ({
    key: key.key,
    flag: key.flag,
    env: `${envPrefix}_${key.envName}`,
    type: key.type,
    default: defaultText(key),
    required: key.required,
    description: key.description,
    secret: key.secret,
  }))
}

/** The keys as a Markdown table. */
export function configMarkdown(keys: readonly ConfigKey[]): string {
  const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ')
  const rows = keys.map(({ key, env, type, default: byDefault, required, description }) => {
    const shown = required ? 'required' : byDefault === undefined || byDefault === '' ? '' : `\`${byDefault}\``
    return `| \`${key}\` | ${cell(type)} | ${cell(shown)} | ${cell(description)} | \`${env}\` |`
  })
  return ['| Key | Type | Default | Meaning | Environment |', '|---|---|---|---|---|', ...rows, ''].join('\n')
}

/** The keys as lines for `--help`: flag, type, meaning, default. */
export function configHelp(keys: readonly ConfigKey[]): string {
  const left = keys.map(({ flag, env, secret }) => (secret ? env : flag))
  const width = Math.min(40, Math.max(0, ...left.map((text) => text.length)))
  return keys
    .map(({ type, default: byDefault, required, description }, i) => {
      const shown = required ? ' [required]' : byDefault === undefined || byDefault === '' ? '' : ` [${byDefault}]`
      return `  ${(left[i] ?? '').padEnd(width)}  ${description === '' ? '' : `${description}; `}${type}${shown}\n`
    })
    .join('')
}

function defaultText({ default: value, secret }: SchemaKey): string | undefined {
  if (value === undefined) return undefined
  if (secret) return ''
  if (Array.isArray(value)) return value.join(',')
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value)
}
