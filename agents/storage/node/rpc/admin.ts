import { z } from 'zod'
import { type RpcMethod, rpcMethod } from '#kit/http/json-rpc.ts'
import { rpcUint } from '#kit/http/rpc-method.ts'
import type { Metrics } from '#kit/metrics.ts'
import { SEGMENT_SECTORS } from '#protocol/storage/constants.ts'
import { segmentCount } from '#protocol/storage/padding.ts'
import type { NodeStore } from '../store/node-store.ts'
import { firstSegment } from '../store/own-segments.ts'
import type { FileSyncStatus } from '../sync/file-sync.ts'
import type { Peer, PeerBook } from '../sync/peer-book.ts'
import type { SyncService } from '../sync/sync-service.ts'
import { asRpc } from './rpc-errors.ts'

export interface AdminParameters {
  store: NodeStore
  sync: SyncService
  peers: PeerBook
  metrics: Metrics
  instance: string
  listenAddresses: () => string[]
  /** Whether the log has been read to the end. */
  logSynced: () => boolean
  shutdown: () => void
}

const VERSION = '0.1.0'
const ASK_MS = 5_000
const STATES: Record<FileSyncStatus['state'], string> = {
  'finding-peers': 'FindingPeers',
  downloading: 'Downloading',
  completed: 'Completed',
  failed: 'Failed',
  terminated: 'Terminated',
}

/** `admin_*`: for the operator and for indexers that trust this node (storage-node §4.8). */
export function adminMethods(parameters: AdminParameters): Record<string, RpcMethod> {
  const { store, sync, peers, metrics } = parameters

  /** Peers that have told, just now, that they hold a file. */
  async function locate(seq: number, allShards: boolean): Promise<object[] | null> {
    const tx = store.transactions.get(seq)
    if (!tx) return null
    const signal = AbortSignal.timeout(ASK_MS)
    const asked = peers.list().filter(({ state }) => state === 'up')
    const holders = await Promise.all(
      asked.map(async (peer) => ((await peer.client.holds(seq, signal).catch(() => false)) ? [peer] : [])),
    )
    const found = holders.flat()
    const covered = allShards ? found.length > 0 : found.some((peer) => keepsSome(peer, tx))
    return covered ? found.map((peer) => ({ ip: hostOf(peer), shardConfig: peer.shard })) : null
  }

  return {
    admin_findFile: rpcMethod({
      params: z.tuple([rpcUint()]),
      names: ['txSeq'],
      handler: async () => {
        await peers.refresh()
        return null
      },
    }),
    admin_shutdown: rpcMethod({
      handler: () => {
        parameters.shutdown()
        return null
      },
    }),
    admin_startSyncFile: rpcMethod({
      params: z.tuple([rpcUint()]),
      names: ['txSeq'],
      handler: ([seq]) =>
        asRpc(() => {
          sync.startFile(seq)
          return null
        }),
    }),
    admin_startSyncChunks: rpcMethod({
      params: z.tuple([rpcUint(), rpcUint(), rpcUint()]),
      names: ['txSeq', 'startIndex', 'endIndex'],
      handler: ([seq, start, end]) =>
        asRpc(() => {
          sync.startFile(seq, { from: Math.floor(start / SEGMENT_SECTORS), to: Math.ceil(end / SEGMENT_SECTORS) })
          return null
        }),
    }),
    admin_terminateSync: rpcMethod({
      params: z.tuple([rpcUint()]),
      names: ['txSeq'],
      handler: ([seq]) => sync.terminate(seq),
    }),
    admin_getSyncServiceState: rpcMethod({
      handler: () => ({
        numSyncing: sync.running,
        catchedUp: parameters.logSynced(),
        autoSyncSerial: {
          tasks: sync.running,
          next: sync.cursor,
          max: store.transactions.nextSeq,
          pendings: sync.waiting,
          nextInDb: sync.cursor,
        },
        autoSyncRandom: null,
      }),
    }),
    admin_getSyncStatus: rpcMethod({
      params: z.tuple([rpcUint()]),
      names: ['txSeq'],
      handler: ([seq]) => {
        if (store.transactions.get(seq)?.status === 'finalized') return 'Completed'
        const [status] = sync.statuses(seq)
        return status ? stateText(status) : 'unknown'
      },
    }),
    admin_getSyncInfo: rpcMethod({
      params: z.tuple([rpcUint().nullish()]),
      names: ['txSeq'],
      handler: ([seq]) => {
        const all = sync.statuses(seq ?? undefined)
        return Object.fromEntries(all.map((status) => [status.seq, describeSync(status, peers, store)]))
      },
    }),
    admin_getNetworkInfo: rpcMethod({
      handler: () => {
        const all = peers.list()
        const count = (state: Peer['state']): number => all.filter((peer) => peer.state === state).length
        return {
          peerId: parameters.instance,
          listenAddresses: parameters.listenAddresses(),
          totalPeers: all.length,
          bannedPeers: count('banned'),
          disconnectedPeers: count('down') + count('unknown'),
          connectedPeers: count('up'),
          connectedOutgoingPeers: count('up'),
          connectedIncomingPeers: 0,
        }
      },
    }),
    admin_getPeers: rpcMethod({
      handler: () => Object.fromEntries(peers.list().map((peer) => [peer.url, describePeer(peer)])),
    }),
    admin_getFileLocation: rpcMethod({
      params: z.tuple([rpcUint(), z.boolean().nullish()]),
      names: ['txSeq', 'allShards'],
      handler: ([seq, allShards]) => locate(seq, allShards ?? false),
    }),
    admin_getMetrics: rpcMethod({
      params: z.tuple([z.string().max(200).nullish()]),
      names: ['prefix'],
      handler: ([prefix]) => readMetrics(metrics, prefix ?? ''),
    }),
  }
}

