import { decodeEventLog, type PublicClient } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { type BlockRef, followLogs, type LogBatch, type LogFollower, type RawLog } from '#kit/chain/log-follower.ts'
import type { Logger } from '#kit/log.ts'
import type { Metrics } from '#kit/metrics.ts'
import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import { decodeVoucherPayments } from '#protocol/compute/packed-vouchers.ts'
import type { Hex } from '#protocol/hex.ts'
import { ProviderError } from '../error.ts'
import { watchedEvents } from './watched-events.ts'

/** One user's sub-account at this provider. */
export interface AccountState {
  readonly user: Hex
  readonly exists: boolean
  readonly acknowledged: boolean
  readonly nonce: bigint
  readonly balanceWei: bigint
  readonly pendingRefundWei: bigint
  readonly generation: bigint
  /** Bit i: the token with id i is revoked. */
  readonly revokedBitmap: bigint
  /** What this provider has claimed by vouchers in all. */
  readonly voucherPaidWei: bigint
  /** From when on the user pays by voucher alone, in seconds since 1970; 0: at no time. */
  readonly signedOnlyFromS: bigint
  /** When it was read, in milliseconds since 1970. */
  readonly readAtMs: number
}

/** The provider's own entry in the market. */
export interface ServiceState {
  readonly url: string
  readonly model: string
  readonly verifiability: string
  readonly additionalInfo: string
  readonly inputPriceWei: bigint
  readonly outputPriceWei: bigint
  readonly signer: Hex
  /** Whether the signer was approved, so that fees can be settled by its word. */
  readonly signerAcknowledged: boolean
}

export interface AccountViewParameters {
  chain: Chain
  contract: Hex
  /** The provider's wallet, lower case. */
  provider: Hex
  log: Logger
  metrics?: Metrics | undefined
  now: () => number
  signal: AbortSignal
  pollIntervalMs: number
  /** An account is read again when it is older than this and nothing was heard of it. */
  maxAgeMs: number
  /** While the chain cannot be reached, what was read before is believed for so long. */
  staleLimitMs: number
  /** Limit of one read. */
  readTimeoutMs?: number | undefined
}

/** Accounts remembered. */
const MAX_ACCOUNTS = 50_000
const ZERO_ADDRESS = `0x${'00'.repeat(20)}`

/**
 * What the provider knows of its users and of itself on the chain. Every change the contract reports drops what was
 * known at once; revocations count from the moment their event is seen, whatever was read before.
 */
export class AccountView {
  readonly #parameters: AccountViewParameters
  readonly #accounts = new Map<Hex, AccountState>()
  readonly #reads = new Map<Hex, Promise<AccountState>>()
  /** Raised by each event about a user: a read that began before it is not kept. */
  readonly #versions = new Map<Hex, number>()
  readonly #revoked = new Map<Hex, { generation: bigint; bitmap: bigint }>()
  readonly #leaving = new Set<Hex>()
  #service: { state: ServiceState | undefined; readAtMs: number } | undefined
  #serviceRead: Promise<ServiceState | undefined> | undefined
  #serviceVersion = 0
  #readFailed = false
  #checkpoints: BlockRef[] = []
  #follower: LogFollower | undefined

  constructor(parameters: AccountViewParameters) {
    this.#parameters = parameters
  }

