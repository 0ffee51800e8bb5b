import type { Chain } from '#kit/chain/client.ts'
import type { TransactionSender } from '#kit/chain/sender.ts'
import type { Logger } from '#kit/log.ts'
import { type JobWorker, openQueue, type Queue } from '#kit/queue/queue.ts'
import {
  jobData,
  parseSettlementJob,
  type SettlementJob,
  type SettlementSent,
  sendSettlement,
} from './settlement-job.ts'
import type { SettlementTransport } from './settler.ts'

type SettlementQueue = Queue<ReturnType<typeof jobData>, SettlementSent>

/** Limit of one settlement, from the queue to its receipt. */
const JOB_TIMEOUT_MS = 600_000

/** Sends settlements from this process, without a queue. What is unfinished is in the usage log. */
export function directTransport({ chain, sender }: { chain: Chain; sender: TransactionSender }): SettlementTransport {
  return {
    send: (_name, job, signal) => sendSettlement({ job, chain, sender, signal }),
    close: async () => {},
  }
}

/** The queue of one provider's settlements: those who share it share the provider's wallet. */
export function settlementQueueName({ chainId, provider }: { chainId: number; provider: string }): string {
  return `settle-${chainId}-${provider.slice(2, 14)}`
}

/** Handles settlement jobs in this process. */
export function handleSettlements(parameters: {
  queue: SettlementQueue
  chain: Chain
  sender: TransactionSender
}): JobWorker {
  const { queue, chain, sender } = parameters
  return queue.process({
    // One after the other: they share a wallet, and the nonces of a wallet are in line anyway.
    concurrency: 1,
    parse: (data) => jobData(parseSettlementJob(data)),
    handler: (job) => sendSettlement({ job: parseSettlementJob(job.data), chain, sender, signal: job.signal }),
    lockMs: 60_000,
  })
}

/**
 * Sends settlements through a durable queue, opened when the first one is due. Several processes may handle one queue;
 * a job that was begun by one that died is begun again by another.
 */
export function queuedTransport(parameters: {
  chain: Chain
  sender: TransactionSender
  provider: string
  url: string | undefined
  dataDir: string
  log: Logger
}): SettlementTransport {
  const { chain, sender, provider, url, dataDir, log } = parameters
  let opening: Promise<SettlementQueue> | undefined

  function open(): Promise<SettlementQueue> {
    opening ??= (async () => {
      const name = settlementQueueName({ chainId: chain.id, provider })
      const queue: SettlementQueue = await openQueue({ url, dataDir, name, log })
      handleSettlements({ queue, chain, sender })
      return queue
    })()
    opening.catch(() => {
      opening = undefined
    })
    return opening
  }

  return {
    async send(name: string, job: SettlementJob, signal: AbortSignal): Promise<SettlementSent> {
      const queue = await open()
      const known = await queue.get(name)
      if (known?.state === 'failed') await queue.retry(name)
      else if (known?.state === 'completed') await queue.remove(name)
      if (known?.state !== 'failed') await queue.add({ id: name, data: jobData(job), attempts: 1 })
      return await queue.wait(name, { timeoutMs: JOB_TIMEOUT_MS, signal })
    },
    async close() {
      const queue = await opening?.catch(() => undefined)
      await queue?.close()
    },
  }
}
