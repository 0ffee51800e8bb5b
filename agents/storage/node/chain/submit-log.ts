import { type AbiEvent, decodeEventLog, getAbiItem } from 'viem'
import { LogGapError, type RawLog } from '#kit/chain/log-follower.ts'
import { flowAbi } from '#protocol/abi/flow.ts'
import type { Hash } from '#protocol/hex.ts'
import { MAX_NODE_HEIGHT } from '#protocol/storage/constants.ts'
import { reasonOf } from '../error.ts'
import type { LoggedSubmission } from '../store/node-store.ts'

/** The event of the flow contract this node lives on. */
export const submitEvent: AbiEvent = getAbiItem({ abi: flowAbi, name: 'Submit' })

/** Nodes of a submission: the contract allows 4; anything near this limit is nonsense. */
const MAX_NODES = 64

/**
 * Reads a `Submit` log. What cannot be one makes the follower read the blocks again, elsewhere if it can: endpoints
 * have been seen to answer nonsense.
 *
 * @throws LogGapError `LOG_INVALID`
 */
export function readSubmitLog(log: RawLog): LoggedSubmission {
  try {
    const { args } = decodeEventLog({
      abi: flowAbi,
      eventName: 'Submit',
      topics: log.topics as [Hash, ...Hash[]],
      data: log.data,
    })
    const { nodes } = args.submission
    if (nodes.length === 0 || nodes.length > MAX_NODES) throw new RangeError(`it has ${nodes.length} nodes`)
    return {
      seq: toNumber(args.submissionIndex, 'submissionIndex'),
      startSector: toNumber(args.startPos, 'startPos'),
      sectors: toNumber(args.length, 'length'),
      sizeBytes: toNumber(args.submission.length, 'submission.length'),
      nodes: nodes.map(({ root, height }) => {
        if (height > BigInt(MAX_NODE_HEIGHT)) throw new RangeError(`a node has height ${height}`)
        return { root: root.toLowerCase() as Hash, height: Number(height) }
      }),
      block: log.blockNumber,
    }
  } catch (cause) {
    throw new LogGapError({
      code: 'LOG_INVALID',
      message: `a Submit log of block ${log.blockNumber} cannot be read: ${reasonOf(cause)}`,
      fix: 'check that chain.flow is a flow contract; otherwise use another RPC endpoint',
      details: { block: log.blockNumber, transaction: log.transactionHash, logIndex: log.logIndex },
      cause,
    })
  }
}

function toNumber(value: bigint, field: string): number {
  if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value)
  throw new RangeError(`${field} is ${value}, past 2^53`)
}
