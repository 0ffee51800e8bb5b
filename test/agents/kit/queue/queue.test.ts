import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { silentLog } from '#kit/log.ts'
import {
  JobFailedError,
  type JsonValue,
  openQueue,
  PermanentJobError,
  type Queue,
  type QueueBackendKind,
  QueueError,
} from '#kit/queue/queue.ts'
import { findProgram, startPostgres, startRedis, type TestServer } from './servers.ts'

interface Backend {
  kind: QueueBackendKind
  /** Why it cannot be tried on this machine. */
  missing?: string
  start(): Promise<TestServer | undefined>
}

const redis = findProgram('redis-server')
const postgres = findProgram('postgres')
const initdb = findProgram('initdb')

const backends: Backend[] = [
  { kind: 'embedded', start: async () => undefined },
  redis === undefined
    ? { kind: 'redis', missing: 'redis-server is not installed', start: async () => undefined }
    : { kind: 'redis', start: () => startRedis(redis) },
  postgres === undefined || initdb === undefined
    ? { kind: 'postgres', missing: 'postgres or initdb is not installed', start: async () => undefined }
    : { kind: 'postgres', start: () => startPostgres({ postgres, initdb }) },
]

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const giveUpAt = Date.now() + 20_000
  while (!(await condition())) {
    if (Date.now() > giveUpAt) throw new Error(`not in time: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

// What the queue promises holds for every backend alike.
for (const backend of backends) {
  if (backend.missing !== undefined) {
    test(`job queue on ${backend.kind}: not tried here, ${backend.missing}`, (t) => t.skip(backend.missing))
    continue
  }
  describe(`job queue on ${backend.kind}`, () => {
    let server: TestServer | undefined
    let dataDir: string
    let where: { url?: string; dataDir?: string }
    let holder: Queue
    let counter = 0

    before(async () => {
      dataDir = await mkdtemp(join(tmpdir(), 'queue-'))
      server = await backend.start()
      where = server === undefined ? { dataDir } : { url: server.url }
      // Keeps the embedded database open between tests: opening it costs a second.
      holder = await openQueue({ ...where, name: 'holder', log: silentLog() })
    })

    after(async () => {
      await holder.close()
      await server?.stop()
      await rm(dataDir, { recursive: true, force: true })
    })

    const opened: { close(): Promise<void> }[] = []

    async function open<Data extends JsonValue, Result extends JsonValue>(name = `test-${counter++}`) {
      const queue = await openQueue<Data, Result>({ ...where, name, log: silentLog() })
      opened.push(queue)
      return queue
    }

    afterEach(async () => {
      for (const queue of opened.splice(0)) await queue.close()
    })

    // A job's data goes in, its result comes out, and both stay readable.
    test('handles a job', async () => {
      const queue = await open<{ a: number; b: number }, { sum: number }>()
      assert.equal(queue.backend, backend.kind)
      queue.process({ handler: async ({ data }) => ({ sum: data.a + data.b }) })
      const id = await queue.add({ data: { a: 1, b: 2 } })
      assert.deepEqual(await queue.wait(id), { sum: 3 })
      const info = await queue.get(id)
      assert.equal(info?.state, 'completed')
      assert.deepEqual(info?.data, { a: 1, b: 2 })
      assert.deepEqual(info?.result, { sum: 3 })
      assert.equal(await queue.get('no such job'), undefined)
    })

    // The same id twice is one job, handled once, whatever the id looks like.
    test('adds an id once', async () => {
      const queue = await open<number, number>()
      const handled: string[] = []
      for (const id of ['17', 'a:b', '0xabc/ü %']) {
        assert.equal(await queue.add({ id, data: 1 }), id)
        assert.equal(await queue.add({ id, data: 2 }), id)
      }
      assert.equal((await queue.counts()).waiting, 3)
      queue.process({
        handler: async (job) => {
          handled.push(job.id)
          return job.data
        },
      })
      assert.equal(await queue.wait('17'), 1)
      await until('all handled', async () => (await queue.counts()).completed === 3)
      await queue.add({ id: 'a:b', data: 3 })
      assert.deepEqual(handled.sort(), ['0xabc/ü %', '17', 'a:b'])
    })

    // Never more than `concurrency` at once, and as many as that.
    test('handles so many at once', async () => {
      const queue = await open<number, null>()
      let active = 0
      let most = 0
      let handled = 0
      for (let index = 0; index < 12; index++) await queue.add({ data: index })
      queue.process({
        concurrency: 3,
        handler: async () => {
          most = Math.max(most, ++active)
          await new Promise((resolve) => setTimeout(resolve, 20))
          active--
          handled++
          return null
        },
      })
      await until('all handled', () => handled === 12)
      assert.equal(most, 3)
    })

    // A delayed job begins when its time has come, not before; a prioritised one begins first.
    test('keeps to delay and priority', async () => {
      const queue = await open<string, null>()
      const order: string[] = []
      const addedAt = Date.now()
      await queue.add({ data: 'later', delayMs: 400 })
      await queue.add({ data: 'low', priority: 9 })
      await queue.add({ data: 'high', priority: 1 })
      assert.equal((await queue.counts()).delayed, 1)
      let laterAt = 0
      queue.process({
        handler: async ({ data }) => {
          order.push(data)
          if (data === 'later') laterAt = Date.now()
          return null
        },
      })
      await until('all handled', () => order.length === 3)
      assert.deepEqual(order, ['high', 'low', 'later'])
      assert.ok(laterAt - addedAt >= 390, `began after ${laterAt - addedAt} ms`)
    })

    // A failing job is tried so many times, with pauses, and keeps its last reason; a permanent failure at once.
    test('tries again, and gives up', async () => {
      const queue = await open<string, string>()
      const attempts: number[] = []
      queue.process({
        handler: async ({ data, attempt }) => {
          if (data === 'never') throw new PermanentJobError({ code: 'NO', message: 'it cannot work' })
          attempts.push(attempt)
          if (attempt < 3) throw new Error(`try ${attempt}`)
          return 'at last'
        },
      })
      const backoff = { type: 'fixed', delayMs: 30 } as const
      assert.equal(await queue.wait(await queue.add({ data: 'good', attempts: 3, backoff })), 'at last')
      assert.deepEqual(attempts, [1, 2, 3])
      const bad = await queue.add({ data: 'bad', attempts: 2, backoff })
      await assert.rejects(queue.wait(bad), (error: unknown) => {
        assert.ok(error instanceof JobFailedError)
        assert.equal(error.message, 'try 2')
        return true
      })
      const never = await queue.add({ data: 'never', attempts: 5 })
      await assert.rejects(queue.wait(never), /it cannot work/)
      assert.equal((await queue.get(never))?.attemptsMade, 1)
      assert.equal((await queue.counts()).failed, 2)
      await queue.retry(bad)
      await assert.rejects(queue.wait(bad), /try 2/)
      assert.equal(await queue.remove(bad), true)
      assert.equal(await queue.get(bad), undefined)
      await assert.rejects(queue.retry(bad), QueueError)
    })

    // Progress is readable from outside while the job goes on.
    test('shows progress', async () => {
      const queue = await open<null, null>()
      const { promise: finish, resolve } = Promise.withResolvers<void>()
      queue.process({
        handler: async (job) => {
          await job.progress({ done: 3, of: 7 })
          await finish
          return null
        },
      })
      const id = await queue.add({ data: null })
      const progress = async () => (await queue.get(id))?.progress
      await until('progress is seen', async () => isDeepStrictEqual(await progress(), { done: 3, of: 7 }))
      assert.equal((await queue.get(id))?.state, 'active')
      resolve()
      await queue.wait(id)
    })

    // While paused no job begins, also after the queue was closed and opened again.
    test('pauses, over a restart', async () => {
      const name = `pausing-${counter++}`
      const first = await open<number, number>(name)
      await first.pause()
      const id = await first.add({ data: 5 })
      await first.close()
      const second = await open<number, number>(name)
      assert.equal(await second.isPaused(), true)
      let begun = false
      second.process({
        handler: async ({ data }) => {
          begun = true
          return data
        },
      })
      await assert.rejects(second.wait(id, { timeoutMs: 200 }), { code: 'QUEUE_WAIT_TIMEOUT' })
      assert.equal(begun, false)
      await second.resume()
      assert.equal(await second.wait(id), 5)
    })

    // Closing aborts the handlers' signal and waits for them; what they return is stored.
    test('closes in good order', async () => {
      const name = `closing-${counter++}`
      const queue = await open<null, string>(name)
      let started = false
      queue.process({
        handler: ({ signal }) => {
          started = true
          return new Promise((resolve) => signal.addEventListener('abort', () => resolve('stopped early')))
        },
      })
      const id = await queue.add({ data: null })
      await until('it has begun', () => started)
      const waiting = queue.wait(id).catch((error: unknown) => error)
      await queue.close()
      const waited = await waiting
      if (waited !== 'stopped early') assert.ok(waited instanceof QueueError && waited.code === 'QUEUE_CLOSED')
      await assert.rejects(queue.add({ data: null }), { code: 'QUEUE_CLOSED' })
      const again = await open<null, string>(name)
      assert.equal(await again.wait(id), 'stopped early')
    })

    // A handler that does not heed its signal cannot keep the process from ending.
    test('closes although a handler goes on', async () => {
      const queue = await open<null, null>()
      let started = false
      queue.process({
        closeTimeoutMs: 300,
        handler: () => {
          started = true
          return new Promise(() => undefined)
        },
      })
      await queue.add({ data: null })
      await until('it has begun', () => started)
      const begun = performance.now()
      await queue.close()
      assert.ok(performance.now() - begun < 8_000)
    })

    // Data that the code does not understand fails the job for good; data that cannot be stored is refused.
    test('checks what it stores', async () => {
      const queue = await open<JsonValue, number>()
      queue.process({ parse: z.number().parse as (data: unknown) => number, handler: async ({ data }) => Number(data) })
      assert.equal(await queue.wait(await queue.add({ data: 4 })), 4)
      await assert.rejects(queue.wait(await queue.add({ data: 'four', attempts: 9 })), /not understood/)
      await assert.rejects(queue.add({ data: 'x'.repeat(2 ** 20) }), { code: 'QUEUE_JOB' })
      await assert.rejects(queue.add({ data: 1, id: '' }), { code: 'QUEUE_JOB' })
      await assert.rejects(queue.add({ data: 1, attempts: 0 }), { code: 'QUEUE_JOB' })
    })

    // A process that is killed in the middle of a job loses nothing: when its lock has run out, the job begins again. The
    // embedded queue need not wait for that: nobody else can be at work in its folder.
    test('survives a crash', async () => {
      const name = `crashing-${counter++}`
      const lockMs = backend.kind === 'embedded' ? 600_000 : 1_500
      // The embedded database belongs to one process at a time.
      await holder.close()
      const script = join(import.meta.dirname, 'hanging-worker.ts')
      const child = spawn(process.execPath, [script, JSON.stringify({ ...where, name, lockMs })], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const exited = once(child, 'exit')
      const [line] = await Promise.race([once(child.stdout, 'data'), exited])
      assert.match(String(line), /started interrupted/)
      if (backend.kind === 'embedded') {
        await assert.rejects(open(name), (error: unknown) => {
          assert.ok(error instanceof QueueError)
          assert.equal(error.code, 'QUEUE_LOCKED')
          return true
        })
      }
      child.kill('SIGKILL')
      await exited
      const queue = await open<string, string>(name)
      queue.process({ lockMs, handler: async ({ data }) => `${data}, now done` })
      assert.equal(await queue.wait('interrupted', { timeoutMs: 20_000 }), 'half done, now done')
      holder = await openQueue({ ...where, name: 'holder', log: silentLog() })
    })
  })
}

// A URL that cannot be used is refused with what to do, and without its password.
test('refuses unusable URLs', async () => {
  const log = silentLog()
  await assert.rejects(openQueue({ url: 'mysql://user:secret99@host/db', name: 'x', log }), (error: unknown) => {
    assert.ok(error instanceof QueueError)
    assert.equal(error.code, 'QUEUE_URL')
    assert.ok(!JSON.stringify([error.message, error.details]).includes('secret99'))
    return true
  })
  await assert.rejects(openQueue({ name: 'x', log }), { code: 'QUEUE_URL' })
  await assert.rejects(openQueue({ name: 'not: a name', dataDir: '/nowhere', log }), { code: 'QUEUE_JOB' })
  for (const url of ['redis://:secret99@127.0.0.1:1', 'postgres://user:secret99@127.0.0.1:1/db']) {
    await assert.rejects(openQueue({ url, name: 'x', log }), (error: unknown) => {
      assert.ok(error instanceof QueueError)
      assert.equal(error.code, 'QUEUE_UNAVAILABLE')
      assert.ok(!error.message.includes('secret99'))
      return true
    })
  }
})
