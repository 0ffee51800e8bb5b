import { DATA_ROWS, TOTAL_ROWS } from '#protocol/da/constants.ts'

/** Rows `from` to `to` (not included) to be asked of a holder. */
export interface RowTask {
  holder: number
  from: number
  to: number
}

/** Who holds which rows: contiguous, in the order of preference. */
export interface RowHolder {
  firstRow: number
  rowCount: number
}

/**
 * Decides which rows to ask of whom. Data rows come first, since they are the payload; where a holder fails, as many
 * parity rows of others stand in. Rows behind the payload are zero for everybody and are never asked for.
 */
export class RowPlan {
  /** Rows needed: data rows that hold payload. */
  readonly needRows: number
  readonly #holders: readonly RowHolder[]
  /** By row: whether it was given to a task already. */
  readonly #asked = new Uint8Array(TOTAL_ROWS)

  constructor({ holders, needRows }: { holders: readonly RowHolder[]; needRows: number }) {
    this.#holders = holders
    this.needRows = needRows
  }

  /** The first tasks: every data row of the payload, of those holders that `isUsable` lets through. */
  dataTasks(isUsable: (holder: number) => boolean): RowTask[] {
    const tasks: RowTask[] = []
    for (const [holder, { firstRow, rowCount }] of this.#holders.entries()) {
      const to = Math.min(firstRow + rowCount, this.needRows)
      if (firstRow < to && isUsable(holder)) tasks.push(this.#claim({ holder, from: firstRow, to }))
    }
    return tasks
  }

  /** Tasks for `count` further rows nobody was asked for yet, spread over usable holders. Fewer when there are none left. */
  moreTasks(count: number, isUsable: (holder: number) => boolean): RowTask[] {
    const tasks: RowTask[] = []
    const usable = [...this.#holders.keys()].filter(isUsable)
    let left = count
    for (let round = 0; left > 0 && round < 64; round++) {
      const free = usable
        .map((holder) => ({ holder, run: this.#freeRun(holder) }))
        .filter(({ run }) => run !== undefined)
      if (free.length === 0) break
      const share = Math.max(1, Math.ceil(left / free.length))
      for (const { holder, run } of free) {
        if (run === undefined || left <= 0) continue
        const to = Math.min(run.to, run.from + Math.min(share, left))
        tasks.push(this.#claim({ holder, from: run.from, to }))
        left -= to - run.from
      }
    }
    return tasks
  }

  /** Lets rows be asked for again: the same holder may have them at a second try. */
  reopen(from: number, to: number): void {
    this.#asked.fill(0, from, to)
  }

  #claim(task: RowTask): RowTask {
    this.#asked.fill(1, task.from, task.to)
    return task
  }

  /** The first stretch of rows of a holder that can be of use and was not asked for. */
  #freeRun(holder: number): { from: number; to: number } | undefined {
    const { firstRow = 0, rowCount = 0 } = this.#holders[holder] ?? {}
    const end = firstRow + rowCount
    const useful = (row: number): boolean => this.#asked[row] === 0 && (row < this.needRows || row >= DATA_ROWS)
    let from = firstRow
    while (from < end && !useful(from)) from += 1
    let to = from
    while (to < end && useful(to)) to += 1
    return from < to ? { from, to } : undefined
  }
}
