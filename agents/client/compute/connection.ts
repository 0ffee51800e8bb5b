import { homedir } from 'node:os'
import { join } from 'node:path'
import { type Abi, encodeFunctionData, type LocalAccount, type TransactionReceipt } from 'viem'
import { type Chain, connectChain } from '#kit/chain/client.ts'
import { genesisOf } from '#kit/chain/genesis.ts'
import { findRpcError } from '#kit/chain/rpc-error.ts'
import { createSender, type TransactionSender } from '#kit/chain/sender.ts'
import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import { ledgerManagerAbi } from '#protocol/abi/ledger-manager.ts'
import type { Hex } from '#protocol/hex.ts'
import { type BookKey, ComputeBook } from './book.ts'
import { ComputeChainError, ComputeRequestError, reasonOf } from './errors.ts'
import { SessionTokens } from './session-tokens.ts'
import type { ModelTexts } from './token-text.ts'

/** Where and as whom the compute market is used. */
export interface ComputeConnectionParameters {
  /** JSON-RPC endpoints of the chain, in order of preference. */
  rpcUrl: string | readonly string[]
  /** LedgerManager. */
  ledger: Hex
  /** InferenceServing. Default: the one the ledger recommends. */
  inference?: Hex | undefined
  /** Pays and signs. Left out: only what needs no money (lists of providers). */
  account?: LocalAccount | undefined
  /** Folder of the books: vouchers signed, receipts. Default `$XDG_DATA_HOME/weightless/compute` (`~/.local/share/…`). */
  dataDir?: string | undefined
  /**
   * Bind each provider, when an account at it is opened, to charge only what the user signs in vouchers. Default true.
   * Clients of the original protocol, which sign no vouchers, cannot use such an account.
   */
  guard?: boolean | undefined
  /** Tokenizers at hand, so that the text received is compared with the tokens of the receipt. Default none. */
  modelTexts?: ModelTexts | undefined
  limits?: Partial<ComputeLimits> | undefined
}

/** Limits of every wait and buffer. */
export interface ComputeLimits {
  /** One small call to a provider. Default 10 s. */
  callTimeoutMs: number
  /** A health probe. Default 3 s. */
  probeTimeoutMs: number
  /** From the request to the first token. Default 120 s. */
  firstTokenTimeoutMs: number
  /** Between two pieces of an answer. Default 60 s. */
  idleTimeoutMs: number
  /** From the end of an answer until its receipt is there. Default 5 s. */
  receiptTimeoutMs: number
  /** A transaction, until it is mined. Default 120 s. */
  transactionTimeoutMs: number
  /** Bytes of an answer. Default 64 MiB. */
  maxAnswerBytes: number
  /** How long a voucher can be settled. Default 7 days. */
  voucherLifetimeMs: number
  /** How long what was read from the chain (services, accounts) or probed counts as known. Default 30 s. */
  cacheMs: number
  /** While the chain cannot be reached, what was read is used for so long. Default 15 min. */
  staleMs: number
}

const DEFAULT_LIMITS: ComputeLimits = {
  callTimeoutMs: 10_000,
  probeTimeoutMs: 3_000,
  firstTokenTimeoutMs: 120_000,
  idleTimeoutMs: 60_000,
  receiptTimeoutMs: 5_000,
  transactionTimeoutMs: 120_000,
  maxAnswerBytes: 64 * 2 ** 20,
  voucherLifetimeMs: 7 * 86_400_000,
  cacheMs: 30_000,
  staleMs: 900_000,
}

/** What the ledger calls inference contracts where none is recommended. */
const DEFAULT_SERVICE_NAME = 'inference-v1.0'

/** The contracts in use. */
export interface ComputeContracts {
  readonly chainId: number
  /** Hash of the chain's first block; `0x` where no endpoint has it. */
  readonly genesis: string
  readonly ledger: Hex
  readonly inference: Hex
  /** The ledger's name of the inference contract: `inference-v1.0`. */
  readonly serviceName: string
}

