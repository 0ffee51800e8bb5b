import { type AbiEvent, type Address, decodeEventLog, getAbiItem } from 'viem'
import { custodyAbi, entranceAbi } from '#client/da/abi.ts'
import type { RawLog } from '#kit/chain/block.ts'
import type { Chain } from '#kit/chain/client.ts'
import { type FollowerStatus, followLogs, type LogBatch, type LogFollower } from '#kit/chain/log-follower.ts'
import type { Logger } from '#kit/log.ts'
import type { Metrics } from '#kit/metrics.ts'
import { blobCommitment } from '#protocol/da/commitment.ts'
import type { CustodyOutcome, CustodyRequest } from '../store/custody-table.ts'
import type { ChainNews, SignerStore } from '../store/signer-store.ts'
import type { Epochs } from './epochs.ts'

export interface ChainLogParameters {
  chain: Chain
  store: SignerStore
  epochs: Epochs
  signer: Address
  entrance: Address
  custody: Address
  startBlock: number
  confirmations: number
  pageSizeBlocks: number
  pollIntervalMs: number
  log: Logger
  metrics: Metrics
  signal: AbortSignal
  /** After each batch. */
  onNews: () => void
}

const EVENTS: readonly AbiEvent[] = [
  getAbiItem({ abi: entranceAbi, name: 'BlobSubmitted' }),
  getAbiItem({ abi: entranceAbi, name: 'BlobConfirmed' }),
  getAbiItem({ abi: entranceAbi, name: 'DAReward' }),
  getAbiItem({ abi: custodyAbi, name: 'CustodyChallenged' }),
  getAbiItem({ abi: custodyAbi, name: 'CustodyAnswered' }),
  getAbiItem({ abi: custodyAbi, name: 'CustodyFailed' }),
]

/** The news of one batch while it is read. */
interface Draft extends ChainNews {
  submissions: ChainNews['submissions'][number][]
  recorded: ChainNews['recorded'][number][]
  rewards: ChainNews['rewards'][number][]
  challenges: CustodyRequest[]
  outcomes: CustodyOutcome[]
}

/** Follows payments, certificates, rewards and custody requests into the store, at the depth this signer waits for. */
export function followChain(parameters: ChainLogParameters): LogFollower & { status(): FollowerStatus } {
  const { store, epochs, log, onNews } = parameters
  return followLogs({
    ...parameters,
    address: [parameters.entrance, parameters.custody],
    events: EVENTS,
    sink: {
      checkpoints: () => store.checkpoints(),
      apply: async (batch) => {
        const news = await readNews(batch, parameters)
        store.apply(news, batch.to)
        if (news.submissions.length > 0)
          log.debug({ block: batch.to.number, blobs: news.submissions.length }, 'blobs paid')
        onNews()
      },
      revert: (to) => {
        log.warn({ block: to?.number }, 'the chain took blocks back')
        store.revert(to)
        epochs.forget()
        onNews()
      },
    },
  })
}

async function readNews(batch: LogBatch, parameters: ChainLogParameters): Promise<ChainNews> {
  const draft: Draft = { submissions: [], recorded: [], rewards: [], challenges: [], outcomes: [] }
  for (const log of batch.logs) {
    if (log.address === parameters.entrance) await readEntrance(log, draft, parameters)
    else if (log.address === parameters.custody) readCustody(log, draft, parameters.signer)
  }
  return draft
}

async function readEntrance(log: RawLog, draft: Draft, { epochs, signer }: ChainLogParameters): Promise<void> {
  const event = decodeEventLog({ abi: entranceAbi, topics: topicsOf(log), data: log.data })
  const block = log.blockNumber
  if (event.eventName === 'BlobSubmitted') {
    const { dataRoot, rowRoot, rlcRoot } = event.args
    const sizeBytes = Number(event.args.sizeBytes)
    // The contract computes the same; a lying endpoint must not make this signer sign what does not belong together.
    if (blobCommitment({ sizeBytes, rowRoot, rlcRoot }).dataRoot !== dataRoot) return
    const epoch = Number(event.args.epoch)
    const expiryEpoch = epoch + Number(event.args.retentionEpochs)
    const quorumId = Number(event.args.quorumId)
    draft.submissions.push({ dataRoot, epoch, quorumId, sizeBytes, rowRoot, rlcRoot, expiryEpoch, block })
  } else if (event.eventName === 'BlobConfirmed') {
    const { dataRoot, signedBitmap } = event.args
    const epoch = Number(event.args.epoch)
    const own = await epochs.own(epoch)
    const signed = own === undefined ? undefined : ((signedBitmap >> BigInt(own.index)) & 1n) === 1n
    draft.recorded.push({ dataRoot, epoch, quorumId: 0, signed, block })
  } else if (event.eventName === 'DAReward' && event.args.beneficiary.toLowerCase() === signer) {
    draft.rewards.push({ wei: event.args.reward, block, logIndex: log.logIndex })
  }
}

function readCustody(log: RawLog, draft: Draft, own: Address): void {
  const event = decodeEventLog({ abi: custodyAbi, topics: topicsOf(log), data: log.data })
  const { eventName } = event
  if (eventName !== 'CustodyChallenged' && eventName !== 'CustodyAnswered' && eventName !== 'CustodyFailed') return
  if (event.args.signer.toLowerCase() !== own) return
  const block = log.blockNumber
  const { id } = event.args
  if (eventName === 'CustodyChallenged') {
    const { request, deadlineBlock, bondWei } = event.args
    draft.challenges.push({
      ...{ id, bondWei, block, dataRoot: request.dataRoot },
      epoch: Number(request.epoch),
      quorumId: Number(request.quorumId),
      row: request.row,
      fromSubline: request.fromSubline,
      toSubline: request.toSubline,
      deadlineBlock: Number(deadlineBlock),
    })
  } else if (eventName === 'CustodyAnswered') draft.outcomes.push({ id, outcome: 'answered', block, slashedWei: 0n })
  else draft.outcomes.push({ id, outcome: 'failed', block, slashedWei: event.args.slashedWei })
}

function topicsOf(log: RawLog): [`0x${string}`, ...`0x${string}`[]] {
  const [signature = '0x', ...rest] = log.topics
  return [signature, ...rest]
}
