import { WeightlessError } from '#protocol/error.ts'

/** One thing wrong with the configuration. */
export interface ConfigProblem {
  /** The key, `rpc.port`. Empty when the whole file is meant. */
  key: string
  /** Where the value came from: a file's path, an environment variable's name, a flag, `default`. */
  source: string
  /** What is wrong, with the limit. Never holds a secret's value. */
  message: string
  /** What to do. */
  fix: string
}

/** The configuration cannot be used. Lists every problem at once. Codes `CONFIG_INVALID`, `CONFIG_FILE`. */
export class ConfigError extends WeightlessError {
  readonly problems: readonly ConfigProblem[]

  constructor({
    code = 'CONFIG_INVALID',
    problems,
    cause,
  }: { code?: string; problems: ConfigProblem[]; cause?: unknown }) {
    const lines = problems.map(({ key, source, message, fix }) => {
      return `  ${key === '' ? '' : `${key}: `}${message} (${source})\n    → ${fix}`
    })
    const count = problems.length === 1 ? 'one thing is' : `${problems.length} things are`
    super({ code, message: `${count} wrong in the configuration:\n${lines.join('\n')}`, details: { problems }, cause })
    this.problems = problems
  }
}