/** What every action of the compute market works with. Connections are made on first use and kept until `close`. */
export interface ComputeConnection {
  readonly limits: ComputeLimits
  /** See {@link ComputeConnectionParameters}. */
  readonly guard: boolean
  readonly modelTexts: ModelTexts
  readonly book: ComputeBook
  readonly tokens: SessionTokens
  /** @throws ComputeChainError `CHAIN_UNREACHABLE` */
  chain(): Promise<Chain>
  contracts(): Promise<ComputeContracts>
  /** @throws ComputeRequestError `ACCOUNT_MISSING` */
  account(): LocalAccount
  /** Sends a transaction of the user and waits until it is mined. */
  send(request: SendCall): Promise<TransactionReceipt>
  /** Runs `work` after all earlier work with the same key. */
  exclusively<T>(key: string, work: () => Promise<T>): Promise<T>
  /** Work that goes on behind an answer (fetching its receipt): `close` waits for it. It must be bounded by itself. */
  background(work: Promise<unknown>): void
  close(): Promise<void>
}

export interface SendCall {
  to: Hex
  functionName: string
  abi: Abi
  args?: readonly unknown[]
  valueWei?: bigint
  signal?: AbortSignal | undefined
}

/**
 * @example
 * const connection = openComputeConnection({ rpcUrl, ledger, account: privateKeyToAccount(key) })
 * const services = await listServices(connection)
 * await connection.close()
 */
export function openComputeConnection(parameters: ComputeConnectionParameters): ComputeConnection {
  const limits: ComputeLimits = { ...DEFAULT_LIMITS, ...parameters.limits }
  const rpcUrls = typeof parameters.rpcUrl === 'string' ? [parameters.rpcUrl] : parameters.rpcUrl
  const behind = new Set<Promise<unknown>>()
  const turns = new Map<string, Promise<unknown>>()
  let chain: Promise<Chain> | undefined
  let contracts: Promise<ComputeContracts> | undefined
  let sender: TransactionSender | undefined
  let book: ComputeBook | undefined
  const tokens = new SessionTokens()

  async function reachChain(): Promise<Chain> {
    try {
      return await connectChain({ rpcUrls, pollingIntervalMs: 250, retries: 1 })
    } catch (cause) {
      throw chainDown(cause)
    }
  }

  const connection: ComputeConnection = {
    limits,
    guard: parameters.guard ?? true,
    modelTexts: parameters.modelTexts ?? (async () => undefined),
    tokens,
    get book() {
      book ??= ComputeBook.open({ dir: parameters.dataDir ?? defaultDataDir() })
      return book
    },
    chain: () => {
      chain ??= reachChain().catch((error: unknown) => {
        chain = undefined
        throw error
      })
      return chain
    },
    contracts: () => {
      contracts ??= findContracts({ connection, ...parameters }).catch((error: unknown) => {
        contracts = undefined
        throw error
      })
      return contracts
    },
    account: () => {
      if (parameters.account !== undefined) return parameters.account
      throw new ComputeRequestError({
        code: 'SIGNER_MISSING',
        message: 'this needs an account that pays, and none is given',
        fix: 'give a key (WEIGHTLESS_PRIVATE_KEY or --keystore)',
      })
    },
    send: async ({ to, functionName, abi, args = [], valueWei, signal }) => {
      const connected = await connection.chain()
      sender ??= createSender({ chain: connected, account: connection.account() })
      const data = encodeFunctionData({ abi, functionName, args: [...args] })
      const errors = [...ledgerManagerAbi, ...inferenceServingAbi]
      try {
        const timeoutMs = limits.transactionTimeoutMs
        return await sender.send({ to, data, valueWei, abi: errors }, { signal, timeoutMs })
      } catch (error) {
        throw findRpcError(error)?.kind === 'endpoint' ? chainDown(error) : error
      }
    },
    exclusively: async (key, work) => {
      const before = turns.get(key) ?? Promise.resolve()
      const mine = before.then(work, work)
      const quiet = mine.catch(() => {})
      turns.set(key, quiet)
      void quiet.then(() => {
        if (turns.get(key) === quiet) turns.delete(key)
      })
      return mine
    },
    background: (work) => {
      const quiet = work.catch(() => {})
      behind.add(quiet)
      void quiet.then(() => behind.delete(quiet))
    },
    close: async () => {
      await Promise.all(behind)
      await sender?.close()
      await chain?.then((connected) => connected.close()).catch(() => {})
      book?.close()
      chain = undefined
      sender = undefined
      book = undefined
    },
  }
  return connection
}

