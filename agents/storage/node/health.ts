import type { HealthReport } from '#kit/http/server.ts'
import { formatShard } from '#protocol/storage/shard.ts'
import type { LogSync } from './chain/log-sync.ts'
import type { NodeError } from './error.ts'
import type { NodeStore } from './store/node-store.ts'
import type { PeerBook } from './sync/peer-book.ts'
import type { SyncService } from './sync/sync-service.ts'

export interface HealthParameters {
  store: NodeStore
  logSync: LogSync
  peers: PeerBook
  sync: SyncService
  /** Set when the own flow contradicts the chain. */
  halted: () => NodeError | undefined
}

/** How the node is: `down` when it must not be used, `degraded` when something wants looking at. */
export async function checkHealth({ store, logSync, peers, sync, halted }: HealthParameters): Promise<HealthReport> {
  const log = logSync.status()
  const stop = halted()
  const spareBytes = await store.objects.spareBytes().catch(() => 0)
  const damaged = store.objects.missingDamagedPieces
  const known = peers.list().filter(({ state }) => state !== 'self')
  const lonely = known.length > 0 && peers.connected === 0
  const fine = log.synced && spareBytes > 0 && !lonely && damaged === 0
  return {
    status: stop ? 'down' : fine ? 'ok' : 'degraded',
    checks: {
      ...(stop ? { halted: stop.message } : {}),
      log: {
        synced: log.synced,
        block: log.block?.number ?? null,
        head: log.head ?? null,
        lagBlocks: log.head === undefined ? null : Math.max(0, log.head - (log.block?.number ?? 0)),
        nextTxSeq: store.transactions.nextSeq,
        reorgs: log.reorgs,
        lastError: log.lastError ?? null,
      },
      disk: {
        usedBytes: store.objects.storedBytes,
        spareBytes,
        damagedSegments: damaged,
        slotsSetAside: store.objects.quarantinedPieces,
      },
      shard: formatShard(store.shard),
      files: store.transactions.counts(),
      peers: { known: known.length, connected: peers.connected },
      sync: { running: sync.running, waiting: sync.waiting },
    },
  }
}
