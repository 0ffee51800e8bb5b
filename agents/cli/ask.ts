import { isCancel, password } from '@clack/prompts'
import { WeightlessError } from '#protocol/error.ts'
import type { CliIo } from './io.ts'

/** Most characters read from standard input for a secret. */
const MAX_SECRET_CHARS = 4_096

/**
 * A secret from the person at the terminal, not echoed. Undefined where nobody can be asked (`--json`, no terminal).
 *
 * @throws an AbortError when the person declines
 */
export async function askSecret({ io, question }: { io: CliIo; question: string }): Promise<string | undefined> {
  if (io.json || io.stdin.isTTY !== true || !io.isTty) return undefined
  const answer = await password({
    message: question.replace(/:\s*$/, ''),
    input: io.stdin as NodeJS.ReadStream,
    output: io.stderr as NodeJS.WriteStream,
  })
  if (isCancel(answer)) throw new DOMException('declined', 'AbortError')
  return answer
}

/** The first line of standard input, where it is a pipe or a file. Undefined on a terminal. */
export async function readSecretLine({ io }: { io: CliIo }): Promise<string | undefined> {
  if (io.stdin.isTTY === true) return undefined
  let text = ''
  for await (const part of io.stdin) {
    text += String(part)
    if (text.length > MAX_SECRET_CHARS) {
      throw new WeightlessError({
        code: 'CLI_USAGE',
        message: `standard input holds more than ${MAX_SECRET_CHARS} characters`,
        fix: 'give one line',
      })
    }
    if (text.includes('\n')) break
  }
  const [line = ''] = text.split(/\r?\n/)
  return line === '' ? undefined : line
}
