import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { Command } from 'commander'
import { register as registerDa } from '#cli/commands/da.ts'
import { register as registerSigner } from '#cli/commands/da-signer.ts'
import { createIo } from '#cli/io.ts'
import { addGlobalOptions } from '#cli/options.ts'
import { blsSecret } from '#da/signer/account.ts'
import { type SignerStatus, signerConfigSchema } from '#da/signer/main.ts'
import { toHex } from '#protocol/hex.ts'
import { type DaNet, openNet, rejectsWith, seededBytes, until } from './harness.ts'

let net: DaNet

before(async () => {
  net = await openNet({ stakes: [10, 10] })
  await mkdir(join(net.folder, '.weightless'))
  const { signers, entrance } = net.contracts
  const devnet = {
    chainId: 31_337,
    rpcUrl: net.anvil.url,
    nodes: [],
    contracts: { Flow: entrance, DASigners: signers, DAEntrance: entrance },
  }
  await writeFile(join(net.folder, '.weightless', 'devnet.json'), JSON.stringify(devnet))
})

after(() => net?.close())

/** Runs one command in the folder of the devnet. */
async function weightless(args: string[], input: Uint8Array = new Uint8Array()) {
  const stdout = new PassThrough()
  const stderr = new PassThrough()
  const parts: Buffer[] = []
  stdout.on('data', (part: Buffer) => parts.push(part))
  stderr.resume()
  const env = { XDG_STATE_HOME: join(net.folder, 'state'), XDG_CONFIG_HOME: net.folder }
  const io = createIo({ argv: args, env, cwd: net.folder, stdin: Readable.from([input]), stdout, stderr })
  const program = new Command('weightless').exitOverride()
  registerDa(program, io)
  registerSigner(program, io)
  addGlobalOptions(program)
  try {
    await program.parseAsync(args, { from: 'user' })
  } finally {
    io.dispose()
  }
  return { exitCode: io.exitCode, bytes: Buffer.concat(parts) }
}

async function json<T>(...args: string[]): Promise<T> {
  return JSON.parse((await weightless([...args, '--json'])).bytes.toString()) as T
}

// A file goes out, comes back by its root alone, and is sampled, with what the devnet's file says and nothing else.
test('put, get, sample and quote work from the devnet’s file', async () => {
  const data = seededBytes(31, 12_345)
  await writeFile(join(net.folder, 'batch.bin'), data)
  const put = await json<{ dataRoot: string; feeWei: string; existed: boolean }>('da', 'put', 'batch.bin')
  const quote = await json<{ feeWei: string }>('da', 'quote', '12345')
  assert.equal(put.feeWei, quote.feeWei)
  const again = await json<{ dataRoot: string; feeWei: string; existed: boolean }>('da', 'put', 'batch.bin')
  assert.deepEqual([again.dataRoot, again.feeWei, again.existed], [put.dataRoot, '0', true])
  const got = await json<{ path: string; sizeBytes: number }>('da', 'get', put.dataRoot, '--out', 'copy.bin')
  assert.equal(got.sizeBytes, data.length)
  assert.deepEqual(await readFile(got.path), Buffer.from(data))
  const piped = await weightless(['da', 'get', put.dataRoot, '-o', '-'])
  assert.deepEqual(piped.bytes, Buffer.from(data))
  const sampled = await json<{ passed: number; samples: number; confidence: number }>('da', 'sample', put.dataRoot)
  assert.deepEqual([sampled.passed, sampled.samples], [69, 69])
  assert.ok(sampled.confidence > 1 - 2 ** -40)
})

