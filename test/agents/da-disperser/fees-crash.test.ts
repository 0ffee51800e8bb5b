import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { entranceAbi } from '#client/da/abi.ts'
import { connectDa, type DaClient } from '#client/da/da-client.ts'
import { DisperserFailedError } from '#client/da/disperser/disperser-http.ts'
import { VoucherBook } from '#client/da/disperser/voucher-book.ts'
import type { DisperserConfigInput } from '#da/disperser/main.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import { mine } from '../../chain.ts'
import { accountOf, type DaNet, openNet, seededBytes, until } from '../da-signer/harness.ts'
import { DISPERSER_ACCOUNT } from './harness.ts'

const DISPERSER = accountOf(DISPERSER_ACCOUNT).address.toLowerCase() as Hex
const ETHER = 10n ** 18n
const USERS = [10, 11]
/** Every point between two steps that leave a trace. */
const STEPS = ['kept', 'accepted', 'queued', 'paid', 'signed', 'certified', 'confirmed', 'final', 'claiming', 'claimed']
/** How many of them one run tries; DA_KILLS=10 for all. */
const KILLS = Number(process.env.DA_KILLS ?? 3)
const SEED = Number(process.env.DA_SEED ?? Date.now() % 1_000_000)

let net: DaNet
let child: ChildProcess | undefined

before(async () => {
  net = await openNet({ stakes: [10, 10, 10] })
})

after(async () => {
  child?.kill('SIGKILL')
  await net?.close()
})

function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address !== null ? address.port : 0
}

function configOf(port: number): DisperserConfigInput {
  const { signers, entrance, accounts, block } = net.contracts
  return {
    data: { dir: join(net.folder, 'killed'), minFreeBytes: 0 },
    chain: {
      ...{ rpcUrls: [net.anvil.url], id: 31337, signers, entrance, startBlock: block },
      ...{ confirmations: 2, pollIntervalMs: 100 },
    },
    fees: { accounts, claimIntervalMs: 150, earnOverGas: 1 },
    jobs: { batchMs: 20 },
    retentionEpochs: 50,
    listen: `127.0.0.1:${port}`,
    listenGrpc: '127.0.0.1:0',
  }
}

/** Starts a disperser that kills itself at `step`, if any; `ended` tells when it did. */
async function start(config: DisperserConfigInput, step: string): Promise<{ ended: Promise<unknown> }> {
  const file = join(import.meta.dirname, 'killed-disperser.ts')
  const started = fork(file, [JSON.stringify(config), String(DISPERSER_ACCOUNT), step], { stdio: 'inherit' })
  child = started
  const ended = new Promise((resolve) => started.once('exit', (code, signal) => resolve({ code, signal })))
  await Promise.race([new Promise((resolve) => started.once('message', resolve)), ended])
  return { ended }
}

function clientOf(accountIndex: number): DaClient {
  return connectDa({
    ...{ rpcUrl: net.anvil.url, contracts: net.contracts, account: accountOf(accountIndex), codec: net.codec },
    ...{ startBlock: net.contracts.block, journalDir: join(net.folder, 'journal'), limits: { pollIntervalMs: 200 } },
  })
}

async function payments(client: DaClient, dataRoot: Hash): Promise<number> {
  const chain = await client.connection.chain()
  const events = await chain.client.getContractEvents({
    ...{ address: net.contracts.entrance, abi: entranceAbi, eventName: 'BlobSubmitted' },
    ...{ args: { dataRoot }, fromBlock: BigInt(net.contracts.block) },
  })
  return events.filter(({ args }) => (args.feeWei ?? 0n) > 0n).length
}

