import { spawn } from 'node:child_process'
import path from 'node:path'

/** How a command ended. */
export interface CommandResult {
  /** Exit code; 124 when it ran past its limit, 127 when it could not be started, 128 + n when signal n ended it. */
  code: number
  /** The last mebibyte of stdout and stderr together. */
  output: string
  durationMs: number
}

const keptOutputChars = 1 << 20

/**
 * Runs a command to its end in its own process group, with the repository's own tools first on the PATH. Never rejects:
 * a command that cannot start or that runs past `timeoutMs` has a code and an output that say so. Ctrl-C and SIGTERM are
 * passed on, and this process ends with 130 once the command has.
 *
 * @param echo called with each piece of output as it comes
 */
export function runCommand({
  command,
  cwd,
  env = {},
  timeoutMs,
  echo,
}: {
  command: readonly [string, ...string[]]
  cwd: string
  env?: Record<string, string>
  timeoutMs: number
  echo?: ((text: string) => void) | undefined
}): Promise<CommandResult> {
  const started = performance.now()
  const [file, ...args] = command
  const { promise, resolve } = Promise.withResolvers<CommandResult>()
  let output = ''
  let timedOut = false
  const keep = (text: string) => {
    output = `${output}${text}`.slice(-keptOutputChars)
    echo?.(text)
  }
  const finish = (code: number) => resolve({ code, output, durationMs: performance.now() - started })

  const child = spawn(file, args, {
    cwd,
    env: { ...process.env, ...env, PATH: toolPath(cwd) },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  const endGroup = (signal: NodeJS.Signals) => {
    if (child.pid === undefined) return
    try {
      process.kill(-child.pid, signal)
    } catch {
      // The group has ended already.
    }
  }
  const onExit = () => endGroup('SIGKILL')
  let interrupted = false
  const onSignal = () => {
    if (interrupted) process.exit(130)
    interrupted = true
    endGroup('SIGTERM')
  }
  process.once('exit', onExit)
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  const timer = setTimeout(() => {
    timedOut = true
    keep(`\n${command.join(' ')}: stopped after ${Math.round(timeoutMs / 1000)} s, its time limit\n`)
    endGroup('SIGKILL')
  }, timeoutMs)

  const decoders = [new TextDecoder(), new TextDecoder()] as const
  child.stdout.on('data', (chunk: Buffer) => keep(decoders[0].decode(chunk, { stream: true })))
  child.stderr.on('data', (chunk: Buffer) => keep(decoders[1].decode(chunk, { stream: true })))
  child.on('error', (error) => {
    keep(`${file}: ${error.message}\n`)
    clearTimeout(timer)
    finish(127)
  })
  child.on('close', (code, signal) => {
    clearTimeout(timer)
    process.off('exit', onExit)
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
    // Whatever the command left running in its group would hold ports and files of the next one.
    endGroup('SIGKILL')
    if (interrupted) process.exit(130)
    finish(timedOut ? 124 : (code ?? 128 + signalNumber(signal)))
  })
  return promise
}

function toolPath(cwd: string): string {
  return [path.join(cwd, 'node_modules', '.bin'), process.env.PATH ?? ''].join(path.delimiter)
}

function signalNumber(signal: NodeJS.Signals | null): number {
  return signal === 'SIGINT' ? 2 : signal === 'SIGKILL' ? 9 : signal === 'SIGTERM' ? 15 : 1
}
