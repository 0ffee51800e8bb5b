import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { PassThrough, Writable } from 'node:stream'
import { after, before, beforeEach, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import OpenAI from 'openai'
import { register as registerChat } from '#cli/commands/chat.ts'
import { register as registerDeposit } from '#cli/commands/deposit.ts'
import { register as registerProviders } from '#cli/commands/providers.ts'
import { register as registerReceipt } from '#cli/commands/receipt.ts'
import { exitCodeOf } from '#cli/exit-code.ts'
import { type CliEnvironment, createIo } from '#cli/io.ts'
import { addGlobalOptions } from '#cli/options.ts'
import { toHex } from '#protocol/hex.ts'
import { type Market, MODEL, startMarket } from '../client-compute/market.ts'
import type { StandInProvider } from '../client-compute/stand-in-provider.ts'

let market: Market
let provider: StandInProvider
before(async () => {
  market = await startMarket()
  provider = await market.addProvider()
})
after(() => market.stop())
beforeEach(() => {
  provider.fault = 'none'
})

/** A home with a key in the environment and the settings of the market. */
async function home(): Promise<{ env: Record<string, string>; cwd: string }> {
  const cwd = await market.folder()
  const privateKey = toHex(crypto.getRandomValues(new Uint8Array(32)))
  const { privateKeyToAccount } = await import('viem/accounts')
  const balance = `0x${(100n * 10n ** 18n).toString(16)}`
  await market.anvil.rpc('anvil_setBalance', [privateKeyToAccount(privateKey).address, balance])
  const { ledger } = market.contracts
  const env = {
    HOME: cwd,
    WEIGHTLESS_RPC_URL: market.anvil.url,
    WEIGHTLESS_LEDGER: ledger,
    WEIGHTLESS_PRIVATE_KEY: privateKey,
  }
  return { env, cwd }
}

async function weightless(at: { env: Record<string, string>; cwd: string }, argv: string[], stdin = '') {
  const written = { stdout: '', stderr: '' }
  const sink = (name: keyof typeof written) =>
    new Writable({
      write: (part: Buffer, _, done) => {
        written[name] += part.toString()
        done()
      },
    })
  const input = new PassThrough()
  input.end(stdin)
  const environment: CliEnvironment = { ...at, argv, stdin: input, stdout: sink('stdout'), stderr: sink('stderr') }
  const io = createIo(environment)
  const program = new Command('weightless').exitOverride()
  for (const register of [registerDeposit, registerChat, registerReceipt, registerProviders]) register(program, io)
  addGlobalOptions(program)
  try {
    await program.parseAsync(argv, { from: 'user' })
    return { code: io.exitCode, ...written }
  } catch (error) {
    io.fail(error)
    return { code: exitCodeOf(error), ...written }
  } finally {
    io.dispose()
  }
}

test('deposit, chat, receipt show: the two steps and the proof', async () => {
  const at = await home()
  const deposit = await weightless(at, ['deposit', '3'])
  assert.equal(deposit.code, 0, deposit.stderr)
  assert.match(deposit.stdout, /deposited 3\nfree 3/)
  const chat = await weightless(at, ['chat', 'Hello?', '--max-tokens', '32'])
  assert.equal(chat.code, 0, chat.stderr)
  assert.equal(chat.stdout, 'Hello from the stand-in\n')
  const price = chat.stderr.indexOf('about 0.')
  const cost = chat.stderr.indexOf('cost 0.')
  assert.ok(price >= 0 && cost > price, chat.stderr)
  assert.match(chat.stderr, /opening an account at 0x/)
  const [, digest = ''] = /verified: .* weightless receipt show (0x[0-9a-f]{64})/.exec(chat.stderr) ?? []
  const show = await weightless(at, ['receipt', 'show', digest])
  assert.equal(show.code, 0)
  assert.match(show.stdout, /signature {4}holds/)
  assert.match(show.stdout, /verified {5}yes/)
  const list = await weightless(at, ['receipt', 'list'])
  assert.match(list.stdout, new RegExp(`${digest}  verified`))
})

test('with --json each command prints one object', async () => {
  const at = await home()
  const deposit = JSON.parse((await weightless(at, ['deposit', '3', '--json'])).stdout) as Record<string, unknown>
  assert.equal(deposit.availableWei, '3000000000000000000')
  const chat = await weightless(at, ['chat', '--json', '--provider', provider.address], 'Hello?\n')
  const answer = JSON.parse(chat.stdout) as Record<string, unknown>
  assert.equal(answer.text, 'Hello from the stand-in')
  assert.equal(answer.verified, true)
  assert.equal(answer.model, MODEL)
  const providers = JSON.parse((await weightless(at, ['providers', '--json'])).stdout) as { providers: object[] }
  assert.equal(providers.providers.length, 1)
  const receipt = JSON.parse((await weightless(at, ['receipt', 'show', String(answer.chatId), '--json'])).stdout)
  assert.equal((receipt as Record<string, unknown>).intact, true)
})

test('an answer that does not verify is shown, warned about, and ends with exit code 1', async () => {
  const at = await home()
  await weightless(at, ['deposit', '3'])
  provider.fault = 'forged-receipt'
  const chat = await weightless(at, ['chat', 'Hello?'])
  assert.equal(chat.stdout, 'Hello from the stand-in\n')
  assert.match(chat.stderr, /NOT verified \(signature: the receipt is signed by/)
  assert.equal(chat.code, 1)
})

test('without a deposit chat says exactly what to run, with the exit code for funds', async () => {
  const at = await home()
  const chat = await weightless(at, ['chat', 'Hello?'])
  assert.equal(chat.code, 4)
  assert.match(chat.stderr, /fix: run: weightless deposit 3\n/)
  const small = await weightless(at, ['deposit', '1'])
  assert.equal(small.code, 4)
  assert.match(small.stderr, /fix: run: weightless deposit 3\n/)
})

test('the devnet file names the contracts', async () => {
  const at = await home()
  const { WEIGHTLESS_RPC_URL: rpcUrl, WEIGHTLESS_LEDGER: LedgerManager, ...env } = at.env
  const flow = `0x${'00'.repeat(20)}`
  const devnet = { chainId: 31_337, rpcUrl, indexerUrl: 'http://127.0.0.1:1', contracts: { Flow: flow, LedgerManager } }
  await writeFile(join(at.cwd, 'devnet.json'), JSON.stringify(devnet))
  const found = await weightless({ ...at, env: env as Record<string, string> }, [
    'providers',
    '--network',
    './devnet.json',
  ])
  assert.equal(found.code, 0, found.stderr)
  assert.match(found.stdout, new RegExp(provider.address))
  const lost = await weightless({ ...at, env: env as Record<string, string> }, ['providers', '--rpc', market.anvil.url])
  assert.match(lost.stderr, /the ledger contract is not known/)
  assert.equal(lost.code, 2)
})

test('a chain that is down is said, with the exit code for the network', async () => {
  const at = await home()
  const chat = await weightless(at, ['chat', 'Hello?', '--rpc', 'http://127.0.0.1:1'])
  assert.equal(chat.code, 5)
  assert.match(chat.stderr, /the chain cannot be reached/)
})

test('coins come back from a provider', async () => {
  const at = await home()
  await weightless(at, ['deposit', '3'])
  await weightless(at, ['chat', 'Hello?'])
  const back = await weightless(at, ['providers', 'retrieve', provider.address, '--json'])
  assert.equal(back.code, 0, back.stderr + back.stdout)
  const { accounts } = JSON.parse(back.stdout) as { accounts: { pendingRefundWei: string; balanceWei: string }[] }
  assert.equal(accounts[0]?.pendingRefundWei, accounts[0]?.balanceWei)
  const some = await weightless(at, ['deposit', '1', '--withdraw', '--json'])
  assert.equal(some.code, 1, 'the ledger keeps its minimum')
})

test('weightless gateway serves an OpenAI client with the settings of the command line, and ends on SIGTERM', async () => {
  const at = await home()
  await weightless(at, ['deposit', '3'])
  const script = fileURLToPath(new URL('gateway-process.ts', import.meta.url))
  const env = { ...at.env, PATH: process.env.PATH ?? '' }
  const child = spawn(process.execPath, [script, 'gateway', '--port', '0', '--json', '--quiet'], { ...at, env })
  const exited = once(child, 'exit')
  try {
    const [line] = (await once(createInterface(child.stdout), 'line')) as [string]
    const { baseUrl } = JSON.parse(line) as { baseUrl: string }
    const openai = new OpenAI({ baseURL: baseUrl, apiKey: 'any', maxRetries: 0 })
    const answer = await openai.chat.completions.create({
      model: MODEL,
      messages: [{ role: 'user', content: 'Hello?' }],
    })
    assert.equal(answer.choices[0]?.message.content, 'Hello from the stand-in')
  } finally {
    child.kill('SIGTERM')
  }
  assert.deepEqual(await exited, [0, null])
  assert.match((await weightless(at, ['receipt', 'list'])).stdout, /verified/)
})
