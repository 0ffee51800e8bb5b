import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { WeightlessError } from '#protocol/error.ts'

/** What a metric is called and says. `labels` are names whose values come from a small fixed set, never from peers. */
export interface MetricParameters {
  /** Without the prefix, snake_case, ending in its unit: `sync_lag_blocks`, `download_bytes_total`. */
  name: string
  help: string
  labels?: readonly string[] | undefined
}

export interface HistogramParameters extends MetricParameters {
  /** Upper bounds in the metric's unit. Default for `_seconds`: 1 ms to 60 s. Required for other units. */
  buckets?: readonly number[] | undefined
}

/** An agent's own Prometheus registry. Asking twice for a name gives the same metric. */
export interface Metrics {
  readonly prefix: string
  readonly registry: Registry
  counter(parameters: MetricParameters): Counter
  gauge(parameters: MetricParameters): Gauge
  histogram(parameters: HistogramParameters): Histogram
  /** The text exposition format, and its content type. */
  expose(): Promise<{ contentType: string; body: string }>
}

const NAME = /^[a-z][a-z0-9]*(_[a-z0-9]+)*$/
const UNITS = [
  'seconds',
  'bytes',
  'ratio',
  'count',
  'sectors',
  'segments',
  'files',
  'blocks',
  'wei',
  'requests',
  'peers',
]
const SECONDS_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]

/**
 * Opens a registry whose metrics all begin with `prefix_` (default also the process's own: memory, CPU, event loop).
 *
 * @throws WeightlessError `METRIC_NAME` for a counter without `_total` or a histogram without a unit.
 * @example
 * const metrics = createMetrics('weightless_node')
 * metrics.counter({ name: 'segments_stored_total', help: 'Segments written to disk' }).inc()
 */
export function createMetrics(prefix: string, { processMetrics = true }: { processMetrics?: boolean } = {}): Metrics {
  if (!NAME.test(prefix)) throw badName(prefix, 'a prefix is snake_case')
  const registry = new Registry()
  if (processMetrics) collectDefaultMetrics({ register: registry, prefix: `${prefix}_` })
  const known = new Map<string, Counter | Gauge | Histogram>()

  function once<M extends Counter | Gauge | Histogram>(
    name: string,
    kind: abstract new (...parameters: never[]) => M,
    open: (fullName: string) => M,
  ): M {
    const fullName = `${prefix}_${name}`
    const existing = known.get(fullName)
    if (existing === undefined) {
      const metric = open(fullName)
      known.set(fullName, metric)
      return metric
    }
    if (existing instanceof kind) return existing
    throw badName(fullName, 'the name is taken by a metric of another kind')
  }

  return {
    prefix,
    registry,
    counter({ name, help, labels = [] }) {
      if (!NAME.test(name) || !name.endsWith('_total')) throw badName(name, 'a counter ends in _total')
      return once(name, Counter, (full) => new Counter({ name: full, help, labelNames: labels, registers: [registry] }))
    },
    gauge({ name, help, labels = [] }) {
      if (!NAME.test(name) || name.endsWith('_total')) throw badName(name, 'a gauge is snake_case and not a _total')
      return once(name, Gauge, (full) => new Gauge({ name: full, help, labelNames: labels, registers: [registry] }))
    },
    histogram({ name, help, labels = [], buckets }) {
      if (!NAME.test(name) || !UNITS.some((unit) => name.endsWith(`_${unit}`))) {
        throw badName(name, `a histogram ends in its unit (${UNITS.join(', ')})`)
      }
      const bounds = buckets ?? (name.endsWith('_seconds') ? SECONDS_BUCKETS : undefined)
      if (bounds === undefined) throw badName(name, 'a histogram not in seconds gives its buckets')
      return once(name, Histogram, (full) => {
        return new Histogram({ name: full, help, labelNames: labels, buckets: [...bounds], registers: [registry] })
      })
    },
    async expose() {
      return { contentType: registry.contentType, body: await registry.metrics() }
    },
  }
}

function badName(name: string, rule: string): WeightlessError {
  return new WeightlessError({ code: 'METRIC_NAME', message: `metric ${name}: ${rule}`, details: { name, rule } })
}
