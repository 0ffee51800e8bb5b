import { availableParallelism } from 'node:os'
import { matchingFiles } from '../build/content-hash.ts'
import { type CommandResult, runCommand } from '../process/run-command.ts'
import { type StageCounts, sumCounts } from './counts.ts'
import { failureText, outcomeLine, runTestFile, type TestFileOutcome } from './test-file.ts'

/** One part of the test command. */
export interface Stage {
  name: string
  /** `check`: a command that is right or wrong, counted as one. `tests`: counted by its own tests. */
  kind: 'check' | 'tests'
  run(options: { root: string; echo?: ((text: string) => void) | undefined }): Promise<StageResult>
}

/** How a stage went. `problem` says why a stage failed that has no failed test to show. */
export interface StageResult {
  counts: StageCounts
  output: string
  durationMs: number
  problem?: string
}

/** A command that passes when it exits with 0. */
export function checkStage({ name, command }: { name: string; command: readonly [string, ...string[]] }): Stage {
  return {
    name,
    kind: 'check',
    run: async ({ root, echo }) => {
      const { code, output, durationMs } = await runCommand({ command, cwd: root, timeoutMs: 300_000, echo })
      const counts = { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0 }
      return { counts, output, durationMs, ...(code === 0 ? {} : { problem: `exit code ${code}` }) }
    },
  }
}

/** A Hardhat test runner, counted by the summary it prints (`N passing`, `N failing`, `N pending`). */
export function hardhatStage({
  name,
  command,
  files,
}: {
  name: string
  command: readonly [string, ...string[]]
  files: readonly string[]
}): Stage {
  return {
    name,
    kind: 'tests',
    run: async ({ root, echo }) => {
      if (matchingFiles({ root, patterns: files }).length === 0) return noTests(files)
      const result = await runCommand({ command, cwd: root, timeoutMs: 900_000, echo, env: { NO_COLOR: '1' } })
      return judge({ result, counts: hardhatCounts(result.output) })
    },
  }
}

/** Counts from the summary at the end of a Hardhat test run; undefined when there is none. */
export function hardhatCounts(output: string): StageCounts | undefined {
  const last = (word: string) => {
    const found = [...output.matchAll(new RegExp(`^\\s*(\\d+) ${word}`, 'gm'))].at(-1)?.[1]
    return found === undefined ? undefined : Number(found)
  }
  const passed = last('passing')
  if (passed === undefined) return undefined
  return { passed, failed: last('failing') ?? 0, skipped: (last('pending') ?? 0) + (last('skipped') ?? 0) }
}

/**
 * Files of `node:test`, each run by a process of its own, `concurrency` at a time. A file that runs past its limit is
 * ended with everything it started, and has failed.
 */
export function nodeStage({
  name,
  files,
  concurrency = availableParallelism(),
  fileLimitMs = 300_000,
}: {
  name: string
  files: readonly string[]
  concurrency?: number
  fileLimitMs?: number
}): Stage {
  return {
    name,
    kind: 'tests',
    run: async ({ root, echo = () => {} }) => {
      const started = performance.now()
      const waiting = matchingFiles({ root, patterns: files })
      if (waiting.length === 0) return noTests(files)
      const outcomes: TestFileOutcome[] = []
      const lane = async () => {
        for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
          const outcome = await runTestFile({ root, file, limitMs: fileLimitMs })
          outcomes.push(outcome)
          echo(outcomeLine(outcome))
        }
      }
      await Promise.all(Array.from({ length: concurrency }, lane))
      const failures = outcomes.filter(({ counts }) => counts.failed > 0).map(failureText)
      for (const text of failures) echo(text)
      return {
        counts: sumCounts(outcomes.map(({ counts }) => counts)),
        output: [...outcomes.map(outcomeLine), ...failures].join(''),
        durationMs: performance.now() - started,
      }
    },
  }
}

/** A runner that crashed, or that passed without running a test, has failed whatever it counted. */
function judge({ result, counts }: { result: CommandResult; counts: StageCounts | undefined }): StageResult {
  const { code, output, durationMs } = result
  const base = { output, durationMs }
  if (counts === undefined) {
    return {
      ...base,
      counts: { passed: 0, failed: 1, skipped: 0 },
      problem: `ended with exit code ${code} and no summary`,
    }
  }
  if (counts.passed + counts.failed === 0) {
    return { ...base, counts: { ...counts, failed: 1 }, problem: 'ran no test' }
  }
  if (code !== 0 && counts.failed === 0) {
    return { ...base, counts: { ...counts, failed: 1 }, problem: `ended with exit code ${code} without a failed test` }
  }
  return { ...base, counts }
}

function noTests(files: readonly string[]): StageResult {
  return {
    counts: { passed: 0, failed: 1, skipped: 0 },
    output: '',
    durationMs: 0,
    problem: `no test file matches ${files.join(', ')}`,
  }
}
