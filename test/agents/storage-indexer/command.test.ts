import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { describeConfig } from '#kit/config/describe.ts'
import { indexerConfigSchema } from '#storage/indexer/main.ts'
import { startFakeNode } from './fake-node.ts'
import { rpc } from './start.ts'

const MAIN = fileURLToPath(new URL('../../../agents/cli/main.ts', import.meta.url))

function command(parameters: string[], env: Record<string, string> = {}): ChildProcess {
  return spawn(process.execPath, [MAIN, 'indexer', 'start', ...parameters], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
}

test('the command serves with settings from file, environment and flags, and stops on SIGTERM with code 0', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'weightless-indexer-'))
  const node = await startFakeNode()
  t.after(() => Promise.all([node.close(), rm(folder, { recursive: true, force: true })]))
  const file = join(folder, 'indexer.toml')
  await writeFile(file, `port = 1\nnodes = ["http://127.0.0.1:9999"]\n\n[front]\nlist = "always"\n`)
  const child = command(['--config', file, '--port', '0'], { WEIGHTLESS_INDEXER_NODES: node.url })
  const exit = once(child, 'exit')
  t.after(() => child.kill('SIGKILL'))
  assert.ok(child.stderr)
  let url = ''
  for await (const line of createInterface({ input: child.stderr })) {
    url = /"url":"([^"]+)"/.exec(line)?.[1] ?? ''
    if (url !== '') break
  }
  const { result } = await rpc(url, 'indexer_getShardedNodes')
  const { trusted } = result as { trusted: { url: string }[] }
  assert.deepEqual(
    trusted.map((one) => one.url),
    [`${url}/node`, node.url],
  )
  child.kill('SIGTERM')
  assert.deepEqual(await exit, [0, null])
})

test('a wrong setting ends the command with code 2 and names the setting', async () => {
  const child = command(['--port', 'many', '--front-list', 'perhaps'])
  let said = ''
  child.stderr?.on('data', (piece) => {
    said += String(piece)
  })
  assert.deepEqual((await once(child, 'exit'))[0], 2)
  assert.match(said, /port/)
  assert.match(said, /front/)
})

test('every setting says what it is for', () => {
  for (const { key, description } of describeConfig(indexerConfigSchema, { envPrefix: 'WEIGHTLESS_INDEXER' })) {
    assert.ok(description.length > 10, key)
  }
})
