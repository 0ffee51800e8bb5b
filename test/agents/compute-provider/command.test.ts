import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { type Market, openMarket, until } from './market.ts'
import { startUpstream, type Upstream } from './upstream.ts'

const CLI = new URL('../../../agents/cli/main.ts', import.meta.url).pathname
let market: Market
let upstream: Upstream

before(async () => {
  market = await openMarket()
  upstream = await startUpstream()
})
after(async () => {
  await market?.close()
  await upstream?.close()
})

async function run(
  ...parameters: string[]
): Promise<{ code: number | null; json: Record<string, unknown>; text: string }> {
  const child = spawn(process.execPath, [CLI, 'provider', ...parameters, '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let text = ''
  let errors = ''
  child.stdout.on('data', (part: Buffer) => {
    text += part.toString()
  })
  child.stderr.on('data', (part: Buffer) => {
    errors += part.toString()
  })
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, json: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>), text: `${text}${errors}` }
}

test('an operator registers, starts, looks, and takes the service down, all by command', async () => {
  const config = join(market.folder, 'provider.json')
  writeFileSync(
    config,
    JSON.stringify({
      ...{ port: 0, dataDir: join(market.folder, 'cli'), upstream: upstream.url, modelName: 'test-model' },
      chain: { rpcUrls: [market.anvil.url], id: 31_337, inference: market.contracts.inference },
      key: { devAccount: 1 },
      settlement: { embeddedQueue: false },
    }),
  )
  const missing = await run('register', '--config', config)
  assert.notEqual(missing.code, 0)
  assert.match(missing.text, /not given/)
  const prices = ['--input-price', '10', '--output-price', '20']
  const registered = await run('register', '--config', config, '--url', 'http://127.0.0.1:9', ...prices)
  assert.equal(registered.code, 0, registered.text)
  assert.deepEqual([registered.json.registered, registered.json.model], [true, 'test-model'])

  const child = spawn(process.execPath, [CLI, 'provider', 'start', '--config', config], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let log = ''
  child.stderr.on('data', (part: Buffer) => {
    log += part.toString()
  })
  try {
    const url = await until(() => /"url":"(http:[^"]+)"/.exec(log)?.[1], 'the provider serves', 30_000)
    const status = await run('status', '--url', url)
    assert.equal(status.code, 0, status.text)
    assert.equal(status.json.provider, market.provider.address)
    assert.equal(status.json.earnedWei, '0')
  } finally {
    child.kill('SIGTERM')
  }
  const [code] = (await once(child, 'exit')) as [number | null]
  assert.equal(code, 0, log)
  const taken = await run('withdraw', '--config', config, '--all')
  assert.equal(taken.code, 0, taken.text)
  assert.deepEqual([taken.json.registered, taken.json.paidWei], [false, '0'])
  const gone = await run('status', '--url', 'http://127.0.0.1:9')
  assert.notEqual(gone.code, 0)
  assert.match(gone.text, /PROVIDER_UNREACHABLE/)
})
