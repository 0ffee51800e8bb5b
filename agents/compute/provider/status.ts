import type { Attestor } from '#compute/attestation/attestor.ts'
import type { Hex } from '#protocol/hex.ts'
import type { RequestLimits } from './admit/limits.ts'
import type { AccountView } from './chain/account-view.ts'
import { type Cashier, readTotals } from './money/cashier.ts'
import type { Settler } from './settle/settler.ts'
import type { ProviderStore } from './store/provider-store.ts'

/** How a provider does, for its operator. Amounts in wei. */
export interface ProviderStatus {
  readonly provider: Hex
  readonly signer: Hex
  readonly attestation: string
  /** Requests under way. */
  readonly running: number
  /** Requests billed in all that are still in the log. */
  readonly requests: number
  readonly billedWei: bigint
  readonly earnedWei: bigint
  /** Billed and not settled yet. */
  readonly unsettledWei: bigint
  readonly gasWei: bigint
  readonly chainSynced: boolean
  readonly lastSettlementError: string | undefined
}

export function providerStatus(parts: {
  store: ProviderStore
  cashier: Cashier
  limits: RequestLimits
  view: AccountView
  settler: Settler
  provider: Hex
  signer: Hex
  attestor: Attestor
}): ProviderStatus {
  const { store, limits, view, settler, provider, signer, attestor } = parts
  const { billedWei, earnedWei, lostWei, gasWei } = readTotals(store)
  const requests = store.database.get<{ count: number }>(
    `select count(*) as count from charge where state <> 'open' and kind <> 'carry'`,
  )
  return {
    ...{ provider, signer, attestation: attestor.kind, running: limits.running, requests: requests?.count ?? 0 },
    ...{ billedWei, earnedWei, gasWei, unsettledWei: billedWei - earnedWei - lostWei },
    chainSynced: view.status()?.synced ?? false,
    lastSettlementError: settler.lastError,
  }
}