/** Of one read, over all endpoints and retries. */
const READ_TIMEOUT_MS = 20_000

/**
 * Runs a read of a contract; what the chain or the contract says becomes a {@link ComputeChainError}.
 */
export async function readChain<T>(what: string, read: () => Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<never>((_, reject) => {
    const late = new Error(`no answer within ${READ_TIMEOUT_MS} ms`)
    timer = setTimeout(() => reject(chainDown(late)), READ_TIMEOUT_MS)
  })
  try {
    return await Promise.race([read(), limit])
  } catch (cause) {
    const failure = findRpcError(cause)
    if (failure !== undefined && failure.kind !== 'answer') throw chainDown(cause)
    if (cause instanceof ComputeChainError) throw cause
    throw new ComputeChainError({
      code: 'COMPUTE_CONTRACT',
      message: `${what} cannot be read: ${reasonOf(cause)}`,
      fix: 'check the contract address and the chain',
      cause,
    })
  } finally {
    clearTimeout(timer)
  }
}

async function findContracts({
  connection,
  ledger,
  inference,
}: {
  connection: ComputeConnection
  ledger: Hex
  inference?: Hex | undefined
}): Promise<ComputeContracts> {
  const chain = await connection.chain()
  const { client, id: chainId } = chain
  const at = { address: ledger, abi: ledgerManagerAbi } as const
  return await readChain(`the ledger ${ledger}`, async () => {
    const recommended = await client
      .readContract({ ...at, functionName: 'getRecommendedService', args: ['inference'] })
      .catch((error: unknown) => {
        if (findRpcError(error)?.kind !== 'answer') throw error
        return undefined
      })
    const serviceName = recommended === undefined ? DEFAULT_SERVICE_NAME : `inference-${recommended[0]}`
    const registered =
      recommended?.[1] ??
      (await client.readContract({ ...at, functionName: 'getServiceAddressByName', args: [DEFAULT_SERVICE_NAME] }))
    const genesis = await genesisOf(chain)
    return { chainId, genesis, ledger, inference: lower(inference ?? registered), serviceName }
  })
}

/** Whether the chain is out of reach, so that what was read before has to do. */
export function isChainDown(error: unknown): boolean {
  return error instanceof ComputeChainError && error.code === 'CHAIN_UNREACHABLE'
}

/** Whether the contract lacks the function that was called: one of the original protocol. */
export function isMissing(error: unknown): boolean {
  return /reverted|returned no data/.test(error instanceof Error ? error.message : '')
}

function chainDown(cause: unknown): ComputeChainError {
  return new ComputeChainError({
    code: 'CHAIN_UNREACHABLE',
    message: `the chain cannot be reached: ${reasonOf(cause)}`,
    fix: 'check the RPC URL (--rpc) and that the chain runs',
    cause,
  })
}

function lower(address: Hex): Hex {
  return address.toLowerCase() as Hex
}

/** The entry of the books for the connection's account at a provider. */
export async function bookKey(connection: ComputeConnection, { provider }: { provider: Hex }): Promise<BookKey> {
  const { chainId, genesis, inference } = await connection.contracts()
  return { chainId, genesis, contract: inference, user: connection.account().address, provider }
}

/** Where the books are unless told otherwise. */
export function defaultDataDir(): string {
  const data = process.env.XDG_DATA_HOME || join(homedir(), '.local', 'share')
  return join(data, 'weightless', 'compute')
}
