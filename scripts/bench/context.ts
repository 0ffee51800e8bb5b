/** One measured figure. `name` never changes once it exists, so that figures can be followed over time. */
export interface BenchFigure {
  /** Stable name, `<bench>.<figure>`. */
  name: string
  value: number
  /** Unit of `value` (and of `peerValue`), for example `MiB/s`, `gas`, `ms`. */
  unit: string
  /** What the figure is compared with, measured in the same run. */
  peer?: string
  peerValue?: number
  /** How much better than the peer: above 1 when this project is better, whichever way the unit points. */
  ratio?: number
  /** Facts needed to repeat or judge the measurement (sizes, counts, concurrency). */
  detail?: Record<string, unknown>
}

/** What a bench module is given. */
export interface BenchContext {
  /** True asks for the shortest run that still gives a meaningful figure (a few seconds). */
  quick: boolean
  /** Aborted on Ctrl-C; a bench stops what it started and rejects. */
  signal: AbortSignal
  /** Publishes one figure as soon as it is known. */
  report(figure: BenchFigure): void
  /** Says something about the run that is not a figure. */
  note(text: string): void
}

/** What every file named in the registry of `main.ts` exports. */
export interface BenchModule {
  bench(context: BenchContext): Promise<void>
}
