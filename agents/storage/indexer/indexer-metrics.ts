import type { Metrics } from '#kit/metrics.ts'

/** What the indexer counts. */
export interface IndexerMetrics {
  /** Segments refused because they did not fit their root. */
  lies: { inc(): void }
  /** Segments read from nodes and verified, by outcome. */
  segmentReads: { inc(labels: { outcome: 'ok' | 'failed' }): void }
  /** Time to a verified segment. */
  segmentSeconds: { observe(seconds: number): void }
  /** Bytes sent to clients by the gateway. */
  gatewayBytes: { inc(bytes: number): void }
  /** Segments passed to shards by the front node. */
  frontSegments: { inc(labels: { direction: 'upload' | 'download' }, segments: number): void }
  /** File lookups by where the answer came from. */
  lookups: { inc(labels: { source: 'cache' | 'trusted' | 'discovered' | 'none' }): void }
  setNodes(count: { trusted: number; discovered: number }): void
}

/** Registers the indexer's metrics. */
export function createIndexerMetrics(metrics: Metrics): IndexerMetrics {
  const nodes = metrics.gauge({ name: 'nodes_usable', help: 'Storage nodes that answer', labels: ['kind'] })
  return {
    lies: metrics.counter({
      name: 'segments_refused_total',
      help: 'Segments from nodes that did not fit the root of their file',
    }),
    segmentReads: metrics.counter({
      name: 'segment_reads_total',
      help: 'Segments fetched from nodes and verified',
      labels: ['outcome'],
    }),
    segmentSeconds: metrics.histogram({
      name: 'segment_read_seconds',
      help: 'Time until a segment was fetched and verified, with fail-over',
    }),
    gatewayBytes: metrics.counter({ name: 'gateway_bytes_total', help: 'File bytes sent by the REST gateway' }),
    frontSegments: metrics.counter({
      name: 'front_segments_total',
      help: 'Segments passed through the front node',
      labels: ['direction'],
    }),
    lookups: metrics.counter({
      name: 'file_lookups_total',
      help: 'Lookups of file locations by where the answer came from',
      labels: ['source'],
    }),
    setNodes({ trusted, discovered }) {
      nodes.set({ kind: 'trusted' }, trusted)
      nodes.set({ kind: 'discovered' }, discovered)
    },
  }
}
