/**
 * The shortest time of each job, in milliseconds, over rounds in which they take turns: other work on the machine can
 * only make a run longer, and hits all of them alike. Jobs should be short (a few milliseconds) and of similar length.
 */
export async function bestOf<Name extends string>({
  rounds,
  jobs,
  signal,
}: {
  rounds: number
  jobs: Record<Name, () => void>
  signal: AbortSignal
}): Promise<Record<Name, number>> {
  const names = Object.keys(jobs) as Name[]
  const best = Object.fromEntries(names.map((name) => [name, Number.POSITIVE_INFINITY])) as Record<Name, number>
  for (let round = 0; round < rounds; round++) {
    signal.throwIfAborted()
    for (const name of names) {
      const start = performance.now()
      jobs[name]()
      best[name] = Math.min(best[name], performance.now() - start)
    }
    // Lets a signal in, and the collector.
    if (round % 16 === 15) await new Promise((resolve) => setImmediate(resolve))
  }
  return best
}
