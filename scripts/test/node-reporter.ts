import { writeFileSync } from 'node:fs'
import { inspect } from 'node:util'
import type { FileProgress } from './counts.ts'

/** The part of a `node:test` reporter event that is used here. */
interface ReporterEvent {
  type: string
  data: {
    name?: string
    nesting?: number
    line?: number
    message?: string
    skip?: unknown
    todo?: unknown
    details?: { error?: unknown; type?: string }
  }
}

/**
 * Reporter for one test file, run by `node --test-reporter=… FILE`: prints failures in full, and keeps the counts as JSON
 * in the file named by `WEIGHTLESS_TEST_PROGRESS`. It is written as tests go, so that of a file that hangs or dies it is
 * known how far it came.
 */
export async function* reportTestFile(source: AsyncIterable<ReporterEvent>): AsyncGenerator<string> {
  const progress: FileProgress = { passed: 0, failed: 0, skipped: 0, running: [], isComplete: false }
  const running = new Map<string, string>()
  const save = () => {
    progress.running = [...running.values()]
    const target = process.env.WEIGHTLESS_TEST_PROGRESS
    if (target !== undefined) writeFileSync(target, JSON.stringify(progress))
  }
  for await (const { type, data } of source) {
    const key = `${data.nesting}:${data.line}:${data.name}`
    if (type === 'test:dequeue') running.set(key, data.name ?? '')
    else if (type === 'test:complete') running.delete(key)
    else if (type === 'test:pass' && data.details?.type !== 'suite') {
      // Suites are counted by their tests.
      if (data.skip !== undefined || data.todo !== undefined) progress.skipped += 1
      else progress.passed += 1
    } else if (type === 'test:fail' && !isSubtestFailure(data.details?.error)) {
      // A suite that failed itself (a hook, a crashed body) counts.
      progress.failed += 1
      yield `FAILED ${data.name}\n${errorText(data.details?.error)}\n\n`
    } else if (type === 'test:diagnostic' && isLateError(data.message)) {
      progress.failed += 1
      yield `FAILED after its end\n${data.message}\n\n`
    } else if (type === 'test:summary') progress.isComplete = true
    else continue
    save()
  }
}

/**
 * Node tells of a rejection that nobody handled, or of an exception thrown when its test was over, in a diagnostic alone,
 * and ends the file with exit code 1.
 */
function isLateError(message: string | undefined): boolean {
  return message?.includes('generated asynchronous activity after the test ended') === true
}

/** A suite that failed only because a test in it failed: that test has been counted. */
function isSubtestFailure(error: unknown): boolean {
  return error instanceof Error && 'failureType' in error && error.failureType === 'subtestsFailed'
}

function errorText(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error
  return inspect(cause, { depth: 6, maxStringLength: 4000, breakLength: 110 })
}

// biome-ignore lint/style/noDefaultExport: node takes a test reporter from the default export
export default reportTestFile
