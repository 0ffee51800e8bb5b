import { randomInt } from 'node:crypto'
import type { LocalAccount } from 'viem'
import { genesisOf } from '#kit/chain/genesis.ts'
import {
  type DispersalVoucherDomain,
  decodeVoucherShortfall,
  encodeDispersalVoucher,
  type SignedDispersalVoucher,
  signDispersalVoucher,
  type VoucherShortfall,
  verifyDispersalVoucher,
} from '#protocol/da/dispersal-voucher.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import { accountsContract, readAccount } from '../accounts.ts'
import { readBlob } from '../blob-record.ts'
import type { DaConnection } from '../connection.ts'
import { DisperserFailedError, type DisperserQuote, type DisperserRequest, fetchRequest } from './disperser-http.ts'
import type { OpenBlob, VoucherBook, VoucherKey } from './voucher-book.ts'

/** How long a voucher is good, at least. A disperser that wants more is given more. */
const LIFETIME_MS = 24 * 3_600_000
const SPREAD_S = 3_600
/** Blobs of earlier runs whose outcome is looked up before a new one is signed for. */
const MAX_LOOKUPS = 16

/** Signs vouchers for one disperser, as its book says. */
export interface Purse {
  readonly key: VoucherKey
  /** A voucher for a blob, as a header value; the book has it before it is signed. */
  sign(blob: { dataRoot: Hash; feeWei: bigint }): Promise<{ id: number; isNew: boolean; header: string }>
  /**
   * A voucher after the disperser found one too low: over no more than what the chain, the book, or a voucher that the
   * same user signed elsewhere justify.
   *
   * @throws DisperserFailedError `VOUCHER_UNJUSTIFIED`
   */
  signAgain(shortfall: VoucherShortfall, feeWei: bigint): Promise<string>
}

/**
 * Opens the purse for the disperser that a quote names, after checking that it is the contract this client knows.
 *
 * @throws DisperserFailedError `DISPERSER_DISHONEST`; DaSettingError
 */
export async function openPurse(
  connection: DaConnection,
  { book, url, payment }: { book: VoucherBook; url: string; payment: NonNullable<DisperserQuote['payment']> },
): Promise<Purse> {
  const chain = await connection.chain()
  const contract = accountsContract(connection)
  const account = connection.payer('sign vouchers')
  if (payment.contract !== contract || payment.chainId !== chain.id) {
    throw new DisperserFailedError({
      code: 'DISPERSER_DISHONEST',
      message: `${url} wants to be paid at ${payment.contract} on chain ${payment.chainId}, this client knows ${contract} on chain ${chain.id}`,
      fix: 'nothing was signed; check the network and the address of the contract (--accounts)',
      details: { url, contract, named: payment.contract, chainId: chain.id, namedChainId: payment.chainId },
    })
  }
  const genesis = await genesisOf(chain)
  const { disperser } = payment
  const key: VoucherKey = { chainId: chain.id, genesis, contract, user: account.address, disperser }
  const lifetimeMs = Math.max(LIFETIME_MS, 2 * payment.minVoucherLifetimeMs)
  const domain = { chainId: chain.id, contract }
  // What this call signed proves nothing when the disperser shows it.
  const session = { signedBeforeWei: 0n, signatures: new Set<Hex>() }
  const headerOf = async (cumulativeFeeWei: bigint) => {
    const signed = await sign({ account, key, domain, cumulativeFeeWei, lifetimeMs })
    session.signatures.add(signed.signature)
    return encodeDispersalVoucher(signed)
  }
  return {
    key,
    sign: async ({ dataRoot, feeWei }) => {
      const expiresAtS = Math.floor((Date.now() + lifetimeMs) / 1_000) + SPREAD_S
      const { id, isNew, cumulativeFeeWei, signedBeforeWei } = book.reserve(key, { dataRoot, feeWei, expiresAtS })
      session.signedBeforeWei = signedBeforeWei
      return { id, isNew, header: await headerOf(cumulativeFeeWei) }
    },
    signAgain: async (shortfall, feeWei) => {
      adopt({ book, key, domain, shortfall, session })
      const { billedWei, openWei, signedWei } = book.account(key)
      const justifiedWei = greatest(billedWei + openWei, signedWei + 1n)
      if (shortfall.requiredCumulativeFeeWei > justifiedWei) throw unjustified({ url, shortfall, justifiedWei, feeWei })
      return await headerOf(book.renew(key))
    },
  }
}

/**
 * Finds out what became of blobs that an earlier run signed for and did not see through: confirmed ones are owed, failed
 * ones are not. What the chain says was claimed is owed in any case.
 */
export async function catchUp(
  connection: DaConnection,
  { book, key, url, except, signal }: CatchUpParameters,
): Promise<void> {
  for (const blob of book.open(key, MAX_LOOKUPS)) {
    if (blob.dataRoot === except) continue
    const isOver = blob.expiresAtS * 1_000 < Date.now()
    const request = blob.requestId === undefined ? undefined : await lookUp({ url, id: blob.requestId, signal })
    const owed = request === undefined ? undefined : await chargedFor(connection, { key, blob, request })
    if (owed !== undefined) book.bill(key, { id: blob.id, ...owed })
    else if (request?.state === 'failed' || isOver) book.fail(blob.id)
  }
  // Last: what was claimed for blobs above is in their bills by now.
  const { claimedWei } = await readAccount(connection, { disperser: key.disperser })
  book.raise(key, { billedWei: claimedWei })
}

