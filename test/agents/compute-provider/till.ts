import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Cashier } from '#compute/provider/money/cashier.ts'
import { VoucherBook } from '#compute/provider/money/voucher-book.ts'
import { SettlementLog } from '#compute/provider/settle/settlement-log.ts'
import { openProviderStore } from '#compute/provider/store/provider-store.ts'
import type { Hex } from '#protocol/hex.ts'

/** A till on a real file, as the provider opens it. */
export interface Till extends Disposable {
  readonly folder: string
  readonly cashier: Cashier
  readonly settlements: SettlementLog
  readonly vouchers: VoucherBook
  /** Sum of what is billed and neither paid nor given up, from the rows. */
  owedWei(): bigint
  /** States of the rows of charges, by the charges' ids. */
  states(): Record<string, string>
  /** Makes every write fail, or lets them through again, as a full disk would. */
  refuseWrites(refuse: boolean): void
  totals(): { billed: bigint; earned: bigint; lost: bigint }
  /** Closes the file as an ending process would: without a word to the cashier. Opens it again. */
  reopen(): Till
}

export const USERS: readonly Hex[] = [1, 2, 3].map((n) => `0x${String(n).repeat(40)}` as Hex)
export const PROVIDER: Hex = `0x${'9'.repeat(40)}`

/** Opens a till in a folder of its own; dispose it to remove the folder. */
export function openTill({ folder = mkdtempSync(join(tmpdir(), 'till-')), now = () => 1_700_000_000_000 } = {}): Till {
  const store = openProviderStore({ path: join(folder, 'usage.db') })
  const vouchers = new VoucherBook({ store, provider: PROVIDER })
  const cashier = new Cashier({
    ...{ store, now, progressIntervalMs: 1 },
    onBilled: ({ user, mode, feeWei }) => {
      if (mode === 'voucher') vouchers.bill(user, feeWei)
    },
  })
  const settlements = new SettlementLog({ store, cashier, now })
  return {
    ...{ folder, cashier, settlements, vouchers },
    owedWei: () =>
      store.database
        .all<{ fee_wei: string }>(`select fee_wei from charge where state in ('closed', 'settling')`)
        .reduce((sum, { fee_wei: fee }) => sum + BigInt(fee), 0n),
    states: () =>
      Object.fromEntries(
        store.database
          .all<{ id: string; state: string }>('select id, state from charge')
          .map(({ id, state }) => [id, state]),
      ),
    refuseWrites: (refuse) => store.database.exec(`pragma query_only = ${refuse ? 'on' : 'off'}`),
    totals: () => {
      const rows = store.database.all<{ name: string; wei: string }>('select name, wei from total')
      const of = (name: string) => BigInt(rows.find((row) => row.name === name)?.wei ?? '0')
      return { billed: of('billed'), earned: of('earned'), lost: of('lost') }
    },
    reopen: () => {
      store.close()
      return openTill({ folder, now })
    },
    [Symbol.dispose]: () => {
      store.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
