import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'dotenv'
import { ConfigError } from './config-error.ts'

const MAX_FILE_BYTES = 2 ** 20

/**
 * The variables of the `.env` file in a folder, without putting them into the process's own environment; none when
 * there is no such file.
 *
 * @throws ConfigError `CONFIG_FILE` when the file is there and cannot be read.
 */
export function readDotenv(folder: string): Record<string, string> {
  try {
    return parse(readConfigText(join(folder, '.env')))
  } catch (error) {
    const cause = error instanceof ConfigError ? error.cause : undefined
    if (cause instanceof Error && Reflect.get(cause, 'code') === 'ENOENT') return {}
    throw error
  }
}

/**
 * The environment with `.env` beneath it. A variable that is set but empty counts as not set.
 *
 * @throws ConfigError `CONFIG_FILE`
 * @example
 * const account = await resolveSigner({ env: readEnvironment() })
 */
export function readEnvironment({
  cwd = process.cwd(),
  env = process.env,
}: {
  cwd?: string | undefined
  env?: Readonly<Record<string, string | undefined>> | undefined
} = {}): Record<string, string> {
  const set = Object.entries(env).filter(
    (entry): entry is [string, string] => entry[1] !== undefined && entry[1] !== '',
  )
  return { ...readDotenv(cwd), ...Object.fromEntries(set) }
}

/**
 * A configuration file's text, at most 1 MiB.
 *
 * @throws ConfigError `CONFIG_FILE`
 */
export function readConfigText(file: string): string {
  try {
    const { size } = statSync(file)
    if (size <= MAX_FILE_BYTES) return readFileSync(file, 'utf8')
  } catch (cause) {
    const missing = cause instanceof Error && Reflect.get(cause, 'code') === 'ENOENT'
    const message = missing ? 'does not exist' : `cannot be read: ${cause instanceof Error ? cause.message : cause}`
    throw configFileError({ file, message, fix: 'check the path and its permissions', cause })
  }
  throw configFileError({ file, message: `is larger than ${MAX_FILE_BYTES} bytes`, fix: 'give a configuration file' })
}

/** `CONFIG_FILE`: what is wrong with a whole file. */
export function configFileError({
  file,
  message,
  fix,
  cause,
}: {
  file: string
  message: string
  fix: string
  cause?: unknown
}): ConfigError {
  const problems = [{ key: '', source: file, message: `the file ${message}`, fix }]
  return new ConfigError({ code: 'CONFIG_FILE', problems, cause })
}
