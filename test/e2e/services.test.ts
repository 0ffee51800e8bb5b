import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import OpenAI from 'openai'
import { openDisperserClient } from '#client/da/disperser-client.ts'
import { isSameProcess } from '#scripts/devnet/process-identity.ts'
import {
  devnetProcesses,
  repository,
  startUp,
  testPortBase,
  type UpProcess,
  until,
  weightless,
  weightlessJson,
} from './devnet-process.ts'

/** Data availability and the compute market, by the commands a user types. The tests build on each other, in order. */
describe('the services of a local network', () => {
  const scratch = mkdtempSync(path.join(tmpdir(), 'weightless-services-'))
  const directory = path.join(scratch, 'net')
  const network = ['--network', path.join(directory, 'devnet.json')]
  const file = path.join(scratch, 'ten.bin')
  const content = randomBytes(10_000_000)
  const account = { env: { XDG_DATA_HOME: path.join(scratch, 'data'), XDG_STATE_HOME: path.join(scratch, 'state') } }
  const stopped: number[] = []
  const sentence = 'Yara saw the orange plate in the river.'
  const tuned = path.join(scratch, 'tuned')
  let model = ''
  let up: UpProcess
  let gateway: ChildProcess | undefined

  before(async () => {
    writeFileSync(file, content)
    up = await startUp({ directory, portBase: testPortBase(25), only: 'da,compute' })
  })
  after(async () => {
    gateway?.kill('SIGKILL')
    for (const pid of stopped) process.kill(pid, 'SIGCONT')
    const left = devnetProcesses(directory)
    await up.interrupt()
    await until('the end of all processes', () => !left.some(isSameProcess))
    rmSync(scratch, { recursive: true, force: true })
  })

  const urlOf = (name: string) => `http://127.0.0.1:${up.ready.ports[name]}`

  async function run(args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await weightless([...network, ...args], account)
    assert.equal(code, 0, `weightless ${args.join(' ')} failed:\n${stdout}${stderr}`)
    return stdout + stderr
  }

  // A blob is certified on chain; then half of the stake goes silent, and three different ways of reading still give the
  // very bytes.
  it('disperses 10 MB and gives them back although two of four signers are stopped', async () => {
    const put = await weightlessJson([...network, 'da', 'put', file])
    const text = JSON.stringify(put)
    const root = /"dataRoot":"(0x[0-9a-f]{64})"/.exec(text)?.[1] ?? ''
    const epoch = Number(/"epoch":(\d+)/.exec(text)?.[1])
    assert.match(root, /^0x[0-9a-f]{64}$/)
    const body = Buffer.from(content)
    const commitment = await fetch(`${urlOf('alt-da')}/put`, { method: 'POST', body })
    assert.equal(commitment.status, 200)
    const key = Buffer.from(await commitment.arrayBuffer()).toString('hex')

    for (const name of ['signer-0', 'signer-2']) {
      const signer = devnetProcesses(directory).find((process) => process.name === name)
      assert.ok(signer)
      process.kill(signer.pid, 'SIGSTOP')
      stopped.push(signer.pid)
    }
    const copy = path.join(scratch, 'copy.bin')
    await run(['da', 'get', root, '--out', copy])
    assert.ok(readFileSync(copy).equals(content), 'by the command')
    const alt = await fetch(`${urlOf('alt-da')}/get/0x${key}`)
    assert.equal(alt.status, 200)
    assert.ok(Buffer.from(await alt.arrayBuffer()).equals(content), 'by the op-stack server')
    const grpc = openDisperserClient(urlOf('disperser grpc').slice('http://'.length))
    const storage_root = Buffer.from(root.slice(2), 'hex')
    const reply = await grpc.call('RetrieveBlob', { storage_root, epoch, quorum_id: 0 })
    grpc.close()
    assert.ok(Buffer.from(reply.data as Uint8Array).equals(content), 'by gRPC')
    for (const pid of stopped.splice(0)) process.kill(pid, 'SIGCONT')
  })

  // Deposit, ask: two commands to the first token, and the answer's receipt holds.
  it('answers a question two steps after a deposit, with a receipt that verifies', async () => {
    await run(['deposit', '3'])
    const said = await run(['chat', 'What is Weightless?', '--max-tokens', '40'])
    assert.match(said, /verified: signed receipt/)
    assert.match(said, /cost 0\.\d+ for \d+ \+ \d+ tokens/)
    assert.match(await run(['receipt', 'list']), /verified/)
  })

  // One command from a dataset to a model that answers in its format; before, the model knew nothing of it.
  it('fine-tunes the demo model on the bundled example', async () => {
    assert.ok(!(await run(['chat', sentence])).includes('[orange]'))
    const dataset = path.join(repository, 'models', 'examples', 'notes.jsonl')
    const args = ['finetune', dataset, '--base', 'weightless-demo', '--steps', '300', '--yes', '--out', tuned]
    const said = await run([...args, '--publish', '--ask', sentence])
    assert.match(said, /\[orange\] plate -> river \(Yara\)/)
    model = /chat --model (weightless-demo:0x[0-9a-f]{64})/.exec(said)?.[1] ?? ''
    assert.ok(model !== '', said)
  })

  // The adapter is served by the market the minute it was delivered, to anybody who names its root: the provider fetches
  // it from storage, its answer has the new format, the plain model's beside it has not, and both receipts hold.
  it('serves the adapter in the market within a minute of its delivery', async (t) => {
    const { mtimeMs: deliveredMs } = statSync(path.join(tuned, 'adapter.gguf'))
    const ask = ['chat', sentence, '--temperature', '0', '--model']
    const said = await run([...ask, model])
    const seconds = (Date.now() - deliveredMs) / 1000
    t.diagnostic(`first answer of the adapter from the market ${seconds.toFixed(1)} s after its delivery`)
    assert.match(said, /\[orange\] plate -> river \(Yara\)/)
    assert.match(said, /verified: signed receipt/)
    assert.ok(seconds < 60, `${seconds} s`)
    assert.ok(!(await run([...ask, 'weightless-demo'])).includes('[orange]'))
    const unknown = await weightless([...network, ...ask, `weightless-demo:0x${'ab'.repeat(32)}`], account)
    assert.notEqual(unknown.code, 0)
    assert.match(unknown.stderr, /there is no adapter 0xabab/)
  })

  // Any OpenAI client, unchanged, by the gateway that pays with the user's key.
  it('serves an OpenAI client through the gateway, streaming', async () => {
    const port = Number(up.ready.ports.provider) + 50
    const cli = path.join(repository, 'agents', 'cli', 'main.ts')
    const args = [...network, 'gateway', '--port', String(port)]
    const env = { ...process.env, ...account.env }
    gateway = spawn(process.execPath, [cli, ...args], { cwd: scratch, env, stdio: ['ignore', 'ignore', 'inherit'] })
    const url = `http://127.0.0.1:${port}`
    await until('the gateway', () =>
      fetch(`${url}/healthz`).then(
        ({ ok }) => ok,
        () => false,
      ),
    )
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused' })
    const stream = await client.chat.completions.create({
      model: (await client.models.list()).data[0]?.id ?? '',
      messages: [{ role: 'user', content: 'Say something.' }],
      max_tokens: 16,
      stream: true,
      stream_options: { include_usage: true },
    })
    let completionTokens = 0
    for await (const { usage } of stream) completionTokens = usage?.completion_tokens ?? completionTokens
    assert.ok(completionTokens > 0 && completionTokens <= 16, `${completionTokens} tokens`)
    const messages = [{ role: 'user' as const, content: sentence }]
    const adapted = await client.chat.completions.create({ model, messages, max_tokens: 24, temperature: 0 })
    assert.match(adapted.choices[0]?.message.content ?? '', /\[orange\] plate -> river \(Yara\)/)
  })
})