interface CatchUpParameters {
  book: VoucherBook
  key: VoucherKey
  url: string
  /** A blob under way in this call. */
  except: Hash
  signal?: AbortSignal | undefined
}

/** What is owed for a blob that the chain has as confirmed; undefined while it has not. */
async function chargedFor(
  connection: DaConnection,
  { key, blob, request }: { key: VoucherKey; blob: OpenBlob; request: DisperserRequest },
): Promise<Owed | undefined> {
  const { epoch, quorumId, charge } = request
  if (request.dataRoot !== blob.dataRoot || epoch === undefined) return undefined
  const record = await readBlob(connection, { dataRoot: blob.dataRoot, epoch, quorumId })
  return record?.confirmed === true ? owedFor({ key, feeWei: blob.feeWei, charge }) : undefined
}

/** What a confirmed blob costs. */
export interface Owed {
  feeWei: bigint
  /** The disperser's charge; undefined where nothing is owed. */
  charge: number | undefined
}

/** What a confirmed blob costs: what the disperser says, never more than was signed for it. */
export function owedFor({
  key,
  feeWei,
  charge,
}: {
  key: VoucherKey
  feeWei: bigint
  charge: DisperserRequest['charge']
}): Owed {
  // An equal blob was somebody else's: nothing is owed for this one.
  if (charge === undefined || charge === null || charge.user !== key.user.toLowerCase()) {
    return { feeWei: 0n, charge: undefined }
  }
  return { feeWei: charge.feeWei < feeWei ? charge.feeWei : feeWei, charge: charge.id }
}

async function lookUp(call: { url: string; id: string; signal: AbortSignal | undefined }) {
  try {
    return await fetchRequest(call)
  } catch (error) {
    // It stays open, and is looked up again next time.
    if (error instanceof DisperserFailedError) return undefined
    throw error
  }
}

/**
 * A voucher of this user above all that this book signed before shows that the book is behind (another machine, a lost disk).
 * What it allows can be claimed anyway, so the disperser's count is taken over up to that amount.
 */
function adopt({
  book,
  key,
  domain,
  shortfall: { cumulativeFeeWei, lastVoucher },
  session,
}: {
  book: VoucherBook
  key: VoucherKey
  domain: DispersalVoucherDomain
  shortfall: VoucherShortfall
  session: { signedBeforeWei: bigint; signatures: ReadonlySet<Hex> }
}): void {
  if (lastVoucher === undefined) return
  const { user, disperser, cumulativeFeeWei: shownWei } = lastVoucher.voucher
  const isOurs = user === key.user.toLowerCase() && disperser === key.disperser.toLowerCase()
  if (!isOurs || shownWei <= session.signedBeforeWei || cumulativeFeeWei > shownWei) return
  if (session.signatures.has(lastVoucher.signature)) return
  try {
    verifyDispersalVoucher({ ...domain, ...lastVoucher })
  } catch {
    return
  }
  book.raise(key, { billedWei: cumulativeFeeWei, signedWei: shownWei })
}

async function sign({
  account,
  key,
  domain,
  cumulativeFeeWei,
  lifetimeMs,
}: {
  account: LocalAccount
  key: VoucherKey
  domain: DispersalVoucherDomain
  cumulativeFeeWei: bigint
  lifetimeMs: number
}): Promise<SignedDispersalVoucher> {
  // At a random second, so that no two vouchers over the same amount are the same.
  const expiresAtS = Math.floor((Date.now() + lifetimeMs) / 1_000) + randomInt(SPREAD_S)
  const voucher = { user: key.user, disperser: key.disperser, cumulativeFeeWei, expiresAtS }
  return await signDispersalVoucher({ ...domain, voucher, signer: account })
}

/** What a refusal says a voucher lacks, where it is about that. */
export function shortfallOf(error: unknown): VoucherShortfall | undefined {
  const isShort = error instanceof DisperserFailedError && error.code === 'VOUCHER_INSUFFICIENT'
  return isShort ? decodeVoucherShortfall(error.details) : undefined
}

function unjustified(facts: {
  url: string
  shortfall: VoucherShortfall
  justifiedWei: bigint
  feeWei: bigint
}): DisperserFailedError {
  const { url, shortfall, justifiedWei, feeWei } = facts
  const { requiredCumulativeFeeWei, cumulativeFeeWei } = shortfall
  return new DisperserFailedError({
    code: 'VOUCHER_UNJUSTIFIED',
    message: `${url} asks for a voucher over ${requiredCumulativeFeeWei} wei in all; confirmed blobs and this one justify ${justifiedWei} wei`,
    fix: 'nothing more was signed; ask for a new quote if the fee has risen, else use another disperser',
    details: {
      ...{ url, requiredCumulativeFeeWei: String(requiredCumulativeFeeWei), justifiedWei: String(justifiedWei) },
      ...{ cumulativeFeeWei: String(cumulativeFeeWei), feeWei: String(feeWei) },
    },
  })
}

function greatest(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}
