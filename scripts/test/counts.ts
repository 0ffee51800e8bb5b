/** What a stage of the test command counted. */
export interface StageCounts {
  passed: number
  failed: number
  skipped: number
}

/** How far one test file came. */
export interface FileProgress extends StageCounts {
  /** Names of tests and suites under way. */
  running: string[]
  /** All its tests have ended. */
  isComplete: boolean
}

/** Adds stages up. */
export function sumCounts(stages: readonly StageCounts[]): StageCounts {
  return stages.reduce(
    (sum, stage) => ({
      passed: sum.passed + stage.passed,
      failed: sum.failed + stage.failed,
      skipped: sum.skipped + stage.skipped,
    }),
    { passed: 0, failed: 0, skipped: 0 },
  )
}

/** The last line of a test run: `N passed, N failed`, and `, N skipped` where there are any. */
export function countsLine({ passed, failed, skipped }: StageCounts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}

/** Reads what the reporter of a test file wrote; undefined when it wrote nothing, or nothing whole. */
export function parseProgress(text: string): FileProgress | undefined {
  try {
    const { passed, failed, skipped, running, isComplete }: Partial<FileProgress> = JSON.parse(text)
    if (passed === undefined || failed === undefined || skipped === undefined) return undefined
    return { passed, failed, skipped, running: running ?? [], isComplete: isComplete === true }
  } catch {
    return undefined
  }
}
