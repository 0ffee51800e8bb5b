import { encodeVoucherHeader, type SignedVoucher } from '#protocol/compute/voucher.ts'
import type { Hex } from '#protocol/hex.ts'
import type { ProviderStore } from '../store/provider-store.ts'

interface Entry {
  billedWei: bigint
  voucher: SignedVoucher | undefined
}

interface VoucherRow {
  user: Hex
  billed_wei: string
  cumulative_wei: string
  expires_s: number
  generation: number
  signature: string
}

/** What each user was billed by voucher over the life of the sub-account, and the best voucher held for it. */
export class VoucherBook {
  readonly #store: ProviderStore
  readonly #provider: Hex
  readonly #entries = new Map<Hex, Entry>()

  constructor({ store, provider }: { store: ProviderStore; provider: Hex }) {
    this.#store = store
    this.#provider = provider
  }

  /** Billed in all, in wei: what the next voucher builds on. Never below what the chain says was paid. */
  billedWei(user: Hex, paidWei: bigint): bigint {
    const entry = this.#entry(user)
    if (paidWei > entry.billedWei) this.#write(user, { ...entry, billedWei: paidWei })
    return this.#entry(user).billedWei
  }

  /** The voucher with the largest amount, whatever it is still good for. */
  held(user: Hex): SignedVoucher | undefined {
    return this.#entry(user).voucher
  }

  /** The best voucher as a header value, for a client that lost its own. */
  heldHeader(user: Hex): string | undefined {
    const voucher = this.held(user)
    return voucher === undefined ? undefined : encodeVoucherHeader(voucher)
  }

  /** Keeps a verified voucher if it is worth more than the one held, or as much for longer. */
  keep(signed: SignedVoucher): void {
    const { user, cumulativeFeeWei, expiresAtS, generation } = signed.voucher
    const entry = this.#entry(user)
    const held = entry.voucher?.voucher
    const newer =
      held === undefined ||
      generation > held.generation ||
      (generation === held.generation &&
        (cumulativeFeeWei > held.cumulativeFeeWei ||
          (cumulativeFeeWei === held.cumulativeFeeWei && expiresAtS > held.expiresAtS)))
    if (newer) this.#write(user, { ...entry, voucher: signed })
  }

  /** Adds a fee. Call inside the transaction that writes the charge. */
  bill(user: Hex, feeWei: bigint): void {
    const entry = this.#entry(user)
    this.#write(user, { ...entry, billedWei: entry.billedWei + feeWei })
  }

  /** Somebody with the same key was paid too: the base under what is still unsettled rises. */
  rebase(user: Hex, billedWei: bigint): void {
    const entry = this.#entry(user)
    if (billedWei > entry.billedWei) this.#write(user, { ...entry, billedWei })
  }

  #entry(user: Hex): Entry {
    const known = this.#entries.get(user)
    if (known !== undefined) return known
    const row = this.#store.database.get<VoucherRow>('select * from voucher where user = ?', user)
    const entry: Entry =
      row === undefined
        ? { billedWei: 0n, voucher: undefined }
        : { billedWei: BigInt(row.billed_wei), voucher: this.#read(row) }
    if (this.#entries.size > 50_000) this.#entries.clear()
    this.#entries.set(user, entry)
    return entry
  }

  #read(row: VoucherRow): SignedVoucher | undefined {
    if (row.signature === '') return undefined
    return {
      voucher: {
        ...{ user: row.user, provider: this.#provider, cumulativeFeeWei: BigInt(row.cumulative_wei) },
        ...{ expiresAtS: row.expires_s, generation: row.generation },
      },
      signature: row.signature as Hex,
    }
  }

  #write(user: Hex, entry: Entry): void {
    const { cumulativeFeeWei = 0n, expiresAtS = 0, generation = 0 } = entry.voucher?.voucher ?? {}
    this.#store.database.run(
      `insert into voucher (user, billed_wei, cumulative_wei, expires_s, generation, signature)
       values (?, ?, ?, ?, ?, ?)
       on conflict (user) do update set billed_wei = excluded.billed_wei, cumulative_wei = excluded.cumulative_wei,
         expires_s = excluded.expires_s, generation = excluded.generation, signature = excluded.signature`,
      ...[user, String(entry.billedWei), String(cumulativeFeeWei), expiresAtS, generation],
      entry.voucher?.signature ?? '',
    )
    this.#entries.set(user, entry)
  }
}
