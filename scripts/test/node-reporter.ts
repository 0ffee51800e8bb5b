import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { inspect } from 'node:util'
import type { StageCounts } from './counts.ts'

/** The part of a `node:test` reporter event that is used here. */
interface ReporterEvent {
  type: string
  data: {
    name?: string
    file?: string
    nesting?: number
    skip?: unknown
    todo?: unknown
    message?: string
    details?: { duration_ms?: number; error?: unknown; type?: string }
  }
}

interface FileReport {
  passed: number
  failed: number
  skipped: number
  durationMs: number
  failures: string[]
  output: string[]
  /** Its line has been printed. What fails after that is shown at the end. */
  isShown: boolean
}

const keptLinesPerFile = 2000

/**
 * Reporter for `node --test`: one line per file, then each failure in full with what its file printed. The counts go as
 * JSON to the file named by `WEIGHTLESS_TEST_COUNTS`. A file that ran no test is a failure.
 */
export async function* reportNodeTests(source: AsyncIterable<ReporterEvent>): AsyncGenerator<string> {
  const files = new Map<string, FileReport>()
  // The same file is named relatively in some events and absolutely in others.
  const reportOf = (name: string) => {
    const file = path.resolve(name)
    const existing = files.get(file)
    if (existing !== undefined) return existing
    const created: FileReport = {
      passed: 0,
      failed: 0,
      skipped: 0,
      durationMs: 0,
      failures: [],
      output: [],
      isShown: false,
    }
    files.set(file, created)
    return created
  }
  for await (const { type, data } of source) {
    if (data.file === undefined) continue
    const file = path.resolve(data.file)
    const report = reportOf(file)
    if (type === 'test:summary') {
      report.isShown = true
      yield fileLine(file, report)
    } else if (type === 'test:stdout' || type === 'test:stderr') {
      if (report.output.length < keptLinesPerFile) report.output.push(data.message ?? '')
    } else if (type === 'test:pass' || type === 'test:fail') {
      take({ type, data, report, file })
    }
  }

  const counts: StageCounts = { passed: 0, failed: 0, skipped: 0 }
  for (const [file, report] of files) {
    if (report.passed + report.failed + report.skipped === 0) {
      report.failed = 1
      report.failures.push('the file ran no test')
    }
    // A file whose process was cut off has no summary of its own.
    if (!report.isShown) yield fileLine(file, report)
    counts.passed += report.passed
    counts.failed += report.failed
    counts.skipped += report.skipped
  }
  for (const [file, report] of files) if (report.failed > 0) yield failureText(file, report)
  const target = process.env.WEIGHTLESS_TEST_COUNTS
  if (target !== undefined) writeFileSync(target, JSON.stringify(counts))
}

function take({
  type,
  data,
  report,
  file,
}: {
  type: 'test:pass' | 'test:fail'
  data: ReporterEvent['data']
  report: FileReport
  file: string
}): void {
  if (data.nesting === 0) report.durationMs += data.details?.duration_ms ?? 0
  const isWholeFile = data.nesting === 0 && path.resolve(data.name ?? '') === file
  // Suites are counted by their tests, except when the suite itself failed (a hook, a crashed body).
  if (type === 'test:pass' && (isWholeFile || data.details?.type === 'suite')) return
  if (type === 'test:pass') {
    if (data.skip !== undefined || data.todo !== undefined) report.skipped += 1
    else report.passed += 1
  } else if (!isSubtestFailure(data.details?.error)) {
    report.failed += 1
    report.failures.push(`${data.name}\n${errorText(data.details?.error)}`)
  }
}

function fileLine(file: string, report: FileReport): string {
  const state = report.failed > 0 ? `${report.failed} FAILED` : 'ok'
  const skipped = report.skipped > 0 ? `, ${report.skipped} skipped` : ''
  const seconds = (report.durationMs / 1000).toFixed(1)
  return `  ${path.relative('', file)}: ${report.passed} passed${skipped} in ${seconds} s, ${state}\n`
}

function failureText(file: string, report: FileReport): string {
  const head = `\n${path.relative('', file)}\n${'-'.repeat(72)}\n`
  const failures = report.failures.map((failure) => `FAILED ${failure}\n\n`).join('')
  const output = report.output.length > 0 ? `What the file printed:\n${report.output.join('')}\n` : ''
  return head + failures + output
}

/** A suite or file that failed only because a test in it failed: that test has been counted. */
function isSubtestFailure(error: unknown): boolean {
  return error instanceof Error && 'failureType' in error && error.failureType === 'subtestsFailed'
}

function errorText(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error
  return inspect(cause, { depth: 6, maxStringLength: 4000, breakLength: 110 })
}

// biome-ignore lint/style/noDefaultExport: node --test takes a reporter from the default export
export default reportNodeTests
