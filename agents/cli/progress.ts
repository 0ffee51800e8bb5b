import { Presets, SingleBar } from 'cli-progress'
import type { CliIo } from './io.ts'

/** What to show while something long runs. */
export interface ProgressParameters {
  /** What is going on, such as `hashing`. */
  label: string
  /** Everything there is to do, in bytes; 0 when unknown. */
  totalBytes: number
  io: CliIo
}

/** A running display. `update` is cheap and may be called for every segment. */
export interface Progress {
  update(state: { doneBytes: number; totalBytes?: number }): void
  /** A line that says what is being waited for; repeated lines are shown once. */
  note(text: string): void
  /** Remove the bar. Safe to call twice. */
  stop(): void
}

/** Without a terminal a line appears at most this often. */
const LINE_INTERVAL_MS = 5_000

/** A bar on a terminal, sparse lines elsewhere, silence with `--json` and `--quiet`. */
export function createProgress({ label, totalBytes, io }: ProgressParameters): Progress {
  if (io.json || io.quiet) return { update: () => {}, note: () => {}, stop: () => {} }
  return io.isTty ? createBar({ label, totalBytes, io }) : createLines({ label, totalBytes, io })
}

function createBar({ label, totalBytes, io }: ProgressParameters): Progress {
  const bar = new SingleBar(
    {
      stream: io.stderr as NodeJS.WritableStream,
      format: `${label.padEnd(11)} {bar} {percentage}% {done} of {total} {rate}`,
      clearOnComplete: true,
      hideCursor: true,
      fps: 10,
      gracefulExit: false,
    },
    Presets.shades_classic,
  )
  const started = performance.now()
  let stopped = false
  let total = totalBytes
  let lastNote = ''
  const payload = (doneBytes: number) => ({
    done: formatBytes(doneBytes),
    total: formatBytes(total),
    rate: formatRate(doneBytes, performance.now() - started),
  })
  bar.start(Math.max(1, total), 0, payload(0))
  return {
    update: (state) => {
      if (stopped) return
      if (state.totalBytes !== undefined && state.totalBytes !== total) {
        total = state.totalBytes
        bar.setTotal(Math.max(1, total))
      }
      bar.update(state.doneBytes, payload(state.doneBytes))
    },
    note: (text) => {
      if (stopped || text === lastNote) return
      lastNote = text
      io.stderr.write(`\r\u001b[K${text}\n`)
    },
    stop: () => {
      if (stopped) return
      stopped = true
      bar.stop()
    },
  }
}

function createLines({ label, totalBytes, io }: ProgressParameters): Progress {
  const started = performance.now()
  let lastLine = started
  let lastNote = ''
  let total = totalBytes
  return {
    update: ({ doneBytes, totalBytes: newTotal }) => {
      total = newTotal ?? total
      const now = performance.now()
      if (now - lastLine < LINE_INTERVAL_MS) return
      lastLine = now
      const percent = total > 0 ? ` (${Math.floor((doneBytes / total) * 100)}%)` : ''
      io.info(
        `${label}: ${formatBytes(doneBytes)} of ${formatBytes(total)}${percent} ${formatRate(doneBytes, now - started)}`,
      )
    },
    note: (text) => {
      if (text !== lastNote) io.info(text)
      lastNote = text
    },
    stop: () => {},
  }
}

/** Bytes for people: `1.5 MiB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return unit === 0 ? `${value} B` : `${value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}`
}

/** Throughput for people: `12.3 MiB/s`. */
export function formatRate(bytes: number, elapsedMs: number): string {
  return elapsedMs < 1 ? '' : `${formatBytes((bytes / elapsedMs) * 1000)}/s`
}
