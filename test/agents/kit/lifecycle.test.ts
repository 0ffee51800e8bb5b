import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createCloseStack } from '#kit/close-stack.ts'
import { ended, runSource, wrote } from './crash.ts'

/** An agent in its own process; `body` is the start function's. */
const agent = (body: string, options = ''): string => `
  import { createLog } from '#kit/log.ts'
  import { ConfigError } from '#kit/config/load.ts'
  import { runAgent } from '#kit/lifecycle.ts'
  const log = createLog({ name: 'probe', pretty: false })
  const say = (text) => process.stdout.write(text + '\\n')
  const forever = () => new Promise(() => {})
  await runAgent({ name: 'probe', log, ${options} start: async (context) => { ${body} } })
`

describe('closing', () => {
  // Invariant: closers run in reverse order, one after the other; a failing or hanging one does not stop the rest.
  it('closes in reverse order, past failures and hangs', async () => {
    const stack = createCloseStack({ limitMs: 30 })
    const order: string[] = []
    stack.defer('first', () => order.push('first'))
    stack.defer('hangs', () => new Promise(() => {}))
    stack.defer('fails', () => {
      throw new Error('no')
    })
    stack.defer('slow', async () => {
      await new Promise((resolve) => setTimeout(resolve, 10))
      order.push('slow')
    })
    stack.defer('adds', () => stack.defer('late', () => order.push('late')))
    const both = await Promise.all([stack.close(), stack.close()])
    assert.deepEqual(order, ['late', 'slow', 'first'])
    assert.equal(both[0], both[1])
    assert.deepEqual(
      both[0].map(({ name, error }) => [name, Reflect.get(error as Error, 'code')]),
      [
        ['fails', undefined],
        ['hangs', 'CLOSE_TIMEOUT'],
      ],
    )
    const after = Promise.withResolvers<void>()
    stack.defer('after', () => after.resolve())
    await after.promise
  })
})

describe('an agent’s life', () => {
  it('stops on SIGTERM and SIGINT: abort first, then closers in reverse, exit code 0', async () => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      const child = runSource(
        agent(`
          context.signal.addEventListener('abort', () => say('aborted'))
          context.defer('store', () => say('store closed'))
          context.defer('server', () => say('server closed'))
          setTimeout(() => say('ready'))
        `),
      )
      const end = ended(child)
      await wrote(child, 'ready')
      child.kill(signal)
      const { code, output } = await end
      assert.equal(code, 0, output)
      assert.match(output, /aborted\nserver closed\nstore closed\n/)
      assert.match(output, new RegExp(`"reason":"${signal}".*probe is stopping`))
    }
  })

  it('ends at once on a second signal', async () => {
    const child = runSource(
      agent(`context.defer('hangs', () => { say('closing'); return forever() }); setTimeout(() => say('ready'))`),
    )
    const end = ended(child)
    await wrote(child, 'ready')
    child.kill('SIGTERM')
    await wrote(child, 'closing')
    child.kill('SIGTERM')
    const { code, output } = await end
    assert.equal(code, 143, output)
  })

  it('gives a closer that hangs its time, closes the rest and exits with 1', async () => {
    const child = runSource(
      agent(
        `context.defer('store', () => say('store closed')); context.defer('hangs', forever); setTimeout(() => say('ready'))`,
        'closeLimitMs: 50,',
      ),
    )
    const end = ended(child)
    await wrote(child, 'ready')
    child.kill('SIGTERM')
    const { code, output } = await end
    assert.equal(code, 1, output)
    assert.match(output, /hangs did not close within 50 ms/)
    assert.match(output, /store closed/)
  })

  it('closes what was opened when the start fails', async () => {
    const { code, output } = await ended(
      runSource(agent(`context.defer('store', () => say('store closed')); throw new Error('no chain')`)),
    )
    assert.equal(code, 1)
    assert.match(output, /start failed.*no chain/)
    assert.match(output, /store closed/)
  })

  it('exits with 2 when the configuration is wrong', async () => {
    const body = `throw new ConfigError({ problems: [{ key: 'a', source: 'x', message: 'bad', fix: 'y' }] })`
    assert.equal((await ended(runSource(agent(body)))).code, 2)
  })

  // Invariant: nothing that goes wrong in the background passes unseen: it is logged, all is closed, the exit code is 1.
  it('stops on an unhandled rejection, an uncaught exception, a failed task and an inner stop', async () => {
    const bodies: [string, number, RegExp][] = [
      [`setTimeout(() => Promise.reject(new Error('lost')))`, 1, /unhandled rejection.*lost/],
      [`setTimeout(() => { throw new Error('thrown') })`, 1, /uncaught exception.*thrown/],
      [`setTimeout(() => Promise.reject(undefined))`, 1, /unhandled rejection/],
      [`context.background('follower', Promise.reject(new Error('bad chain')))`, 1, /follower failed.*bad chain/],
      [`setTimeout(() => context.stop('admin_shutdown'))`, 0, /admin_shutdown/],
      [`setTimeout(() => context.stop('disk', new Error('full')))`, 1, /disk.*full/],
    ]
    await Promise.all(
      bodies.map(async ([body, expected, text]) => {
        const { code, output } = await ended(
          runSource(agent(`context.defer('store', () => say('store closed')); ${body}`)),
        )
        assert.equal(code, expected, output)
        assert.match(output, text)
        assert.match(output, /store closed/)
      }),
    )
  })

  it('can be stopped while it starts', async () => {
    const child = runSource(
      agent(`context.defer('store', () => say('store closed')); say('starting'); await forever()`, 'closeLimitMs: 50,'),
    )
    const end = ended(child)
    await wrote(child, 'starting')
    child.kill('SIGTERM')
    const { code, output } = await end
    assert.equal(code, 0, output)
    assert.match(output, /store closed/)
  })
})
