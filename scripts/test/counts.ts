/** What a stage of the test command counted. */
export interface StageCounts {
  passed: number
  failed: number
  skipped: number
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

/** Reads counts that a stage wrote; undefined when they are missing or malformed. */
export function parseCounts(text: string): StageCounts | undefined {
  try {
    const value: Partial<StageCounts> = JSON.parse(text)
    const { passed, failed, skipped } = value
    if (![passed, failed, skipped].every((count) => Number.isSafeInteger(count) && Number(count) >= 0)) return undefined
    return { passed: Number(passed), failed: Number(failed), skipped: Number(skipped) }
  } catch {
    return undefined
  }
}
