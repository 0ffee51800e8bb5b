import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createMetrics } from '#kit/metrics.ts'

describe('metrics', () => {
  it('exposes counters, gauges and histograms under the prefix', async () => {
    const metrics = createMetrics('weightless_node', { processMetrics: false })
    metrics
      .counter({ name: 'segments_stored_total', help: 'Segments written', labels: ['shard'] })
      .inc({ shard: '0' }, 3)
    metrics.gauge({ name: 'sync_lag_blocks', help: 'Blocks behind' }).set(7)
    metrics.histogram({ name: 'store_seconds', help: 'Time to store' }).observe(0.02)
    metrics.histogram({ name: 'segment_bytes', help: 'Sizes', buckets: [256, 262_144] }).observe(1_000)
    const { body, contentType } = await metrics.expose()
    assert.match(contentType, /^text\/plain/)
    assert.match(body, /^weightless_node_segments_stored_total\{shard="0"\} 3$/m)
    assert.match(body, /^weightless_node_sync_lag_blocks 7$/m)
    assert.match(body, /^weightless_node_store_seconds_bucket\{le="0.025"\} 1$/m)
    assert.match(body, /^weightless_node_segment_bytes_bucket\{le="256"\} 0$/m)
  })

  it('gives the same metric for the same name, and keeps registries apart', async () => {
    const one = createMetrics('a', { processMetrics: false })
    const other = createMetrics('a', { processMetrics: false })
    one.counter({ name: 'x_total', help: 'x' }).inc()
    one.counter({ name: 'x_total', help: 'x' }).inc()
    assert.match((await one.expose()).body, /a_x_total 2/)
    assert.doesNotMatch((await other.expose()).body, /a_x_total/)
    assert.throws(() => one.gauge({ name: 'y', help: 'x' }) && one.histogram({ name: 'y', help: 'x' }), {
      code: 'METRIC_NAME',
    })
  })

  it('insists on names that carry their unit', () => {
    const metrics = createMetrics('a', { processMetrics: false })
    assert.throws(() => createMetrics('Bad-Prefix'), { code: 'METRIC_NAME' })
    assert.throws(() => metrics.counter({ name: 'segments', help: 'x' }), { code: 'METRIC_NAME' })
    assert.throws(() => metrics.counter({ name: 'Segments_total', help: 'x' }), { code: 'METRIC_NAME' })
    assert.throws(() => metrics.gauge({ name: 'lag_total', help: 'x' }), { code: 'METRIC_NAME' })
    assert.throws(() => metrics.histogram({ name: 'latency', help: 'x' }), { code: 'METRIC_NAME' })
    assert.throws(() => metrics.histogram({ name: 'size_bytes', help: 'x' }), { code: 'METRIC_NAME' })
  })
})
