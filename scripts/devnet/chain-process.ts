import { parseArgs } from 'node:util'
import { startLocalChain } from '#kit/chain/local-chain.ts'

/**
 * The devnet's chain as a process of its own: anvil as a child, ended (and its state written) when this process is told
 * to stop. Prints `listening on PORT` once it answers. Exit code 0 after SIGTERM or SIGINT, 1 when the chain ended itself.
 */
const { values } = parseArgs({
  options: {
    port: { type: 'string' },
    state: { type: 'string' },
    'block-time': { type: 'string', default: '1' },
    'state-interval': { type: 'string', default: '30' },
  },
})

const abort = new AbortController()
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => abort.abort())

const chain = await startLocalChain({
  port: Number(values.port),
  statePath: values.state,
  blockTimeSeconds: Number(values['block-time']),
  mixedMining: true,
  // The state is also written now and then, so that a crash of the machine costs seconds of the chain, not all of it.
  args: ['--state-interval', values['state-interval']],
})
process.stdout.write(`listening on ${chain.port}\n`)

const stopped = new Promise<void>((resolve) => {
  if (abort.signal.aborted) resolve()
  abort.signal.addEventListener('abort', () => resolve(), { once: true })
})
const outcome = await Promise.race([stopped.then(() => 'stopped'), chain.exited.then(() => 'ended')])
await chain.stop()
if (outcome === 'ended') process.stderr.write('the chain ended by itself\n')
process.exit(outcome === 'ended' ? 1 : 0)
