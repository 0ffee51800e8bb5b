import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { runCommand } from '../process/run-command.ts'
import { type FileProgress, parseProgress, type StageCounts } from './counts.ts'

/** How one test file went. */
export interface TestFileOutcome {
  file: string
  counts: StageCounts
  durationMs: number
  output: string
  /** Why it failed, beside its failed tests. */
  problem?: string | undefined
}

/** Runs one file of `node:test`. It fails when a test fails, when it runs none, dies, or is not over in `limitMs`. */
export async function runTestFile({
  root,
  file,
  limitMs,
}: {
  root: string
  file: string
  limitMs: number
}): Promise<TestFileOutcome> {
  const scratch = mkdtempSync(path.join(tmpdir(), 'weightless-test-'))
  try {
    const progressFile = path.join(scratch, 'progress.json')
    const reporter = path.join(root, 'scripts/test/node-reporter.ts')
    const { code, output, durationMs } = await runCommand({
      command: ['node', '--disable-warning=ExperimentalWarning', `--test-reporter=${reporter}`, file],
      cwd: root,
      timeoutMs: limitMs,
      // Hundreds of processes load the same modules: compiling them again takes half a second of each.
      env: { WEIGHTLESS_TEST_PROGRESS: progressFile, NO_COLOR: '1', NODE_COMPILE_CACHE: path.join(root, 'cache/node') },
    })
    const progress = readProgress(progressFile)
    const problem = problemOf({ code, progress })
    const { passed = 0, failed = 0, skipped = 0 } = progress ?? {}
    const counts = { passed, failed: problem === undefined ? failed : failed + 1, skipped }
    return { file, counts, durationMs, output, problem }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

function problemOf({ code, progress }: { code: number; progress: FileProgress | undefined }): string | undefined {
  const inside = progress !== undefined && progress.running.length > 0 ? `, in: ${progress.running.join(' › ')}` : ''
  if (code === 124) {
    return progress?.isComplete === true
      ? 'did not end although its tests had: something it opened is still open'
      : `did not end in time${inside}`
  }
  if (progress === undefined) return code === 0 ? 'ran no test' : `ended with exit code ${code} before its first test`
  if (!progress.isComplete) return `ended with exit code ${code} before its tests had${inside}`
  if (progress.passed + progress.failed + progress.skipped === 0) return 'ran no test'
  if (code !== 0 && progress.failed === 0) return `ended with exit code ${code} although no test failed`
  return undefined
}

function readProgress(file: string): FileProgress | undefined {
  try {
    return parseProgress(readFileSync(file, 'utf8'))
  } catch {
    return undefined
  }
}

/** One line for a file that is over. */
export function outcomeLine({ file, counts, durationMs }: TestFileOutcome): string {
  const state = counts.failed > 0 ? `${counts.failed} FAILED` : 'ok'
  const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : ''
  return `  ${file}: ${counts.passed} passed${skipped} in ${(durationMs / 1000).toFixed(1)} s, ${state}\n`
}

/** Everything there is to know about a file that failed. */
export function failureText({ file, problem, output }: TestFileOutcome): string {
  const why = problem === undefined ? '' : `FAILED: the file ${problem}\n`
  return `\n${file}\n${'-'.repeat(72)}\n${why}${output.trimEnd()}\n`
}
