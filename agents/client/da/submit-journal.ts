import { createHash } from 'node:crypto'
import { readdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { JournalEntry, SubmissionJournal } from '#client/storage/submission-journal.ts'
import { atomicWrite, readSmallFile } from '#kit/files.ts'
import type { Hash, Hex } from '#protocol/hex.ts'

/** A payment whose outcome is not known yet: which blobs it pays, and the signed transactions. */
export interface PendingPayment {
  /** Blobs in the order of the call. */
  dataRoots: readonly Hash[]
  entry: JournalEntry
  journal: SubmissionJournal
}

const hex = z.custom<Hex>((value) => typeof value === 'string' && /^0x[0-9a-f]*$/.test(value))
const paymentSchema = z.object({
  dataRoots: z.array(hex).min(1).max(4_096),
  root: hex,
  nonce: z.number().int().min(0),
  transactions: z
    .array(z.object({ hash: hex, raw: hex }))
    .min(1)
    .max(32),
})

/** Files of other programs in the folder must not make a start slow. */
const MAX_FILES = 4_096

/**
 * Payments on their way, one file each in `dir`. Written before a transaction goes out, so that a crash at any moment
 * leaves either nothing sent or the signed transaction on disk: sending that again cannot pay twice. Nothing secret.
 */
export interface PaymentJournal {
  /** A place for a new payment of these blobs. */
  open(dataRoots: readonly Hash[]): SubmissionJournal
  /** Payments under way that pay for one of these blobs, by this or an earlier process. */
  pending(dataRoots: readonly Hash[]): Promise<PendingPayment[]>
}

/** The payments of one payer at one contract. */
export function openPaymentJournal({
  dir,
  ...key
}: {
  dir: string
  chainId: number
  genesis: Hash
  entrance: Hex
  payer: Hex
}): PaymentJournal {
  const prefix = digest([key.chainId, key.genesis, key.entrance, key.payer].join('|').toLowerCase()).slice(0, 24)

  const at = (path: string, dataRoots: readonly Hash[]): SubmissionJournal => ({
    read: async () => (await readPayment(path))?.entry,
    write: (entry) =>
      atomicWrite({ path, data: `${JSON.stringify({ version: 1, dataRoots, ...entry })}\n`, mode: 0o600 }),
    remove: () => unlink(path).catch(() => {}),
  })

  return {
    open: (dataRoots) => at(join(dir, `${prefix}-${digest(dataRoots.join('|')).slice(0, 40)}.json`), dataRoots),
    pending: async (dataRoots) => {
      const wanted = new Set(dataRoots)
      const found: PendingPayment[] = []
      const files = (await readdir(dir).catch(() => [])).filter((name) => name.startsWith(prefix)).slice(0, MAX_FILES)
      for (const file of files) {
        const path = join(dir, file)
        const payment = await readPayment(path)
        if (payment === undefined || !payment.dataRoots.some((root) => wanted.has(root))) continue
        found.push({ ...payment, journal: at(path, payment.dataRoots) })
      }
      return found
    },
  }
}

/** Keeps a transaction in memory only: for calls that cost nothing when they are made twice. */
export function passingJournal(): SubmissionJournal {
  let kept: JournalEntry | undefined
  return {
    read: async () => kept,
    write: async (entry) => {
      kept = entry
    },
    remove: async () => {
      kept = undefined
    },
  }
}

async function readPayment(path: string): Promise<{ dataRoots: readonly Hash[]; entry: JournalEntry } | undefined> {
  try {
    const { dataRoots, ...entry } = paymentSchema.parse(JSON.parse(await readSmallFile({ path })))
    return { dataRoots, entry }
  } catch {
    // Atomic writes leave no torn entry: what is gone or cannot be read is not ours.
    return undefined
  }
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
