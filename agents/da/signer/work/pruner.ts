import type { Logger } from '#kit/log.ts'
import type { BlobKey } from '../store/blob-key.ts'
import type { RowFiles } from '../store/row-files.ts'
import type { SignerStore } from '../store/signer-store.ts'

/** Blobs removed in one round: the rest waits for the next. */
const BATCH = 500

/** Epochs in which a quorum may still confirm a blob, after its own. */
export const CONFIRM_EPOCHS = 1

/** Rows nobody paid for are kept so long: after a reorganisation the payment mostly comes back. */
const ORPHAN_MS = 3_600_000

/**
 * Removes rows that need not be held any more: those whose retention is over, and those of blobs that can never be
 * confirmed. What a custody request asks for stays. Returns how many blobs went.
 */
export async function prune({
  store,
  files,
  currentEpoch,
  graceEpochs,
  nowMs,
  log,
}: {
  store: SignerStore
  files: RowFiles
  currentEpoch: number
  graceEpochs: number
  nowMs: number
  log: Logger
}): Promise<number> {
  const limits = {
    expiredBefore: currentEpoch - graceEpochs,
    unconfirmedBefore: currentEpoch - CONFIRM_EPOCHS - graceEpochs,
    orphanBeforeMs: nowMs - ORPHAN_MS,
    limit: BATCH,
  }
  let removed = 0
  for (const key of store.held.removable(limits)) {
    if (store.custody.isAsked(key)) continue
    await removeRows({ store, files, key })
    removed += 1
  }
  store.forget({ beforeEpoch: currentEpoch - graceEpochs })
  if (removed > 0) log.info({ blobs: removed, currentEpoch }, 'rows that need not be held any more were removed')
  return removed
}

/** The table first: a file without a row is swept at the next start, a row without a file would count as damage. */
async function removeRows({ store, files, key }: { store: SignerStore; files: RowFiles; key: BlobKey }): Promise<void> {
  store.held.remove(key)
  await files.remove(key)
}

/** At the start: files nobody knows go, rows whose file is missing or short are marked. */
export async function reconcile({
  store,
  files,
  nowMs,
  log,
}: {
  store: SignerStore
  files: RowFiles
  nowMs: number
  log: Logger
}): Promise<void> {
  let damaged = 0
  for (const held of store.held.all()) {
    if (held.damaged || (await files.sizeOf(held)) === held.fileBytes) continue
    store.held.markDamaged(held, nowMs)
    damaged += 1
  }
  const swept = await files.sweep((key) => store.held.get(key) !== undefined)
  if (damaged + swept > 0)
    log.warn({ damaged, swept }, 'folder and tables differed: rows marked as lost, unknown files removed')
}
