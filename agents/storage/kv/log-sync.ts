import { decodeEventLog, getAbiItem } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { followLogs, type LogBatch, type LogFollower, LogGapError, type RawLog } from '#kit/chain/log-follower.ts'
import type { Logger } from '#kit/log.ts'
import type { Metrics } from '#kit/metrics.ts'
import { flowAbi } from '#protocol/abi/flow.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import { decodeStreamTags } from '#protocol/kv/tags.ts'
import { submissionRoot } from '#protocol/storage/submission.ts'
import { KvError } from './error.ts'
import type { KvStore, LoggedSubmission } from './store.ts'

export interface FollowStreamsParameters {
  store: KvStore
  chain: Chain
  flow: Hex
  startBlock: number
  confirmations: number
  pollIntervalMs?: number | undefined
  log: Logger
  metrics?: Metrics | undefined
  signal: AbortSignal
  /** There is something new to replay, or something was taken back. */
  onChange: () => void
}

/** Transactions of one batch whose sender is asked for side by side. */
const SENDERS_AT_ONCE = 8

/**
 * Follows the flow's log and keeps the submissions that carry stream tags. The sender of a write is the sender of its
 * transaction, which the chain has checked: the event's own field is whatever the caller wrote into it.
 */
export function followStreams(parameters: FollowStreamsParameters): LogFollower {
  const { store, chain, flow, startBlock, confirmations, pollIntervalMs, log, metrics, signal, onChange } = parameters
  return followLogs({
    ...{ chain, startBlock, confirmations, pollIntervalMs, log, metrics, signal },
    address: flow,
    events: [getAbiItem({ abi: flowAbi, name: 'Submit' })],
    sink: {
      checkpoints: () => store.checkpoints(),
      apply: async (batch) => {
        const { submissions, nextSeq } = await readBatch({ batch, chain, loggedSeq: store.loggedSeq() })
        store.log(submissions, nextSeq, batch.to)
        if (submissions.length > 0) onChange()
      },
      revert: (to) => {
        store.revert(to?.number)
        onChange()
      },
    },
  })
}

async function readBatch({ batch, chain, loggedSeq }: { batch: LogBatch; chain: Chain; loggedSeq: number }) {
  let nextSeq = loggedSeq
  const tagged: { submission: Omit<LoggedSubmission, 'sender'>; transaction: Hash }[] = []
  for (const log of batch.logs) {
    const submission = readSubmit(log)
    if (submission.seq < nextSeq) continue
    if (submission.seq > nextSeq) {
      throw new LogGapError({
        code: 'LOG_GAP',
        message: `submission ${nextSeq} is missing before submission ${submission.seq}`,
        details: { expected: nextSeq, found: submission.seq, block: log.blockNumber },
      })
    }
    nextSeq += 1
    if (submission.streamIds.length > 0) tagged.push({ submission, transaction: log.transactionHash })
  }
  const submissions: LoggedSubmission[] = []
  for (let at = 0; at < tagged.length; at += SENDERS_AT_ONCE) {
    const some = tagged.slice(at, at + SENDERS_AT_ONCE)
    const senders = await Promise.all(some.map(({ transaction }) => senderOf(chain, transaction)))
    some.forEach(({ submission }, i) => {
      submissions.push({ ...submission, sender: senders[i] ?? '0x' })
    })
  }
  return { submissions, nextSeq }
}

async function senderOf(chain: Chain, hash: Hash): Promise<Hex> {
  const { from } = await chain.client.getTransaction({ hash })
  if (/^0x[0-9a-fA-F]{40}$/.test(from)) return from.toLowerCase() as Hex
  throw new KvError({ code: 'KV_CHAIN', message: `an endpoint gave no sender for transaction ${hash}` })
}

function readSubmit(log: RawLog): Omit<LoggedSubmission, 'sender'> {
  try {
    const { args } = decodeEventLog({
      abi: flowAbi,
      eventName: 'Submit',
      topics: log.topics as [Hash, ...Hash[]],
      data: log.data,
    })
    const nodes = args.submission.nodes.map(({ root, height }) => ({
      root: root.toLowerCase() as Hash,
      height: Number(height),
    }))
    return {
      seq: Number(args.submissionIndex),
      root: submissionRoot(nodes),
      sizeBytes: Number(args.submission.length),
      streamIds: decodeStreamTags(args.submission.tags) ?? [],
      block: log.blockNumber,
    }
  } catch (cause) {
    throw new LogGapError({
      code: 'LOG_INVALID',
      message: `a Submit log of block ${log.blockNumber} cannot be read`,
      fix: 'check that chain.flow is a flow contract; otherwise use another RPC endpoint',
      details: { block: log.blockNumber, transaction: log.transactionHash },
      cause,
    })
  }
}
