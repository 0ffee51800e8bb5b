import { createHash } from 'node:crypto'
import { unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { atomicWrite, FileError, readSmallFile } from '#kit/files.ts'
import type { Hash, Hex } from '#protocol/hex.ts'

/**
 * Transactions that were signed for a submission and whose outcome is not known yet. Written before a transaction goes
 * out, so that a crash at any moment leaves either nothing sent or the signed transaction on disk: sending that again
 * cannot pay twice. It holds nothing secret.
 */
export interface JournalEntry {
  root: Hex
  nonce: number
  /** Signed transactions with this nonce, the oldest first; at most one of them can be mined. */
  transactions: { hash: Hex; raw: Hex }[]
}

/** One submission's place in the journal. */
export interface SubmissionJournal {
  read(): Promise<JournalEntry | undefined>
  write(entry: JournalEntry): Promise<void>
  remove(): Promise<void>
}

const hex = z.custom<Hex>((value) => typeof value === 'string' && /^0x[0-9a-f]*$/.test(value))
const entrySchema = z.object({
  root: hex,
  nonce: z.number().int().min(0),
  transactions: z
    .array(z.object({ hash: hex, raw: hex }))
    .min(1)
    .max(32),
})

/**
 * The journal of one submission: the same chain (id and first block), contract, payer, content and tags find the same
 * entry.
 */
export function openSubmissionJournal({
  dir,
  ...key
}: {
  dir: string
  chainId: number
  genesis: Hash
  flow: Hex
  submitter: Hex
  identity: Hex
  sizeBytes: number
  tags: Hex
}): SubmissionJournal {
  const { chainId, genesis, flow, submitter, identity, sizeBytes, tags } = key
  const text = [chainId, genesis, flow, submitter, identity, sizeBytes, tags].join('|').toLowerCase()
  const path = join(dir, `${createHash('sha256').update(text).digest('hex')}.json`)
  return {
    read: async () => {
      try {
        return entrySchema.parse(JSON.parse(await readSmallFile({ path })))
      } catch (error) {
        if (error instanceof FileError && error.code === 'FILE_MISSING') return undefined
        // Atomic writes leave no torn entry: what cannot be read is not ours.
        if (error instanceof z.ZodError || error instanceof SyntaxError) return undefined
        throw error
      }
    },
    write: (entry) => atomicWrite({ path, data: `${JSON.stringify({ version: 1, ...entry })}\n`, mode: 0o600 }),
    remove: () => unlink(path).catch(() => {}),
  }
}
