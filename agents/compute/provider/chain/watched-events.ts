import type { ContractEventName } from 'viem'
import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'

const NAMES: ReadonlySet<string> = new Set<ContractEventName<typeof inferenceServingAbi>>([
  'BalanceUpdated',
  'RefundRequested',
  'AccountDeleted',
  'TokenRevoked',
  'TokensRevoked',
  'AllTokensRevoked',
  'ServiceUpdated',
  'ServiceModelSet',
  'ServiceRemoved',
  'ProviderTEESignerAcknowledged',
  'SignedChargesOnly',
  'VouchersSettled',
])

/** Events after which what was known of an account, or of the own service, no longer counts. */
export const watchedEvents = inferenceServingAbi.filter((item) => item.type === 'event').filter(isWatched)

function isWatched({ name }: { name: string }): boolean {
  return NAMES.has(name)
}