function describeSync(status: FileSyncStatus, peers: PeerBook, store: NodeStore): object {
  const tx = store.transactions.get(status.seq)
  const segments = tx ? segmentCount(tx.sizeBytes) : status.to
  const next = (status.next ?? status.to) * SEGMENT_SECTORS
  const holders = tx && status.next !== undefined ? peers.holders(firstSegment(tx) + status.next).length : 0
  return {
    elapsedSecs: Math.round(((status.endedAtMs ?? Date.now()) - status.startedAtMs) / 1_000),
    peers: { Found: holders, Connected: status.active.length },
    goal: {
      numChunks: segments * SEGMENT_SECTORS,
      indexStart: status.from * SEGMENT_SECTORS,
      indexEnd: status.to * SEGMENT_SECTORS,
      allChunks: status.from === 0 && status.to === segments,
    },
    nextChunks: next,
    // One client reads it under this name.
    next_chunks: next,
    state: stateText(status),
    segments: { stored: status.stored, missing: status.missing, next: status.next ?? null },
    active: status.active,
    failures: status.failures,
  }
}

function stateText({ state, reason }: FileSyncStatus): string {
  return reason === undefined ? STATES[state] : `${STATES[state]} { ${reason} }`
}

function describePeer(peer: Peer): object {
  return {
    client: { version: VERSION, os: 'unknown', protocol: 'http', agent: 'unknown' },
    connectionStatus: {
      status: peer.state === 'up' ? 'connected' : peer.state,
      connectionsIn: 0,
      connectionsOut: peer.state === 'up' ? 1 : 0,
      lastSeenSecs: peer.lastSeenMs === undefined ? 0 : Math.round((Date.now() - peer.lastSeenMs) / 1_000),
    },
    listeningAddresses: [peer.url],
    seenIps: [hostOf(peer)],
    isTrusted: peer.source === 'config',
    connectionDirection: 'outgoing',
    enr: null,
    shardConfig: peer.shard ?? null,
    nextTxSeq: peer.nextTxSeq,
    latencyMs: peer.latencyMs ?? null,
    lastError: peer.lastError ?? null,
    lies: peer.lies,
    source: peer.source,
    nodeId: peer.record?.nodeId ?? null,
  }
}

function keepsSome({ shard }: Peer, tx: { startSector: number; sizeBytes: number }): boolean {
  if (!shard) return false
  const first = firstSegment(tx)
  const behind = (((shard.shardId - first) % shard.numShard) + shard.numShard) % shard.numShard
  return behind < segmentCount(tx.sizeBytes)
}

function hostOf({ url }: Peer): string {
  return new URL(url).hostname.replace(/^\[|\]$/g, '')
}

/** Metrics as name → text, for those whose name begins so. */
async function readMetrics(metrics: Metrics, prefix: string): Promise<Record<string, string>> {
  const all = await metrics.registry.getMetricsAsJSON()
  const found: Record<string, string> = {}
  for (const { name, values } of all) {
    for (const value of values) {
      const shown = 'metricName' in value && typeof value.metricName === 'string' ? value.metricName : name
      if (!shown.startsWith(prefix)) continue
      const labels = Object.entries(value.labels).map(([label, text]) => `${label}=${text}`)
      found[labels.length === 0 ? shown : `${shown}{${labels.join(',')}}`] = String(value.value)
    }
  }
  return found
}
