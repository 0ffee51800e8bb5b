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
}

const keptLinesPerFile = 2000

/**
 * Reporter for `node --test`: one line per file, then each failure in full with what its file printed. The counts go as
 * JSON to the file named by `WEIGHTLESS_TEST_COUNTS`. A file that ran no test is a failure.
 */
export async function* reportNodeTests(source: AsyncIterable<ReporterEvent>): AsyncGenerator<string> {
  const files = new Map<string, FileReport>()
  const reportOf = (file: string) => {
    const existing = files.get(file)
    if (existing !== undefined) return existing
    const created: FileReport = { passed: 0, failed: 0, skipped: 0, durationMs: 0, failures: [], output: [] }
    files.set(file, created)
    return created
  }
  for await (const { type, data } of source) {
    const file = data.file ?? 'unknown file'
    const report = reportOf(file)
    if (type === 'test:stdout' || type === 'test:stderr') {
      if (report.output.length < keptLinesPerFile) report.output.push(data.message ?? '')
      continue
    }
    if (type !== 'test:pass' && type !== 'test:fail') continue
    if (data.nesting === 0) report.durationMs += data.details?.duration_ms ?? 0
    const isWholeFile = data.nesting === 0 && path.resolve(data.name ?? '') === path.resolve(file)
    // Suites are counted by their tests, except when the suite itself failed (a hook, a crashed body).
    if (data.details?.type === 'suite' && (type === 'test:pass' || isSubtestFailure(data.details.error))) continue
    if (type === 'test:pass' && isWholeFile) continue
    if (type === 'test:pass') {
      if (data.skip !== undefined || data.todo !== undefined) report.skipped += 1
      else report.passed += 1
    } else if (!isSubtestFailure(data.details?.error)) {
      report.failed += 1
      report.failures.push(`${data.name}\n${errorText(data.details?.error)}`)
    }
  }
  files.delete('unknown file')

  const counts: StageCounts = { passed: 0, failed: 0, skipped: 0 }
  for (const [file, report] of [...files].sort(([a], [b]) => a.localeCompare(b))) {
    if (report.passed + report.failed + report.skipped === 0) {
      report.failed = 1
      report.failures.push('the file ran no test')
    }
    counts.passed += report.passed
    counts.failed += report.failed
    counts.skipped += report.skipped
    const state = report.failed > 0 ? `${report.failed} FAILED` : 'ok'
    const skipped = report.skipped > 0 ? `, ${report.skipped} skipped` : ''
    const seconds = (report.durationMs / 1000).toFixed(1)
    yield `  ${path.relative('', file)}: ${report.passed} passed${skipped} in ${seconds} s, ${state}\n`
  }
  for (const [file, report] of files) {
    if (report.failed === 0) continue
    yield `\n${path.relative('', file)}\n${'-'.repeat(72)}\n`
    for (const failure of report.failures) yield `FAILED ${failure}\n\n`
    if (report.output.length > 0) yield `What the file printed:\n${report.output.join('')}\n`
  }
  const target = process.env.WEIGHTLESS_TEST_COUNTS
  if (target !== undefined) writeFileSync(target, JSON.stringify(counts))
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
