import { Command, CommanderError, type OutputConfiguration } from 'commander'
import { WeightlessError } from '#protocol/error.ts'
import { EXIT_CODE, EXIT_CODE_HELP, exitCodeOf } from './exit-code.ts'
import { type CliEnvironment, type CliIo, createIo } from './io.ts'
import { addGlobalOptions, globalOptions } from './options.ts'

/** A command file: `agents/cli/commands/<name>.ts`. */
export interface CommandModule {
  register(program: Command, io: CliIo): void
}

/** Command files in the order of `--help`, with the commands each registers: only those needed are imported. */
export const COMMAND_FILES: readonly { file: string; names: readonly string[] }[] = [
  { file: 'up', names: ['up', 'down'] },
  { file: 'upload', names: ['upload'] },
  { file: 'download', names: ['download'] },
  { file: 'info', names: ['info'] },
  { file: 'status', names: ['status'] },
  { file: 'storage', names: ['storage'] },
  { file: 'key', names: ['key'] },
  { file: 'node', names: ['node'] },
  { file: 'indexer', names: ['indexer'] },
  { file: 'miner', names: ['miner'] },
  { file: 'kv', names: ['kv'] },
  { file: 'da', names: ['da'] },
  { file: 'da-signer', names: ['da-signer'] },
  { file: 'disperser', names: ['disperser'] },
  { file: 'alt-da', names: ['alt-da'] },
  { file: 'deposit', names: ['deposit'] },
  { file: 'chat', names: ['chat'] },
  { file: 'gateway', names: ['gateway'] },
  { file: 'providers', names: ['providers'] },
  { file: 'receipt', names: ['receipt'] },
  { file: 'provider', names: ['provider'] },
  { file: 'finetune', names: ['finetune'] },
  { file: 'finetune-provider', names: ['finetune-provider'] },
  { file: 'model', names: ['model'] },
  { file: 'adapter', names: ['adapter'] },
  { file: 'deploy', names: ['deploy'] },
]

/**
 * Run the command line once and return the exit code. Never throws and never ends the process itself.
 *
 * @example
 * process.exitCode = await runCli({ argv: ['info', root], env: process.env, cwd: process.cwd(), stdin, stdout, stderr })
 */
export async function runCli(environment: CliEnvironment): Promise<number> {
  const io = createIo(environment)
  try {
    const program = await createProgram(io)
    await program.parseAsync([...environment.argv], { from: 'user' })
    return io.exitCode
  } catch (error) {
    if (error instanceof CommanderError) return usageExit({ error, io })
    if (io.interruptedBy === 'SIGTERM' && isAbort(error)) return EXIT_CODE.terminated
    if (io.interruptedBy === 'SIGINT' && isAbort(error)) return EXIT_CODE.interrupted
    io.fail(error)
    return exitCodeOf(error)
  } finally {
    io.dispose()
  }
}

async function createProgram(io: CliIo): Promise<Command> {
  const program = new Command('weightless')
    .description('decentralised storage, data availability and compute')
    .version('0.1.0')
    .enablePositionalOptions()
    .showHelpAfterError('(weightless --help lists the commands)')
    .addHelpText('after', `\n${EXIT_CODE_HELP}`)
  const toError = (text: string) => void (io.json || io.stderr.write(text))
  const output: OutputConfiguration = { writeOut: (text: string) => void io.stdout.write(text), writeErr: toError }
  program.configureOutput(output)
  for (const option of globalOptions()) program.addOption(option)

  // A value that happens to be a command's name costs an import, nothing else.
  const named = COMMAND_FILES.filter(({ names }) => names.some((name) => io.argv.includes(name)))
  for (const { file } of named.length > 0 ? named : COMMAND_FILES) {
    const module = (await import(`./commands/${file}.ts`)) as CommandModule
    module.register(program, io)
  }
  for (const command of program.commands) {
    addGlobalOptions(command)
    command.addHelpText(
      'after',
      '\nFlags of every command (--json, --network, --rpc, …) and exit codes: weightless --help',
    )
    inherit(command, output)
  }
  return program.exitOverride()
}

/** Nested commands must throw rather than end the process, and write to our streams. */
function inherit(command: Command, output: OutputConfiguration): void {
  command.configureOutput(output).exitOverride()
  for (const child of command.commands) inherit(child, output)
}

function usageExit({ error, io }: { error: CommanderError; io: CliIo }): number {
  if (error.exitCode === 0) return EXIT_CODE.ok
  if (io.json) {
    io.fail(
      new WeightlessError({
        code: 'CLI_USAGE',
        message: error.message.replace(/^error: /, ''),
        fix: 'see weightless --help',
      }),
    )
  }
  return EXIT_CODE.usage
}

function isAbort(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) if (at.name === 'AbortError') return true
  return false
}
