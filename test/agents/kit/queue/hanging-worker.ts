/**
 * A process that takes one job, says so, and never finishes it: the test kills it. Arguments: the queue's options as
 * JSON.
 */

import { silentLog } from '#kit/log.ts'
import { openQueue } from '#kit/queue/queue.ts'

const options = JSON.parse(process.argv[2] ?? '{}') as { url?: string; dataDir?: string; name: string; lockMs: number }
const queue = await openQueue({ ...options, log: silentLog() })
await queue.add({ id: 'interrupted', data: 'half done' })
queue.process({
  lockMs: options.lockMs,
  handler: async (job) => {
    process.stdout.write(`started ${job.id}\n`)
    return new Promise<null>(() => undefined)
  },
})