  /** Reads the own service and begins to follow the contract from the chain's head on. */
  async start(): Promise<void> {
    const { chain, contract, log, metrics, pollIntervalMs, signal } = this.#parameters
    const head = Number(await chain.client.getBlockNumber())
    this.#follower = followLogs({
      ...{ chain, address: contract, events: watchedEvents, startBlock: head, confirmations: 0 },
      ...{ pollIntervalMs, log, metrics, signal },
      sink: {
        checkpoints: () => this.#checkpoints,
        apply: (batch) => this.#apply(batch),
        revert: (to) => this.#revert(to),
      },
    })
    await this.service()
  }

  /** How well the chain can be seen. */
  status() {
    return this.#follower?.status()
  }

  /** Whether the last look at the chain failed: then what is known counts for a while, and reads are not waited for. */
  isBlind(): boolean {
    return this.#readFailed || (this.status()?.consecutiveErrors ?? 0) > 0
  }

  /**
   * A user's sub-account, from memory while nothing was heard of it.
   *
   * @throws ProviderError 503 `chain_unavailable` when it is not known well enough and cannot be read
   */
  async account(user: Hex, { maxAgeMs = this.#parameters.maxAgeMs } = {}): Promise<AccountState> {
    const { now, staleLimitMs } = this.#parameters
    const known = this.#accounts.get(user)
    const ageMs = known === undefined ? Number.POSITIVE_INFINITY : Math.max(0, now() - known.readAtMs)
    if (known !== undefined && ageMs <= maxAgeMs) return known
    if (known !== undefined && this.isBlind() && ageMs <= staleLimitMs) {
      void this.#readAccount(user).catch(() => undefined)
      return known
    }
    try {
      return await this.#readAccount(user)
    } catch (cause) {
      if (known !== undefined && ageMs <= staleLimitMs) return known
      throw unavailable(cause)
    }
  }

  /** Whether a token was revoked: by its generation, or by its own bit. Events count at once. */
  revocation(account: AccountState): { generation: bigint; bitmap: bigint } {
    const seen = this.#revoked.get(account.user)
    if (seen === undefined || seen.generation < account.generation) {
      return { generation: account.generation, bitmap: account.revokedBitmap }
    }
    if (seen.generation > account.generation) return seen
    return { generation: seen.generation, bitmap: seen.bitmap | account.revokedBitmap }
  }

  /**
   * Reads the own service now.
   *
   * @throws ProviderError 503 `chain_unavailable`
   */
  async look(): Promise<ServiceState | undefined> {
    try {
      return await this.#readService()
    } catch (cause) {
      throw unavailable(cause)
    }
  }

  /** The own service as last read, without looking. */
  knownService(): ServiceState | undefined {
    return this.#service?.state
  }

  /** The own service; undefined when it is not registered. */
  async service(): Promise<ServiceState | undefined> {
    const { now, maxAgeMs, staleLimitMs } = this.#parameters
    const known = this.#service
    const ageMs = known === undefined ? Number.POSITIVE_INFINITY : Math.max(0, now() - known.readAtMs)
    if (known !== undefined && ageMs <= maxAgeMs) return known.state
    this.#serviceRead ??= this.#readService().finally(() => {
      this.#serviceRead = undefined
    })
    this.#serviceRead.catch(() => undefined)
    if (known !== undefined && this.isBlind() && ageMs <= staleLimitMs) return known.state
    try {
      return await this.#serviceRead
    } catch (cause) {
      if (known !== undefined && ageMs <= staleLimitMs) return known.state
      throw unavailable(cause)
    }
  }

  /** Whether a user has revoked everything, or said that it will pay by voucher alone, since the provider started. */
  isLeaving(user: Hex): boolean {
    return this.#leaving.has(user)
  }

  /** Forgets a user's account, so that the next request reads it again: after a settlement, say. */
  forget(user: Hex): void {
    this.#versions.set(user, (this.#versions.get(user) ?? 0) + 1)
    this.#accounts.delete(user)
  }

  /** Forgets the own service. */
  forgetService(): void {
    this.#serviceVersion += 1
    this.#service = undefined
  }

  #apply({ to, logs }: LogBatch): void {
    for (const log of logs) this.#applyLog(log)
    this.#checkpoints = [to, ...this.#checkpoints.slice(0, 255)]
  }

  #applyLog(log: RawLog): void {
    const { provider } = this.#parameters
    const event = decodeWatched(log)
    if (event === undefined) return
    const { eventName, args } = event
    if (args.provider?.toLowerCase() !== provider && args.service?.toLowerCase() !== provider) return
    if (eventName === 'VouchersSettled') {
      for (const { user } of decodeVoucherPayments(args.payments ?? '0x')) this.forget(user)
      return
    }
    if (args.user === undefined) {
      this.forgetService()
      return
    }
    const user = args.user.toLowerCase() as Hex
    const ids = eventName === 'TokensRevoked' ? (args.tokenIds ?? []) : []
    if (eventName === 'TokenRevoked' && args.tokenId !== undefined) this.#revoke(user, [args.tokenId])
    else if (eventName === 'TokensRevoked') this.#revoke(user, ids)
    else if (eventName === 'AllTokensRevoked' && args.newGeneration !== undefined) {
      this.#revoked.set(user, { generation: args.newGeneration, bitmap: 0n })
    }
    if (eventName === 'AllTokensRevoked' || eventName === 'SignedChargesOnly') this.#leaving.add(user)
    if (this.#leaving.size > MAX_ACCOUNTS) this.#leaving.clear()
    this.forget(user)
  }

  #revoke(user: Hex, ids: readonly number[]): void {
    const seen = this.#revoked.get(user)
    let bitmap = seen?.bitmap ?? 0n
    for (const id of ids) bitmap |= 1n << BigInt(id)
    // Without a generation of our own the account's is taken: see `revocation`.
    this.#revoked.set(user, { generation: seen?.generation ?? this.#accounts.get(user)?.generation ?? 0n, bitmap })
    this.#trim()
  }

  #trim(): void {
    for (const map of [this.#revoked, this.#versions, this.#accounts]) {
      if (map.size <= MAX_ACCOUNTS) continue
      let left = MAX_ACCOUNTS / 10
      for (const user of map.keys()) {
        map.delete(user)
        if (--left <= 0) break
      }
    }
  }

  /** A branch was taken back: all that was read may be of it. */
  #revert(to: BlockRef | undefined): void {
    this.#checkpoints = to === undefined ? [] : this.#checkpoints.filter(({ number }) => number <= to.number)
    for (const user of this.#accounts.keys()) this.#versions.set(user, (this.#versions.get(user) ?? 0) + 1)
    for (const user of this.#reads.keys()) this.#versions.set(user, (this.#versions.get(user) ?? 0) + 1)
    this.#accounts.clear()
    this.#revoked.clear()
    this.forgetService()
  }

  #readAccount(user: Hex): Promise<AccountState> {
    const running = this.#reads.get(user)
    if (running !== undefined) return running
    const version = this.#versions.get(user)
    const read = this.#limited(this.#fetchAccount(user))
      .then((account) => {
        if (this.#versions.get(user) === version) {
          this.#accounts.delete(user)
          this.#accounts.set(user, account)
          this.#trim()
        }
        return account
      })
      .finally(() => this.#reads.delete(user))
    this.#reads.set(user, read)
    return read
  }

  async #fetchAccount(user: Hex): Promise<AccountState> {
    const { chain, contract, provider, now } = this.#parameters
    const readAtMs = now()
    const call = { address: contract, abi: inferenceServingAbi, args: [user, provider] } as const
    const client: PublicClient = chain.client
    const [accounts, voucherPaidWei, signedOnlyFromS] = await Promise.all([
      client
        .readContract({ ...call, functionName: 'getAccount' })
        .catch((error: unknown) => missing(error, 'AccountNotExists')),
      client.readContract({ ...call, functionName: 'voucherPaid' }),
      client.readContract({ ...call, functionName: 'signedChargesOnlyFrom' }),
    ])
    if (accounts === undefined) {
      const none = { nonce: 0n, balanceWei: 0n, pendingRefundWei: 0n, generation: 0n, revokedBitmap: 0n }
      return { user, exists: false, acknowledged: false, ...none, voucherPaidWei, signedOnlyFromS, readAtMs }
    }
    const { acknowledged, nonce, balance, pendingRefund, generation, revokedBitmap } = accounts
    return {
      ...{ user, exists: true, acknowledged, nonce, generation, revokedBitmap, voucherPaidWei, readAtMs },
      ...{ signedOnlyFromS, balanceWei: balance, pendingRefundWei: pendingRefund },
    }
  }

  async #readService(): Promise<ServiceState | undefined> {
    const { chain, contract, provider, now } = this.#parameters
    const version = this.#serviceVersion
    const readAtMs = now()
    const client: PublicClient = chain.client
    const service = await this.#limited(
      client
        .readContract({ address: contract, abi: inferenceServingAbi, functionName: 'getService', args: [provider] })
        .catch((error: unknown) => missing(error, 'ServiceNotExist')),
    )
    const state: ServiceState | undefined =
      service === undefined
        ? undefined
        : {
            ...{ url: service.url, model: service.model, verifiability: service.verifiability },
            additionalInfo: service.additionalInfo,
            inputPriceWei: service.inputPrice,
            outputPriceWei: service.outputPrice,
            signer: service.teeSignerAddress.toLowerCase() as Hex,
            signerAcknowledged: service.teeSignerAcknowledged && service.teeSignerAddress !== ZERO_ADDRESS,
          }
    if (version === this.#serviceVersion) this.#service = { state, readAtMs }
    return state
  }

  async #limited<T>(work: Promise<T>): Promise<T> {
    const { readTimeoutMs = 5_000 } = this.#parameters
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`the chain gave no answer within ${readTimeoutMs} ms`)), readTimeoutMs)
    })
    work.catch(() => undefined)
    try {
      const result = await Promise.race([work, late])
      this.#readFailed = false
      return result
    } catch (error) {
      this.#readFailed = true
      throw error
    } finally {
      clearTimeout(timer)
    }
  }
}

interface WatchedArguments {
  user?: Hex
  provider?: Hex
  service?: Hex
  tokenId?: number
  tokenIds?: readonly number[]
  newGeneration?: bigint
  payments?: Hex
}

function decodeWatched(log: RawLog): { eventName: string; args: WatchedArguments } | undefined {
  try {
    const { eventName, args } = decodeEventLog({
      abi: watchedEvents,
      data: log.data,
      topics: log.topics as [Hex, ...Hex[]],
    })
    return { eventName, args: args as WatchedArguments }
  } catch {
    return undefined
  }
}

/** Undefined for the contract's own "there is none"; everything else is thrown on. */
function missing(error: unknown, name: string): undefined {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 8; cause = cause.cause, depth += 1) {
    const data: unknown = Reflect.get(cause, 'data')
    if (typeof data === 'object' && data !== null && Reflect.get(data, 'errorName') === name) return undefined
  }
  throw error
}

function unavailable(cause: unknown): ProviderError {
  return new ProviderError({
    ...{ statusCode: 503, type: 'server_error', code: 'chain_unavailable', retryAfterS: 10, cause },
    message: 'the chain cannot be reached, and what is asked for was not read lately',
    fix: 'try again shortly',
  })
}
