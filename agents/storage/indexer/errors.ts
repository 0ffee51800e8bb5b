import { WeightlessError } from '#protocol/error.ts'

/** A storage node answered something that is not what the protocol says, or did not answer in time. */
export class NodeAnswerError extends WeightlessError {
  constructor({ url, method, message, cause }: { url: string; method: string; message: string; cause?: unknown }) {
    super({
      code: 'NODE_ANSWER',
      message: `${url} ${method}: ${message}`,
      fix: 'check that the address is a storage node of this network and that it is up',
      details: { url, method },
      cause,
    })
  }
}

/** Why one node could not give a segment. */
export interface NodeFailure {
  url: string
  reason: string
  /** It answered, and does not hold the segment; otherwise it failed. */
  absent: boolean
}

/** No node gave a segment that fits the file's root. Carries what each of them said. */
export class SegmentUnavailableError extends WeightlessError {
  readonly failures: readonly NodeFailure[]

  constructor({ root, index, failures }: { root: string; index: number; failures: readonly NodeFailure[] }) {
    const said = failures.map(({ url, reason }) => `${url}: ${reason}`).join('; ')
    super({
      code: 'SEGMENT_UNAVAILABLE',
      message: `segment ${index} of ${root} is at none of the nodes asked (${said || 'no node holds it'})`,
      fix: 'try again when the nodes named are reachable, or add nodes that hold the file',
      details: { root, index, failures },
    })
    this.failures = failures
  }
}

/** Too much is under way here already; the caller may try again. */
export class IndexerBusyError extends WeightlessError {
  constructor({ what, limit }: { what: string; limit: number }) {
    super({
      code: 'INDEXER_BUSY',
      message: `too much ${what} under way (limit ${limit})`,
      fix: 'try again in a few seconds',
      details: { what, limit },
    })
  }
}

/** Any other refusal of the indexer; the code says which. */
export class IndexerError extends WeightlessError {}
