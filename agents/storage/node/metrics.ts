import type { Metrics } from '#kit/metrics.ts'
import type { CommitReport } from './store/group-commit.ts'
import type { NodeStore } from './store/node-store.ts'
import type { PeerBook } from './sync/peer-book.ts'
import type { SyncService } from './sync/sync-service.ts'

/** What a storage node counts, beside what its parts count themselves. */
export interface NodeMetrics {
  committed(report: CommitReport): void
  finalized(): void
  damaged(): void
  fetched(segments: number): void
  /** Sets what is read off rather than counted. */
  observe(parts: { store: NodeStore; peers: PeerBook; sync: SyncService; spareBytes: number; halted: boolean }): void
}

/** Registers the node's metrics. */
export function createNodeMetrics(metrics: Metrics): NodeMetrics {
  const segments = metrics.counter({ name: 'stored_segments_total', help: 'Segments made durable' })
  const bytes = metrics.counter({ name: 'stored_bytes_total', help: 'Bytes of segments made durable' })
  const sync = metrics.histogram({ name: 'data_sync_seconds', help: 'Time of a sync of the data files' })
  const transaction = metrics.histogram({ name: 'commit_seconds', help: 'Time of a database commit of segments' })
  const group = metrics.histogram({
    name: 'commit_segments',
    help: 'Segments made durable together',
    buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256],
  })
  const finalized = metrics.counter({ name: 'finalized_files_total', help: 'Files completed' })
  const damaged = metrics.counter({ name: 'damaged_segments_total', help: 'Stored segments found damaged' })
  const fetched = metrics.counter({ name: 'fetched_segments_total', help: 'Segments fetched from peers' })
  const files = metrics.gauge({ name: 'files', help: 'Files in the log, by status', labels: ['status'] })
  const used = metrics.gauge({ name: 'used_bytes', help: 'Disk space of stored segments' })
  const spare = metrics.gauge({ name: 'spare_bytes', help: 'Bytes that may be stored before the disk counts as full' })
  const nextSeq = metrics.gauge({ name: 'next_tx_seq', help: 'Submissions in the log' })
  const shards = metrics.gauge({ name: 'shard_count', help: 'Parts the flow is cut into; this node keeps one' })
  const peers = metrics.gauge({ name: 'peers', help: 'Peers by state', labels: ['state'] })
  const syncing = metrics.gauge({ name: 'syncing_files', help: 'Files being fetched from peers' })
  const quarantined = metrics.gauge({ name: 'quarantined_segments', help: 'Damaged segments set aside' })
  const halted = metrics.gauge({ name: 'halted', help: '1 when the own flow contradicts the chain' })
  const states = ['unknown', 'up', 'down', 'banned', 'foreign', 'self'] as const

  return {
    committed(report) {
      segments.inc(report.pieces)
      bytes.inc(report.bytes)
      sync.observe(report.syncMs / 1_000)
      transaction.observe(report.transactionMs / 1_000)
      group.observe(report.pieces)
    },
    finalized: () => finalized.inc(),
    damaged: () => damaged.inc(),
    fetched: (count) => fetched.inc(count),
    observe(parts) {
      const { store } = parts
      for (const [status, count] of Object.entries(store.transactions.counts())) files.set({ status }, count)
      used.set(store.objects.storedBytes)
      spare.set(parts.spareBytes)
      nextSeq.set(store.transactions.nextSeq)
      shards.set(store.shard.numShard)
      const list = parts.peers.list()
      for (const state of states) peers.set({ state }, list.filter((peer) => peer.state === state).length)
      syncing.set(parts.sync.running)
      quarantined.set(store.objects.quarantinedPieces)
      halted.set(parts.halted ? 1 : 0)
    },
  }
}
