import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import { ledgerManagerAbi } from '#protocol/abi/ledger-manager.ts'
import type { Hex } from '#protocol/hex.ts'
import { type ComputeConnection, isMissing, readChain } from './connection.ts'
import { ComputeFundsError, ComputeRequestError } from './errors.ts'

/** The user's money at the ledger. */
export interface LedgerBalance {
  /** Not given to any provider yet. */
  readonly availableWei: bigint
  readonly totalWei: bigint
}

/** The user's money at one provider. */
export interface ProviderAccount {
  readonly provider: Hex
  readonly balanceWei: bigint
  /** Part of the balance that is on its way back. */
  readonly pendingRefundWei: bigint
  readonly generation: number
}

const PAGE = 50
const MAX_ACCOUNTS = 1_000

/** The ledger's balance of `user` (default: the connection's account); undefined before the first deposit. */
export async function getLedger(
  connection: ComputeConnection,
  { user = connection.account().address }: { user?: Hex } = {},
): Promise<LedgerBalance | undefined> {
  const { client } = await connection.chain()
  const { ledger } = await connection.contracts()
  return await readChain(`the ledger ${ledger}`, async () => {
    try {
      const args = [user] as const
      const entry = await client.readContract({
        address: ledger,
        abi: ledgerManagerAbi,
        functionName: 'getLedger',
        args,
      })
      return { availableWei: entry.availableBalance, totalWei: entry.totalBalance }
    } catch (error) {
      if (/LedgerNotExists/.test(error instanceof Error ? error.message : '')) return undefined
      throw error
    }
  })
}

/** The smallest first deposit and the smallest first transfer to a provider, in wei. */
export async function getMinimums(connection: ComputeConnection): Promise<{ depositWei: bigint; transferWei: bigint }> {
  const { client } = await connection.chain()
  const { ledger } = await connection.contracts()
  return await readChain(`the ledger ${ledger}`, async () => {
    const at = { address: ledger, abi: ledgerManagerAbi } as const
    const [depositWei, transferWei] = await Promise.all([
      client.readContract({ ...at, functionName: 'MIN_ACCOUNT_BALANCE' }),
      client.readContract({ ...at, functionName: 'MIN_TRANSFER_AMOUNT' }),
    ])
    return { depositWei, transferWei }
  })
}

/** The user's account at one provider; undefined before the first transfer. */
export async function getProviderAccount(
  connection: ComputeConnection,
  { provider, user = connection.account().address }: { provider: Hex; user?: Hex },
): Promise<ProviderAccount | undefined> {
  const { client } = await connection.chain()
  const { inference } = await connection.contracts()
  return await readChain(`the account at ${provider}`, async () => {
    const at = { address: inference, abi: inferenceServingAbi, args: [user, provider] } as const
    if (!(await client.readContract({ ...at, functionName: 'accountExists' }))) return undefined
    return readAccount(await client.readContract({ ...at, functionName: 'getAccount' }))
  })
}

/** All of the user's accounts at providers. */
export async function listProviderAccounts(
  connection: ComputeConnection,
  { user = connection.account().address }: { user?: Hex } = {},
): Promise<ProviderAccount[]> {
  const { client } = await connection.chain()
  const { inference } = await connection.contracts()
  const found: ProviderAccount[] = []
  for (let offset = 0; offset < MAX_ACCOUNTS; offset += PAGE) {
    const [page, total] = await readChain('the accounts', () =>
      client.readContract({
        address: inference,
        abi: inferenceServingAbi,
        functionName: 'getAccountsByUser',
        args: [user, BigInt(offset), BigInt(PAGE)],
      }),
    )
    found.push(...page.map(readAccount))
    if (page.length === 0 || offset + page.length >= Number(total)) break
  }
  return found
}

/** What the contract has paid to a provider against this user's vouchers; undefined where it knows no vouchers. */
export async function voucherPaid(
  connection: ComputeConnection,
  { provider, user = connection.account().address }: { provider: Hex; user?: Hex },
): Promise<bigint | undefined> {
  const { client } = await connection.chain()
  const { inference } = await connection.contracts()
  try {
    const args = [user, provider] as const
    return await client.readContract({
      address: inference,
      abi: inferenceServingAbi,
      functionName: 'voucherPaid',
      args,
    })
  } catch (error) {
    if (isMissing(error)) return undefined
    return await readChain('the vouchers paid', () => Promise.reject(error))
  }
}

/**
 * From when on (seconds since 1970) a provider may charge the user only what the user signed; 0 for never, undefined
 * where the contract cannot bind a provider to that.
 */
