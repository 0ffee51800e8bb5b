import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const WRAPPER = fileURLToPath(new URL('../../../weightless', import.meta.url))

export interface Ran {
  code: number | null
  stdout: string
  /** The same before it is read as text. */
  bytes: Buffer
  stderr: string
}

export interface RunParameters {
  args: readonly string[]
  cwd: string
  env?: Record<string, string> | undefined
  /** Given to standard input, which is then closed. */
  input?: string | undefined
  /** Called with the child as soon as it runs. */
  onStart?: ((child: ChildProcess) => void) | undefined
  /** Called with everything on stderr so far, whenever more has come. */
  onStderr?: ((text: string, child: ChildProcess) => void) | undefined
  /** The child is ended after this. */
  timeoutMs?: number | undefined
}

/** Runs the real command in a process of its own, away from this machine's settings. */
export function runWeightless({
  args,
  cwd,
  env = {},
  input,
  onStart,
  onStderr,
  timeoutMs = 60_000,
}: RunParameters): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(WRAPPER, args, {
      cwd,
      env: {
        PATH: process.env.PATH ?? '',
        HOME: cwd,
        XDG_STATE_HOME: `${cwd}/state`,
        XDG_CONFIG_HOME: `${cwd}/config`,
        ...env,
      },
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: timeoutMs,
    })
    const parts: Buffer[] = []
    let stderr = ''
    child.stdout.on('data', (part: Buffer) => parts.push(part))
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
      onStderr?.(stderr, child)
    })
    child.on('error', reject)
    child.on('close', (code) => {
      const bytes = Buffer.concat(parts)
      resolve({ code, stdout: bytes.toString('utf8'), bytes, stderr })
    })
    child.stdin.on('error', () => {})
    child.stdin.end(input ?? '')
    onStart?.(child)
  })
}