// Killed between any two steps and started again: every blob that was accepted is confirmed and paid for once at the
// contract, and what each user is charged, was claimed, and is in the user's own book is the sum of the quotes of the
// user's confirmed blobs: nothing is charged twice, nothing is forgotten.
test(`charges exactly the confirmed blobs when it is killed (seed ${SEED})`, { timeout: 600_000 }, async () => {
  const draw = random(SEED)
  const shuffled = STEPS.map((step) => ({ step, at: draw() })).sort((a, b) => a.at - b.at)
  const steps = shuffled.slice(0, KILLS).map(({ step }) => step)
  const config = configOf(await freePort())
  const url = `http://${config.listen}`
  const clients = USERS.map(clientOf)
  for (const client of clients) await client.deposit({ disperser: DISPERSER, amountWei: ETHER })
  const books = USERS.map((index) => VoucherBook.open({ dir: join(net.folder, `book-${index}`) }))

  const ending = new AbortController()
  const mining = (async () => {
    while (!ending.signal.aborted) {
      await mine(net.anvil, 1)
      await delay(200)
    }
  })()
  let killed = 0
  let supervised: Promise<void> | undefined
  try {
    await start(config, '').then(() => child?.kill('SIGKILL'))
    supervised = (async () => {
      for (const step of [...steps, '']) {
        if (ending.signal.aborted) return
        const { ended } = await start(config, step)
        const end = await ended
        // Anything else than the kill is a failure of its own.
        assert.deepEqual(end, { code: null, signal: 'SIGKILL' }, `killed at ${step}`)
        if (step !== '') killed += 1
      }
    })()
    const confirmed: { user: number; dataRoot: Hash; totalWei: bigint }[] = []
    for (let blob = 0; killed < steps.length || blob < 4; blob++) {
      assert.ok(blob < 60, `the disperser was killed ${killed} of ${steps.length} times only (${steps})`)
      const user = draw() < 0.5 ? 0 : 1
      const data = seededBytes(SEED + blob, 1 + Math.floor(draw() * 150_000))
      const [client, book] = [clients[user], books[user]]
      assert.ok(client && book)
      for (const giveUpAt = Date.now() + 150_000; ; ) {
        try {
          const { certificate, quote } = await client.disperseThrough({ url, data, book })
          confirmed.push({ user, dataRoot: certificate.dataRoot, totalWei: quote.totalWei })
          break
        } catch (error) {
          // Down at the moment; what a user does then is the same again.
          if (!(error instanceof DisperserFailedError) || Date.now() > giveUpAt) throw error
          assert.equal(error.code, 'DISPERSER_UNREACHABLE', error.message)
          await delay(250)
        }
      }
    }
    for (const [user, client] of clients.entries()) {
      const own = confirmed.filter((one) => one.user === user)
      const sum = own.reduce((total, { totalWei }) => total + totalWei, 0n)
      const look = () => client.disperserAccount({ disperser: DISPERSER })
      await until('all of it to be claimed', async () => (await look()).claimedWei >= sum)
      const { claimedWei, balanceWei } = await look()
      assert.equal(claimedWei, sum, 'claimed are the quotes of what was confirmed')
      assert.equal(claimedWei + balanceWei, ETHER, 'the rest is there')
      for (const { dataRoot } of own) assert.equal(await payments(client, dataRoot), 1, 'paid once at the contract')
      const standing = await fetch(`${url}/v1/accounts/${client.connection.payer('test').address}`)
      const { chargedWei, reservedWei } = (await standing.json()) as Record<string, string>
      assert.equal(chargedWei, String(sum), 'charged')
      assert.equal(reservedWei, '0', 'nothing is set aside for ever')
      const { hash: genesis } = await (await client.connection.chain()).client.getBlock({ blockNumber: 0n })
      const key = { chainId: 31337, genesis, contract: net.contracts.accounts, disperser: DISPERSER }
      const book = books[user]?.account({ ...key, user: client.connection.payer('test').address })
      assert.equal(book?.billedWei, sum, 'the user’s own book says the same')
    }
  } finally {
    ending.abort()
    child?.kill('SIGKILL')
    await Promise.all([mining, supervised])
    for (const book of books) book.close()
    await Promise.all(clients.map((client) => client.close()))
  }
})
