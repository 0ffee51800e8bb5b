import { homedir } from 'node:os'
import { join } from 'node:path'
import type { LocalAccount } from 'viem'
import { type Chain, connectChain } from '#kit/chain/client.ts'
import { WeightlessError } from '#protocol/error.ts'
import { SettingMissingError } from './errors.ts'
import { type Indexer, openIndexer } from './indexer.ts'
import { openStorageNode, type StorageNode } from './storage-node.ts'

/** Where and as whom the client works. Give what the actions at hand need: a download needs no chain and no account. */
export interface StorageConnectionParameters {
  /** JSON-RPC endpoints of the chain, in order of preference. */
  rpcUrl?: string | readonly string[] | undefined
  /** Indexer that knows the storage nodes. */
  indexerUrl?: string | undefined
  /** Storage nodes to use instead of the indexer's. */
  nodes?: readonly string[] | undefined
  /** Pays for submissions: `privateKeyToAccount(key)` of viem, or any other account that signs locally. */
  account?: LocalAccount | undefined
  /** Flow contract. Default: the one the storage nodes follow. */
  flow?: `0x${string}` | undefined
  /** Folder of the resume journal. Default `$XDG_STATE_HOME/weightless/uploads` (`~/.local/state/…`). */
  journalDir?: string | undefined
  limits?: Partial<StorageLimits> | undefined
}

/** Time limits. None of the client's waits is without one. */
export interface StorageLimits {
  /** One small call to a node or indexer. Default 15 s. */
  callTimeoutMs: number
  /** A transfer in which no byte moves. Default 30 s. */
  idleTimeoutMs: number
  /** From the transaction to its receipt. Default 180 s. */
  receiptTimeoutMs: number
  /** From the receipt until a node knows the submission. Default 180 s. */
  entryTimeoutMs: number
  /** From the last segment until a node calls the file final. Default 180 s. */
  finalityTimeoutMs: number
  /** Pause between two looks while waiting. Default 500 ms. */
  pollIntervalMs: number
  /** Tries without progress before a node is given up. Default 4. */
  attempts: number
}

const DEFAULT_LIMITS: StorageLimits = {
  callTimeoutMs: 15_000,
  idleTimeoutMs: 30_000,
  receiptTimeoutMs: 180_000,
  entryTimeoutMs: 180_000,
  finalityTimeoutMs: 180_000,
  pollIntervalMs: 500,
  attempts: 4,
}

/**
 * What every storage action works with: connections made on first use and kept until `close`. Pass it as the first
 * argument to an action, or use the actions bound to it through `connect`.
 */
export interface StorageConnection {
  readonly indexer: Indexer | undefined
  /** The storage nodes named by the caller. */
  readonly nodeUrls: readonly string[]
  readonly account: LocalAccount | undefined
  readonly flow: `0x${string}` | undefined
  readonly journalDir: string
  readonly limits: StorageLimits
  readonly hasChain: boolean
  /** @throws SettingMissingError without `rpcUrl`; `CHAIN_UNREACHABLE` */
  chain(options: { purpose: string; signal?: AbortSignal | undefined }): Promise<Chain>
  /** The connection to one node; the same object for the same URL. */
  node(url: string): StorageNode
  /** Runs `work` after all earlier work with the same key: transactions of one account go out one by one. */
  exclusively<T>(key: string, work: () => Promise<T>): Promise<T>
  close(): Promise<void>
}

/**
 * @example
 * const connection = openStorageConnection({ indexerUrl: 'http://127.0.0.1:12345' })
 * const info = await fileInfo(connection, { root })
 * await connection.close()
 */
export function openStorageConnection(parameters: StorageConnectionParameters): StorageConnection {
  const limits: StorageLimits = { ...DEFAULT_LIMITS, ...parameters.limits }
  const rpcUrls = typeof parameters.rpcUrl === 'string' ? [parameters.rpcUrl] : (parameters.rpcUrl ?? [])
  const nodes = new Map<string, StorageNode>()
  const turns = new Map<string, Promise<unknown>>()
  let chain: Promise<Chain> | undefined

  return {
    indexer:
      parameters.indexerUrl === undefined
        ? undefined
        : openIndexer({ url: parameters.indexerUrl, callTimeoutMs: limits.callTimeoutMs }),
    nodeUrls: parameters.nodes ?? [],
    account: parameters.account,
    flow: parameters.flow?.toLowerCase() as `0x${string}` | undefined,
    journalDir: parameters.journalDir ?? defaultJournalDir(),
    limits,
    hasChain: rpcUrls.length > 0,
    chain: ({ purpose, signal }) => {
      if (rpcUrls.length === 0) throw new SettingMissingError({ setting: 'rpcUrl', purpose })
      chain ??= reachChain(rpcUrls, signal).catch((error: unknown) => {
        chain = undefined
        throw error
      })
      return chain
    },
    node: (url) => {
      const key = url.replace(/\/+$/, '')
      const known = nodes.get(key)
      if (known !== undefined) return known
      const opened = openStorageNode({
        url: key,
        callTimeoutMs: limits.callTimeoutMs,
        idleTimeoutMs: limits.idleTimeoutMs,
      })
      nodes.set(key, opened)
      return opened
    },
    exclusively: async (key, work) => {
      const before = turns.get(key) ?? Promise.resolve()
      const mine = before.then(work, work)
      turns.set(
        key,
        mine.catch(() => {}),
      )
      return mine
    },
    close: async () => {
      for (const node of nodes.values()) node.close()
      nodes.clear()
      await chain?.then((connected) => connected.close()).catch(() => {})
      chain = undefined
    },
  }
}

async function reachChain(rpcUrls: readonly string[], signal: AbortSignal | undefined): Promise<Chain> {
  try {
    return await connectChain({ rpcUrls, signal })
  } catch (cause) {
    signal?.throwIfAborted()
    throw new WeightlessError({
      code: 'CHAIN_UNREACHABLE',
      message: `the chain cannot be reached: ${cause instanceof Error ? cause.message : String(cause)}`,
      fix: 'check the RPC URL (--rpc) and that the chain runs',
      cause,
    })
  }
}

function defaultJournalDir(): string {
  const state = process.env.XDG_STATE_HOME ?? join(homedir(), '.local', 'state')
  return join(state, 'weightless', 'uploads')
}