// Standard input is a blob too; an empty one and one too large are refused before anything is sent.
test('standard input is published; sizes out of bounds are refused by name', async () => {
  const { bytes } = await weightless(['da', 'put', '-', '--json'], Buffer.from('from a pipe'))
  const { sizeBytes } = JSON.parse(bytes.toString()) as { sizeBytes: number }
  assert.equal(sizeBytes, 11)
  await rejectsWith('BLOB_SIZE', weightless(['da', 'put', '-']))
  await rejectsWith('BLOB_SIZE', weightless(['da', 'put', '-'], new Uint8Array(32 * 2 ** 20 + 1)))
  await rejectsWith('FILE_MISSING', weightless(['da', 'put', 'nothing.bin']))
  await rejectsWith('BLOB_UNKNOWN', weightless(['da', 'get', `0x${'12'.repeat(32)}`]))
  await rejectsWith('ENTRANCE_REFUSED', weightless(['da', 'quote', '33MiB']))
})

// An operator sees the state, joins, raises the stake, takes some out and draws earnings without touching the process.
test('a signer is shown, registered and withdrawn from the command line', async () => {
  const [first] = net.signers
  const status = await json<SignerStatus>('da-signer', 'status', '--url', first?.url ?? '')
  assert.equal(status.state, 'signing')
  await rejectsWith('SIGNER_UNREACHABLE', weightless(['da-signer', 'status', '--url', 'http://127.0.0.1:9']))
  const { signers, entrance } = net.contracts
  const toml = `
    [chain]
    rpc_urls = ["${net.anvil.url}"]
    id = 31337
    signers = "${signers}"
    entrance = "${entrance}"
    [data]
    dir = "${join(net.folder, 'third')}"
    [key]
    dev_account = 8
    [bls]
    dev_account = 8`
  await writeFile(join(net.folder, 'third.toml'), toml)
  const register = ['da-signer', 'register', '--config', 'third.toml', '--url', 'http://127.0.0.1:9']
  const joined = await json<{ outcome: string; bondedWei: string }>(...register, '--stake', '3')
  assert.deepEqual([joined.outcome, joined.bondedWei], ['registered', `3${'0'.repeat(18)}`])
  assert.equal((await json<{ outcome: string }>(...register)).outcome, 'unchanged')
  const raised = await json<{ outcome: string; bondedWei: string }>(...register, '--stake', '2.5')
  assert.deepEqual([raised.outcome, raised.bondedWei], ['added', `55${'0'.repeat(17)}`])
  const out = await json<{ unbondingWei: string }>('da-signer', 'withdraw', '--config', 'third.toml', '--unbond', 'all')
  assert.equal(out.unbondingWei, `55${'0'.repeat(17)}`)
  await until('the first signer to be healthy', async () => (await fetch(`${first?.url}/healthz`)).ok)
  const metrics = await (await fetch(`${first?.url}/metrics`)).text()
  assert.match(metrics, /weightless_da_signer_held_blobs_count/)
})

// The key that signs blobs is kept encrypted; it is made once, found again, and not opened with a wrong password.
test('the BLS key is made once and kept encrypted', async () => {
  const dir = join(net.folder, 'keys')
  await mkdir(dir)
  await writeFile(join(dir, 'password'), 'correct horse\n')
  await writeFile(join(dir, 'wrong'), 'battery staple\n')
  const settings = (passwordFile: string) => ({
    config: signerConfigSchema.parse({
      chain: { rpcUrls: [net.anvil.url], signers: net.contracts.signers, entrance: net.contracts.entrance },
      data: { dir },
      bls: { passwordFile: join(dir, passwordFile) },
    }),
    env: {},
    scryptN: 1_024,
  })
  const secret = await blsSecret(settings('password'))
  assert.deepEqual(await blsSecret(settings('password')), secret)
  const text = await readFile(join(dir, 'bls.json'), 'utf8')
  assert.ok(!text.includes(toHex(secret).slice(2)))
  await rejectsWith('KEYSTORE_PASSWORD', blsSecret(settings('wrong')))
  // A publicly known key is for the local chain alone.
  const config = signerConfigSchema.parse({
    chain: {
      rpcUrls: ['https://rpc.example'],
      id: 31_337,
      signers: net.contracts.signers,
      entrance: net.contracts.entrance,
    },
    bls: { devAccount: 1 },
  })
  await rejectsWith('DEV_ACCOUNT', blsSecret({ config, env: {} }))
})
