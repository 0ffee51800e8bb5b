import { homedir } from 'node:os'
import { join } from 'node:path'
import type { Address, LocalAccount } from 'viem'
import { type Chain, connectChain } from '#kit/chain/client.ts'
import { BlobCodec } from '#protocol/da/blob-codec.ts'
import { WeightlessError } from '#protocol/error.ts'
import { DaSettingError, reasonOf } from './errors.ts'
import { openSignerHttp, type SignerHttp } from './signer-http.ts'

/** Where and as whom the client works. */
export interface DaConnectionParameters {
  /** JSON-RPC endpoints of the chain, in order of preference. */
  rpcUrl: string | readonly string[]
  /** Chain id the endpoints must have. Default: whatever they have. */
  chainId?: number | undefined
  contracts: {
    /** DASigners: who signs, with what stake, in which epoch. */
    signers: Address
    /** DAEntrance: payment, certificates, sampling. */
    entrance: Address
    /** DispersalAccounts: what users hold with dispersers. Needed for that alone. */
    accounts?: Address | undefined
  }
  /** Pays for blobs and sends certificates. Reading needs none. */
  account?: LocalAccount | undefined
  /** Block of the contracts' deployment: nothing is looked for before it. Default 0. */
  startBlock?: number | undefined
  /** Blocks, its own counted, after which a transaction of this client counts as final. Default 1: mined. */
  confirmations?: number | undefined
  /** Folder of the resume journal. Default `$XDG_STATE_HOME/weightless/blobs` (`~/.local/state/…`). */
  journalDir?: string | undefined
  /** A codec to share; the connection does not close it. Default: one of its own, opened when first needed. */
  codec?: BlobCodec | undefined
  /** Threads of the connection's own codec. Default: the codec decides. */
  workers?: number | undefined
  limits?: Partial<DaLimits> | undefined
}

/** Time limits and widths. None of the client's waits is without one. */
export interface DaLimits {
  /** One small call to a signer. Default 5 s. */
  callTimeoutMs: number
  /** A transfer in which no byte moves. Default 10 s. */
  idleTimeoutMs: number
  /** From a transaction to its receipt at the wanted depth. Default 180 s. */
  receiptTimeoutMs: number
  /** For all signers together to see the submission, take their rows and sign. Default 120 s. */
  signTimeoutMs: number
  /** How long to wait for more signatures once two thirds are there. Default 500 ms. */
  graceMs: number
  /** One upload to one signer, besides a second for each 256 KiB. Default 15 s. */
  uploadTimeoutMs: number
  /** All of a retrieval. Default 120 s. */
  retrieveTimeoutMs: number
  /** Without a row from a signer for so long, others are asked for further rows. Default 1 s. */
  hedgeMs: number
  /** Pause between two looks at the chain. Default 250 ms. */
  pollIntervalMs: number
  /** Tries with one signer before it is given up. Default 3. */
  attempts: number
  /** Uploads, or row transfers that move, at a time. Default 32. */
  width: number
}

const DEFAULT_LIMITS: DaLimits = {
  callTimeoutMs: 5_000,
  idleTimeoutMs: 10_000,
  receiptTimeoutMs: 180_000,
  signTimeoutMs: 120_000,
  graceMs: 500,
  uploadTimeoutMs: 15_000,
  retrieveTimeoutMs: 120_000,
  hedgeMs: 1_000,
  pollIntervalMs: 250,
  attempts: 3,
  width: 32,
}

/** What every action works with: connections made on first use and kept until `close`. */
export interface DaConnection {
  readonly contracts: {
    readonly signers: Address
    readonly entrance: Address
    readonly accounts: Address | undefined
  }
  readonly account: LocalAccount | undefined
  readonly startBlock: number
  readonly confirmations: number
  readonly journalDir: string
  readonly limits: DaLimits
  /** @throws `CHAIN_UNREACHABLE` */
  chain(signal?: AbortSignal): Promise<Chain>
  /** The account. @throws DaSettingError `SETTING_MISSING` */
  payer(purpose: string): LocalAccount
  codec(): Promise<BlobCodec>
  /** HTTP to a signer; the same object for the same address. */
  signer(url: string): SignerHttp
  /** What is kept under `key`, made on first use; a failure is not kept. At most 64 values a kind. */
  cached<T>(kind: string, key: string, make: () => Promise<T>): Promise<T>
  /** Forgets what is kept of a kind. */
  forget(kind: string): void
  /** Runs `work` after all earlier work with the same key: transactions of one account, dispersals of one blob. */
  exclusively<T>(key: string, work: () => Promise<T>): Promise<T>
  /** Ends connections and threads. Actions under way fail. */
  close(): Promise<void>
}

