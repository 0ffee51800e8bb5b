import type { TransferEvent, TransferListener } from '#client/storage/events.ts'
import type { CliIo } from './io.ts'
import { formatBytes, type Progress } from './progress.ts'

/** Turns what a transfer tells into bars and lines. `stop` removes the bar, also after an error. */
export interface TransferView {
  listener: TransferListener
  stop(): void
}

const LABELS = { hashing: 'hashing', sending: 'sending', receiving: 'downloading' } as const

export function showTransfer({ io }: { io: CliIo }): TransferView {
  let progress: { type: string; bar: Progress } | undefined
  const stop = () => {
    progress?.bar.stop()
    progress = undefined
  }
  const say = (text: string) => {
    if (progress === undefined) io.info(text)
    else progress.bar.note(text)
  }
  let lastWait = ''
  const listener: TransferListener = (event) => {
    if (event.type === 'hashing' || event.type === 'sending' || event.type === 'receiving') {
      if (progress?.type !== event.type) {
        stop()
        progress = { type: event.type, bar: io.progress({ label: LABELS[event.type], totalBytes: event.totalBytes }) }
      }
      progress.bar.update(event)
      return
    }
    if (event.type === 'finalized' || event.type === 'transaction-mined' || event.type === 'fee') stop()
    if (event.type === 'waiting') {
      const text = describe(event)
      // The same wait is said once; what changes in it (a block number) is said again.
      if (text !== lastWait) say(text)
      lastWait = text
      return
    }
    say(describe(event))
  }
  return { listener, stop }
}

/** One line for an event. */
function describe(event: TransferEvent): string {
  switch (event.type) {
    case 'hashing':
    case 'sending':
    case 'receiving':
      return `${LABELS[event.type]}: ${formatBytes(event.doneBytes)} of ${formatBytes(event.totalBytes)}`
    case 'nodes-selected':
      return `storage nodes: ${event.nodes.map(({ url, shard }) => `${url} (shard ${shard})`).join(', ')}`
    case 'submission-found':
      return `submitted before as ${event.txSeq} (found by ${event.by}): nothing to pay`
    case 'fee':
      return `storage fee: ${event.feeWei} wei for ${event.sectors} sectors`
    case 'transaction-sent':
      return `transaction ${event.txHash}`
    case 'transaction-mined':
      return `submission ${event.txSeq} in block ${event.block}`
    case 'waiting':
      return `waiting for ${WAITS[event.for]}: ${event.missing.map(({ url, reason }) => `${url} ${reason}`).join('; ')}`
    case 'retry':
      return `trying again: ${withUrl(event)}`
    case 'node-dropped':
      return `leaving node: ${withUrl(event)}`
    case 'finalized':
      return `final at ${event.url}`
    case 'item':
      return `[${event.index + 1}/${event.count}] ${event.name} (${formatBytes(event.sizeBytes)})`
  }
}

const WAITS = { receipt: 'the transaction', 'log-entry': 'the log entry', finality: 'finality' } as const

function withUrl({ url, reason }: { url: string; reason: string }): string {
  return reason.includes(url) ? reason : `${url}: ${reason}`
}
