import { randomInt } from 'node:crypto'
import { blobCommitment } from '#protocol/da/commitment.ts'
import { SUBLINE_BYTES, TOTAL_ROWS } from '#protocol/da/constants.ts'
import { verifySubline } from '#protocol/da/row-proof.ts'
import type { Hash } from '#protocol/hex.ts'
import { type BlobRecord, findBlob } from './blob-record.ts'
import { AVAILABLE_SHARE, misledProbability, PASSING_SHARE } from './confidence.ts'
import type { DaConnection } from './connection.ts'
import { codeOf, reasonOf, SignerFailedError, type SignerFailure } from './errors.ts'
import type { DaListener } from './events.ts'
import { readQuorum } from './quorum-reader.ts'
import { openVerifier } from './retrieve.ts'
import type { RowSource } from './row-collector.ts'
import { rowSources } from './row-sources.ts'
import { verifiedRows } from './row-stream.ts'

/** Samples after which an undecodable blob passes with a probability below 2^-40. */
export const DEFAULT_SAMPLES = 69

export interface SampleParameters {
  dataRoot: Hash
  epoch?: number | undefined
  quorumId?: number | undefined
  /** Rows to draw, 1 to 3072. Default 69. */
  samples?: number | undefined
  /**
   * `rows`: whole rows, checked against tree and code. `sublines`: 1 KiB of each, which shows that it is there and
   * leaves the coding check to the quorum's signatures. Default `rows`.
   */
  mode?: 'rows' | 'sublines' | undefined
  /** Draws a number from 0 to `below` − 1. Default: the system's random source. Signers must not be able to guess it. */
  random?: ((below: number) => number) | undefined
  signal?: AbortSignal | undefined
  onEvent?: DaListener | undefined
}

export interface SampleReturnType {
  blob: BlobRecord
  mode: 'rows' | 'sublines'
  samples: number
  passed: number
  /** Probability of such an answer, or a better one, from a blob that is not there. */
  misled: number
  /** 1 − misled. */
  confidence: number
  /** What the confidence rests on, one statement a line. */
  restsOn: string[]
  failures: SignerFailure[]
  /** Bytes of rows, sub-lines and paths received. */
  receivedBytes: number
}

/**
 * Check by a few random rows whether a blob can be had, without downloading it.
 *
 * @throws BlobUnknownError; BlobUnavailableError when nobody gives the combinations that rows are checked with
 * @example
 * const { confidence } = await sample(connection, { dataRoot, samples: 69 })
 */
export async function sample(connection: DaConnection, parameters: SampleParameters): Promise<SampleReturnType> {
  const { limits } = connection
  const { mode = 'rows', random = (below: number) => randomInt(below), onEvent } = parameters
  const samples = Math.max(1, Math.min(TOTAL_ROWS, Math.floor(parameters.samples ?? DEFAULT_SAMPLES)))
  const timer = AbortSignal.timeout(limits.retrieveTimeoutMs)
  const signal = parameters.signal === undefined ? timer : AbortSignal.any([timer, parameters.signal])
  const blob = await findBlob(connection, parameters)
  const commitment = blobCommitment(blob)
  const sources = rowSources(connection, await readQuorum(connection, blob), blob.signed)
  const check =
    mode === 'rows'
      ? await rowCheck({ connection, blob, commitment, sources, signal })
      : sublineCheck({ blob, commitment, random, signal })

  const failures = new Map<string, SignerFailure>()
  let passed = 0
  let receivedBytes = check.sharedBytes
  const queue = drawRows(samples, random)
  const total = queue.length
  const lane = async (): Promise<void> => {
    for (let row = queue.pop(); row !== undefined; row = queue.pop()) {
      const index = row
      const source = sources.find(({ firstRow, rowCount }) => index >= firstRow && index < firstRow + rowCount)
      try {
        if (source === undefined)
          throw new SignerFailedError({ code: 'ROWS_MISSING', message: `nobody has row ${index}` })
        receivedBytes += await check.one(source, index)
        passed += 1
      } catch (error) {
        parameters.signal?.throwIfAborted()
        const signer = source?.address ?? blob.dataRoot
        failures.set(signer, { signer, url: source?.url ?? '', code: codeOf(error), reason: reasonOf(error) })
      }
      const done = total - queue.length
      onEvent?.({ type: 'sampled', done, total, failed: done - passed })
    }
  }
  try {
    await Promise.all(Array.from({ length: Math.min(16, total) }, lane))
  } finally {
    check.release()
  }
  const misled = misledProbability({ samples, passed, share: check.share })
  const shared = { blob, mode, samples, passed, misled, confidence: 1 - misled }
  return { ...shared, restsOn: check.restsOn, failures: [...failures.values()], receivedBytes }
}

interface Check {
  /** Verifies one row at a signer; gives the bytes that took. */
  one(source: RowSource, row: number): Promise<number>
  release(): void
  /** What came once for all rows. */
  sharedBytes: number
  share: number
  restsOn: string[]
}

async function rowCheck({
  connection,
  blob,
  commitment,
  sources,
  signal,
}: Parameters<typeof openVerifier>[1] & { connection: DaConnection }): Promise<Check> {
  const { header } = commitment
  const { verifier } = await openVerifier(connection, { blob, commitment, sources, signal })
  return {
    one: async ({ http }, row) => {
      for await (const rows of verifiedRows({ http, blob, header, verifier, from: row, to: row + 1, signal })) {
        for (const { data, path } of rows) return data.length + path.length
      }
      throw new SignerFailedError({ code: 'ROWS_MISSING', message: `it does not hold row ${row}` })
    },
    release: () => verifier.release(),
    sharedBytes: 16 * 1024,
    share: PASSING_SHARE,
    restsOn: [
      'rows drawn at random, each checked whole against the row tree and the code',
      'if two thirds of all rows or fewer would pass, so many passes are as unlikely as stated ((1+ρ)/2 with ρ = 1/3)',
      'collision resistance of SHA-256 and the chain’s record of the commitment, as the RPC endpoint tells it',
    ],
  }
}

function sublineCheck({
  blob,
  commitment,
  random,
  signal,
}: {
  blob: BlobRecord
  commitment: ReturnType<typeof blobCommitment>
  random: (below: number) => number
  signal: AbortSignal
}): Check {
  const { header, rowRoot } = commitment
  const sublines = Math.ceil(header.rowBytes / SUBLINE_BYTES)
  return {
    one: async ({ http }, row) => {
      const subline = random(sublines)
      const { data, path } = await http.subline(blob, { row, subline, signal })
      if (verifySubline({ rowRoot, header, row, subline, data, path })) return data.length + path.length
      throw new SignerFailedError({
        code: 'SIGNER_BAD_ROWS',
        message: `its sub-line ${subline} of row ${row} is false`,
      })
    },
    release: () => {},
    sharedBytes: 0,
    share: AVAILABLE_SHARE,
    restsOn: [
      'one random kilobyte of each row drawn, checked against the row tree: availability only',
      'the signatures of two thirds of the stake: signers with more than a third of it checked that the rows are a code word',
      'if fewer than a third of all rows are there, so many passes are as unlikely as stated; a signer that keeps a part of each row is found less surely',
    ],
  }
}

/** Distinct rows in random order. */
function drawRows(count: number, random: (below: number) => number): number[] {
  const rows = Array.from({ length: TOTAL_ROWS }, (_, row) => row)
  for (let i = 0; i < count; i++) {
    const j = i + random(TOTAL_ROWS - i)
    const drawn = rows[j] ?? 0
    rows[j] = rows[i] ?? 0
    rows[i] = drawn
  }
  return rows.slice(0, count)
}