const MAX_CACHED = 64

/**
 * @example
 * const connection = openDaConnection({ rpcUrl: 'http://127.0.0.1:8545', contracts: { signers, entrance }, account })
 * const certificate = await disperse(connection, { data })
 * await connection.close()
 */
export function openDaConnection(parameters: DaConnectionParameters): DaConnection {
  const limits: DaLimits = { ...DEFAULT_LIMITS, ...withoutUndefined(parameters.limits ?? {}) }
  const { contracts, account, chainId } = parameters
  const rpcUrls = typeof parameters.rpcUrl === 'string' ? [parameters.rpcUrl] : parameters.rpcUrl
  const signers = new Map<string, SignerHttp>()
  const kept = new Map<string, Map<string, Promise<unknown>>>()
  const turns = new Map<string, Promise<unknown>>()
  let chain: Promise<Chain> | undefined
  let codec: Promise<BlobCodec> | undefined

  return {
    contracts: {
      signers: contracts.signers.toLowerCase() as Address,
      entrance: contracts.entrance.toLowerCase() as Address,
      accounts: contracts.accounts?.toLowerCase() as Address | undefined,
    },
    account,
    startBlock: parameters.startBlock ?? 0,
    confirmations: parameters.confirmations ?? 1,
    journalDir: parameters.journalDir ?? defaultJournalDir(),
    limits,
    chain: (signal) => {
      if (rpcUrls.length === 0) throw new DaSettingError({ setting: 'rpcUrl', purpose: 'reach the chain' })
      chain ??= reachChain({ rpcUrls, chainId, pollingIntervalMs: limits.pollIntervalMs, signal }).catch((error) => {
        chain = undefined
        throw error
      })
      return chain
    },
    payer: (purpose) => {
      if (account === undefined) throw new DaSettingError({ setting: 'account', purpose })
      return account
    },
    codec: () => {
      if (parameters.codec !== undefined) return Promise.resolve(parameters.codec)
      codec ??= BlobCodec.create(parameters.workers === undefined ? {} : { workers: parameters.workers })
      return codec
    },
    signer: (url) => {
      const known = signers.get(url)
      if (known !== undefined) return known
      const opened = openSignerHttp({ url, ...limits })
      signers.set(url, opened)
      return opened
    },
    cached: async <T>(kind: string, key: string, make: () => Promise<T>) => {
      const values = kept.get(kind) ?? new Map<string, Promise<unknown>>()
      kept.set(kind, values)
      const known = values.get(key)
      if (known !== undefined) return (await known) as T
      const made = make()
      values.set(key, made)
      const [oldest] = values.size > MAX_CACHED ? values.keys() : []
      if (oldest !== undefined) values.delete(oldest)
      made.catch(() => values.get(key) === made && values.delete(key))
      return await made
    },
    forget: (kind) => void kept.delete(kind),
    exclusively: async (key, work) => {
      const before = turns.get(key) ?? Promise.resolve()
      const mine = before.then(work, work)
      const settled = mine.then(
        () => {},
        () => {},
      )
      turns.set(key, settled)
      void settled.then(() => turns.get(key) === settled && turns.delete(key))
      return mine
    },
    close: async () => {
      for (const signer of signers.values()) signer.close()
      signers.clear()
      await chain?.then((connected) => connected.close()).catch(() => {})
      chain = undefined
      await codec?.then((opened) => opened.close()).catch(() => {})
      codec = undefined
    },
  }
}

async function reachChain(parameters: {
  rpcUrls: readonly string[]
  chainId: number | undefined
  pollingIntervalMs: number
  signal: AbortSignal | undefined
}): Promise<Chain> {
  try {
    return await connectChain(parameters)
  } catch (cause) {
    parameters.signal?.throwIfAborted()
    throw new WeightlessError({
      code: 'CHAIN_UNREACHABLE',
      message: `the chain cannot be reached: ${reasonOf(cause)}`,
      fix: 'check the RPC URL (--rpc) and that the chain runs',
      cause,
    })
  }
}

function defaultJournalDir(): string {
  const state = process.env.XDG_STATE_HOME ?? join(homedir(), '.local', 'state')
  return join(state, 'weightless', 'blobs')
}

function withoutUndefined<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>
}
