import {
  createPublicClient,
  custom,
  defineChain,
  type PublicClient,
  RpcRequestError,
  type Transport,
  type Chain as ViemChain,
} from 'viem'
import type { RpcCallOptions } from './rpc-endpoint.ts'
import { ChainRpcError, ChainUnavailableError, findRpcError } from './rpc-error.ts'
import { type EndpointHealth, type PinnedEndpoint, RpcPool } from './rpc-pool.ts'

export type { EndpointHealth, PinnedEndpoint } from './rpc-pool.ts'

/** A connection to one chain over a list of endpoints. Cheap to keep, safe to share. */
export interface Chain {
  readonly id: number
  /**
   * viem's client over the list. Its errors keep ours in their cause chain ({@link findRpcError} digs it out).
   */
  readonly client: PublicClient<Transport, ViemChain>
  /** As given: may hold credentials, so never log it; `endpoints` names the hosts. */
  readonly rpcUrls: readonly string[]
  /** The hosts, in order of preference. */
  readonly endpoints: readonly string[]
  /** One raw call with fail-over and retries. Throws {@link ChainRpcError} or {@link ChainUnavailableError}. */
  request(method: string, params?: readonly unknown[], options?: RpcCallOptions): Promise<unknown>
  /** Chooses one endpoint for a few calls that must see the same chain. */
  pick(options?: { avoid?: ReadonlySet<string> }): PinnedEndpoint
  /** Asks every endpoint for its head, so that lagging ones are passed over. */
  probe(signal?: AbortSignal): Promise<void>
  health(): ChainHealth
  /** Ends calls under way; later ones fail with `CHAIN_CLOSED`. */
  close(): void
}

export interface ChainHealth {
  /** Whether some endpoint answered its last call. */
  readonly up: boolean
  /** The highest head any endpoint has told of. */
  readonly head: number | undefined
  readonly endpoints: readonly EndpointHealth[]
}

export interface ConnectChainParameters {
  /** http or https, in order of preference; the first healthy one is asked. */
  rpcUrls: readonly string[]
  /** Every endpoint must serve this chain; left out, the chain of those that answer. */
  chainId?: number | undefined
  /** Of one call to one endpoint. Default 15 000. */
  timeoutMs?: number | undefined
  /** Rounds over the whole list after the first. Default 3. */
  retries?: number | undefined
  /** How often viem's own watchers and waiters look. Default 500. */
  pollingIntervalMs?: number | undefined
  /** Largest answer of an endpoint. Default 64 MiB. */
  maxResponseBytes?: number | undefined
  /** How long to keep trying while no endpoint answers at the start (a chain that is just coming up). Default 0. */
  waitMs?: number | undefined
  signal?: AbortSignal | undefined
}

/**
 * Connects to a chain over a list of RPC endpoints.
 *
 * @throws {@link ChainUnavailableError} when none answers, {@link ChainIdMismatchError} when one serves another chain,
 * {@link ChainConfigError} `CHAIN_URL_INVALID`.
 *
 * @example
 * const chain = await connectChain({ rpcUrls: ['http://127.0.0.1:8545', 'https://rpc.example.org'], chainId: 31337 })
 * await chain.client.getBlockNumber()
 * chain.close()
 */
export async function connectChain(parameters: ConnectChainParameters): Promise<Chain> {
  const {
    rpcUrls,
    chainId,
    timeoutMs = 15_000,
    retries = 3,
    pollingIntervalMs = 500,
    maxResponseBytes = 64 * 2 ** 20,
    waitMs = 0,
    signal,
  } = parameters
  const pool = new RpcPool({ rpcUrls, chainId, timeoutMs, retries, maxResponseBytes })
  const id = await identify({ pool, waitMs, signal })
  const client = createPublicClient({
    chain: defineChain({
      id,
      name: `chain ${id}`,
      nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
      rpcUrls: { default: { http: [] } },
    }),
    transport: poolTransport(pool),
    pollingInterval: pollingIntervalMs,
    // Agents ask for the head when they need the head.
    cacheTime: 0,
  })
  return {
    id,
    client,
    rpcUrls: [...rpcUrls],
    endpoints: pool.names,
    request: (method, params = [], options = {}) => pool.request(method, params, options),
    pick: (options) => pool.pick(options),
    probe: (probeSignal) => pool.probe(probeSignal),
    health: () => {
      const endpoints = pool.health()
      const heads = endpoints.flatMap((endpoint) => (endpoint.head === undefined ? [] : [endpoint.head]))
      return {
        up: endpoints.some((endpoint) => endpoint.state === 'up'),
        head: heads.length === 0 ? undefined : Math.max(...heads),
        endpoints,
      }
    },
    close: () => pool.close(),
  }
}

async function identify(parameters: {
  pool: RpcPool
  waitMs: number
  signal: AbortSignal | undefined
}): Promise<number> {
  const { pool, waitMs, signal } = parameters
  const giveUpAt = Date.now() + waitMs
  for (let attempt = 0; ; attempt++) {
    try {
      return await pool.identify(signal)
    } catch (error) {
      const remainingMs = giveUpAt - Date.now()
      if (!(error instanceof ChainUnavailableError) || remainingMs <= 0) throw error
      await pool.sleep(Math.min(100 * 2 ** Math.min(attempt, 5), remainingMs), signal)
    }
  }
}

/**
 * The pool as viem transport. JSON-RPC errors take viem's shape, because viem decodes reverts from `code` and `data`;
 * the URL in them is the host alone.
 */
function poolTransport(pool: RpcPool): Transport {
  return custom(
    {
      async request({ method, params }: { method: string; params?: unknown }) {
        try {
          return await pool.request(method, Array.isArray(params) ? params : [])
        } catch (error) {
          const failure = findRpcError(error)
          if (failure === undefined || failure.rpcCode === undefined || failure.kind !== 'answer') throw error
          const answer = new RpcRequestError({
            body: { method },
            error: { code: failure.rpcCode, message: failure.rpcMessage ?? '', data: failure.rpcData },
            url: `http://${failure.endpoint}`,
          })
          answer.cause = failure
          throw answer
        }
      },
    },
    // The pool has retried already.
    { retryCount: 0 },
  )
}

export { ChainRpcError, ChainUnavailableError, findRpcError }