export async function signedChargesOnlyFrom(
  connection: ComputeConnection,
  { provider, user = connection.account().address }: { provider: Hex; user?: Hex },
): Promise<number | undefined> {
  const { client } = await connection.chain()
  const { inference } = await connection.contracts()
  try {
    const at = { address: inference, abi: inferenceServingAbi, args: [user, provider] } as const
    return Number(await client.readContract({ ...at, functionName: 'signedChargesOnlyFrom' }))
  } catch (error) {
    if (isMissing(error)) return undefined
    return await readChain('the guard of the account', () => Promise.reject(error))
  }
}

/**
 * Binds a provider to charge only what the user signs in vouchers, whatever the provider's own signer signs. At once
 * while the account is empty, else after the lock time. Session tokens alone buy nothing there any more.
 */
export async function setSignedChargesOnly(
  connection: ComputeConnection,
  { provider, enabled, signal }: { provider: Hex; enabled: boolean; signal?: AbortSignal | undefined },
): Promise<Hex> {
  const { inference } = await connection.contracts()
  const call = {
    to: inference,
    abi: inferenceServingAbi,
    functionName: 'setSignedChargesOnly',
    args: [provider, enabled],
  }
  return (await connection.send({ ...call, signal })).transactionHash
}

/**
 * Puts money into the user's ledger, from where it goes to providers as it is needed.
 *
 * @throws ComputeFundsError when a first deposit is below the ledger's minimum; the sender's errors
 * @example
 * await deposit(connection, { amountWei: parseEther('3') })
 */
export async function deposit(
  connection: ComputeConnection,
  { amountWei, signal }: { amountWei: bigint; signal?: AbortSignal | undefined },
): Promise<{ txHash: Hex; ledger: LedgerBalance }> {
  const account = connection.account()
  if (amountWei <= 0n) {
    throw new ComputeRequestError({
      code: 'CLI_USAGE',
      message: 'the amount to deposit must be more than zero',
      fix: 'give an amount, such as 3',
      details: { field: 'amount' },
    })
  }
  const { ledger } = await connection.contracts()
  const before = await getLedger(connection)
  if (before === undefined) {
    const { depositWei } = await getMinimums(connection)
    if (amountWei < depositWei) {
      const facts = { address: account.address, haveWei: 0n, needWei: depositWei, depositWei }
      throw new ComputeFundsError({ ...facts, purpose: 'a first deposit' })
    }
  }
  const call = { to: ledger, abi: ledgerManagerAbi, functionName: 'depositFund', valueWei: amountWei, signal }
  const { transactionHash } = await connection.send(call)
  const after = await getLedger(connection)
  return { txHash: transactionHash, ledger: after ?? { availableWei: amountWei, totalWei: amountWei } }
}

/** Moves money from the ledger to the user's account at a provider, opening it where it is not there. */
export async function transferToProvider(
  connection: ComputeConnection,
  { provider, amountWei, signal }: { provider: Hex; amountWei: bigint; signal?: AbortSignal | undefined },
): Promise<Hex> {
  const { ledger, serviceName } = await connection.contracts()
  const args = [provider, serviceName, amountWei]
  const call = { to: ledger, abi: ledgerManagerAbi, functionName: 'transferFund', args, signal }
  return (await connection.send(call)).transactionHash
}

/** Pays free money of the ledger back to the user's wallet. */
export async function withdraw(
  connection: ComputeConnection,
  { amountWei, signal }: { amountWei: bigint; signal?: AbortSignal | undefined },
): Promise<Hex> {
  const { ledger } = await connection.contracts()
  const call = { to: ledger, abi: ledgerManagerAbi, functionName: 'refund', args: [amountWei], signal }
  return (await connection.send(call)).transactionHash
}

/**
 * Asks for the money at providers back. It returns to the ledger after the lock time, with a second call. At most 20
 * providers.
 */
export async function retrieveFromProviders(
  connection: ComputeConnection,
  { providers, signal }: { providers: readonly Hex[]; signal?: AbortSignal | undefined },
): Promise<Hex> {
  const { ledger, serviceName } = await connection.contracts()
  const args = [providers, serviceName]
  const call = { to: ledger, abi: ledgerManagerAbi, functionName: 'retrieveFund', args, signal }
  return (await connection.send(call)).transactionHash
}

function readAccount(raw: {
  provider: Hex
  balance: bigint
  pendingRefund: bigint
  generation: bigint
}): ProviderAccount {
  return {
    provider: raw.provider.toLowerCase() as Hex,
    balanceWei: raw.balance,
    pendingRefundWei: raw.pendingRefund,
    generation: Number(raw.generation),
  }
}
