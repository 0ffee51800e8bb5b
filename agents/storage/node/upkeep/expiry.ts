import type { Logger } from '#kit/log.ts'
import type { NodeStore } from '../store/node-store.ts'

export interface ExpiryParameters {
  store: NodeStore
  log: Logger
  cacheExpiryMs: number
  revertedExpiryMs: number
  maxRevertedBytes: number
  now: () => number
}

/** Drops content that no submission claimed in time, and reverted content beyond its cap, oldest first. */
export function dropExpired(parameters: ExpiryParameters): number {
  const { store, log, cacheExpiryMs, revertedExpiryMs, maxRevertedBytes, now } = parameters
  const expired = store.contents
    .unclaimed('cached')
    .filter(({ unclaimed }) => unclaimed && unclaimed.sinceMs + cacheExpiryMs <= now())
  const reverted = store.contents.unclaimed('reverted')
  let kept = reverted.reduce((sum, { unclaimed }) => sum + (unclaimed?.bytes ?? 0), 0)
  for (const object of reverted) {
    const { sinceMs = 0, bytes = 0 } = object.unclaimed ?? {}
    if (sinceMs + revertedExpiryMs > now() && kept <= maxRevertedBytes) continue
    kept -= bytes
    expired.push(object)
  }
  for (const { id } of expired) store.objects.removePieces(id, { forget: true })
  if (expired.length > 0) log.info({ files: expired.length }, 'dropped content that no submission claimed')
  return expired.length
}
