import { resolve } from 'node:path'
import { readSmallFile } from '#kit/files.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { CliIo } from './io.ts'

/**
 * The password of a keystore: `--password-file`, `WEIGHTLESS_KEYSTORE_PASSWORD_FILE`, `WEIGHTLESS_KEYSTORE_PASSWORD`,
 * or from the person at the terminal.
 *
 * @throws WeightlessError `PASSWORD_MISSING`
 */
export async function keystorePassword({
  passwordFile,
  io,
  ask,
}: {
  passwordFile: string | undefined
  io: CliIo
  ask: () => Promise<string | undefined>
}): Promise<string> {
  const file = passwordFile ?? (io.env.WEIGHTLESS_KEYSTORE_PASSWORD_FILE || undefined)
  if (file !== undefined) {
    const [line = ''] = (await readSmallFile({ path: resolve(io.cwd, file), maxBytes: 4_096 })).split(/\r?\n/)
    if (line !== '') return line
  }
  const given = (io.env.WEIGHTLESS_KEYSTORE_PASSWORD || undefined) ?? (await ask())
  if (given !== undefined && given !== '') return given
  throw new WeightlessError({
    code: 'PASSWORD_MISSING',
    message: 'no password is given for the keystore',
    fix: 'give --password-file FILE, or set WEIGHTLESS_KEYSTORE_PASSWORD',
  })
}
