import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { Command } from 'commander'
import { register as registerDa } from '#cli/commands/da.ts'
import { register as registerDisperser } from '#cli/commands/disperser.ts'
import { createIo } from '#cli/io.ts'
import { addGlobalOptions } from '#cli/options.ts'
import type { RunningDisperser } from '#da/disperser/main.ts'
import { mine } from '../../chain.ts'
import { accountOf, type DaNet, openNet, rejectsWith, seededBytes, until } from '../da-signer/harness.ts'
import { DISPERSER_ACCOUNT, openDisperser } from './harness.ts'

const DISPERSER = accountOf(DISPERSER_ACCOUNT).address.toLowerCase()
const ETHER = 10n ** 18n

let net: DaNet
let running: RunningDisperser

before(async () => {
  net = await openNet({ stakes: [10, 10], deploy: { lockSeconds: 500 } })
  running = await openDisperser(net, {
    fees: { accounts: net.contracts.accounts, earnOverGas: 1 },
    retentionEpochs: 50,
  })
  await mkdir(join(net.folder, '.weightless'))
  const { signers, entrance, accounts } = net.contracts
  const devnet = {
    chainId: 31_337,
    rpcUrl: net.anvil.url,
    nodes: [],
    contracts: { Flow: entrance, DASigners: signers, DAEntrance: entrance, DispersalAccounts: accounts },
    ports: { disperser: Number(new URL(running.url).port) },
  }
  await writeFile(join(net.folder, '.weightless', 'devnet.json'), JSON.stringify(devnet))
  await writeFile(join(net.folder, 'batch.bin'), seededBytes(301, 12_345))
})

after(async () => {
  await running?.close()
  await net?.close()
})

/** Runs one command in the folder of the devnet. */
async function weightless(...args: string[]): Promise<{ out: string; told: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const [out, told] = [stdout, stderr].map((stream) => {
    const parts: Buffer[] = []
    stream.on('data', (part: Buffer) => parts.push(part))
    return parts
  })
  const env = { XDG_STATE_HOME: join(net.folder, 'state'), XDG_DATA_HOME: join(net.folder, 'data') }
  const io = createIo({ argv: args, env, cwd: net.folder, stdin: Readable.from([]), stdout, stderr })
  const program = new Command('weightless').exitOverride()
  registerDa(program, io)
  registerDisperser(program, io)
  addGlobalOptions(program)
  try {
    await program.parseAsync(args, { from: 'user' })
  } finally {
    io.dispose()
  }
  return { out: Buffer.concat(out ?? []).toString(), told: Buffer.concat(told ?? []).toString() }
}

async function json(...args: string[]): Promise<Record<string, unknown>> {
  return JSON.parse((await weightless(...args, '--json')).out) as Record<string, unknown>
}

// The whole way of a user: quote, the refusal that says what to deposit, deposit, blob, balance, withdrawal.
test('pays a disperser from the command line', async () => {
  const quote = await json('da', 'quote', '12345', '--disperser', running.url)
  assert.match(
    (await weightless('da', 'quote', '12345', '--disperser', running.url)).out,
    /kept for 50 epochs: .* for the chain/,
  )
  const put = ['da', 'put', 'batch.bin', '--disperser', running.url]
  const poor = await rejectsWith('DEPOSIT_INSUFFICIENT', weightless(...put))
  assert.match(String(Reflect.get(poor, 'fix')), /^weightless da deposit 0\.\d+ --disperser http/)
  await rejectsWith('FEE_ABOVE_LIMIT', weightless(...put, '--max-fee', '0.000000000000000001'))
  await rejectsWith('CLI_USAGE', weightless(...put, '--epochs', '3'))

  const deposited = await json('da', 'deposit', '0.5', '--disperser', running.url)
  assert.equal(deposited.disperser, DISPERSER)
  assert.equal(BigInt(String(deposited.balanceWei)), ETHER / 2n)
  await mine(net.anvil, 3)
  const shown = await weightless(...put, '--max-fee', '0.1')
  assert.match(shown.out, /blob published, root = 0x[0-9a-f]{64}/)
  assert.match(shown.told, /for the disperser/)
  assert.match(shown.told, /charged 0\.\d+/)
  const again = await json(...put)
  assert.equal(BigInt(String(again.feeWei)), 0n, 'paid once')

  await until('the claim', async () => {
    await mine(net.anvil, 1)
    const { claimedWei } = await json('da', 'balance', '--disperser', DISPERSER)
    return BigInt(String(claimedWei)) === BigInt(String(quote.totalWei))
  })
  const status = (await json('disperser', 'status', '--url', running.url)).fees as Record<string, unknown>
  assert.equal(status.chargedWei, quote.totalWei)
  assert.match((await weightless('disperser', 'status', '--url', running.url)).out, /claimed {3}0/)
})

test('takes a deposit back after the lock time', async () => {
  const before = BigInt(String((await json('da', 'balance')).balanceWei))
  const announced = await json('da', 'withdraw', '0.1')
  assert.equal(announced.step, 'announced')
  assert.equal((await json('da', 'withdraw')).step, 'waiting')
  assert.match((await weightless('da', 'balance')).out, /leaving {2}0\.1, free from/)
  assert.equal((await json('da', 'withdraw', '--cancel')).step, 'cancelled')
  assert.equal((await json('da', 'withdraw')).step, 'announced')
  await net.anvil.rpc('evm_increaseTime', [501])
  await mine(net.anvil, 1)
  const done = await json('da', 'withdraw')
  assert.equal(done.step, 'withdrawn')
  assert.equal(BigInt(String(done.amountWei)), before)
  await rejectsWith('ACCOUNT_EMPTY', weightless('da', 'withdraw'))
})

test('names what is missing or wrong', async () => {
  await rejectsWith('SETTING_INVALID', weightless('da', 'balance', '--disperser', 'nobody'))
  await rejectsWith('DISPERSER_UNREACHABLE', weightless('da', 'balance', '--disperser', 'http://127.0.0.1:1'))
  const other = `0x${'11'.repeat(20)}`
  await rejectsWith('SETTING_INVALID', weightless('da', 'deposit', '1', '--accounts', other))
  await rejectsWith('DISPERSER_UNREACHABLE', weightless('disperser', 'status', '--url', 'http://127.0.0.1:1'))
  await assert.rejects(weightless('da', 'deposit', '0'), /amount of coins above zero/)
  const signedElsewhere = weightless('da', 'put', 'batch.bin', '--disperser', running.url, '--accounts', other)
  await rejectsWith('DISPERSER_DISHONEST', signedElsewhere)
})
