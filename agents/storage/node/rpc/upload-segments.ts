import { NodeError } from '../error.ts'
import type { IncomingSegment, Intake } from '../ingest/intake.ts'

/** What came of the segments of one call. */
export interface UploadCount {
  /** Segments stored by this call, durable. */
  stored: number
}

/**
 * Takes the segments of one call in order. Each is checked before the next is looked at; their writes share syncs. The
 * first that fails ends the call, and what was accepted before it stays stored (storage-node §4.4).
 *
 * @throws what {@link Intake.accept} and the write throw; `SEGMENT_DUPLICATE` unless duplicates are tolerated
 */
export async function uploadSegments({
  intake,
  segments,
  seq,
  tolerateDuplicates,
  signal,
}: {
  intake: Intake
  segments: readonly IncomingSegment[]
  seq?: number | undefined
  tolerateDuplicates: boolean
  signal: AbortSignal
}): Promise<UploadCount> {
  let stored = 0
  const writes: Promise<void>[] = []
  let failed: { error: unknown } | undefined
  for (const segment of segments) {
    if (failed || signal.aborted) break
    try {
      const accepted = await intake.accept(segment, seq)
      const write = accepted.store().then((result) => {
        if (result === 'stored') stored += 1
        if (result === 'duplicate' && !tolerateDuplicates) throw duplicate(segment)
      })
      writes.push(
        write.catch((error: unknown) => {
          failed ??= { error }
        }),
      )
    } catch (error) {
      // A file that another request completed in the middle of this one needs nothing more.
      const completed = error instanceof NodeError && error.code === 'ALREADY_FINALIZED' && writes.length > 0
      if (!completed) failed ??= { error }
      break
    }
  }
  await Promise.all(writes)
  if (failed) throw failed.error
  return { stored }
}

function duplicate({ index }: IncomingSegment): NodeError {
  return new NodeError({
    code: 'SEGMENT_DUPLICATE',
    message: 'segment has already been uploaded or is being uploaded',
    fix: 'nothing is left to do for this segment',
    details: { segment: index },
  })
}
