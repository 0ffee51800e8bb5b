import { createHash, randomInt } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { privateKeyToAccount } from 'viem/accounts'
import { type Client, connect } from '#client/connect.ts'
import { connectChain } from '#kit/chain/client.ts'
import { DEV_ACCOUNTS } from '#kit/chain/local-chain.ts'
import type { Hash } from '#protocol/hex.ts'
import { memorySource } from '#protocol/storage/file-tree.ts'
import { type Devnet, startDevnet } from '#scripts/devnet/devnet.ts'
import { seededRandom } from '#scripts/sim/difficulty.ts'
import { checkRewards, type RewardReport } from './rewards.ts'

/**
 * `npm run soak -- [--seed N] [--minutes M]`: five nodes and two miners through an hour of chain time, with uploads,
 * downloads, and kills of nodes and miners drawn from the seed. What must hold:
 *
 * - no file that was finalised is ever unreadable, and it reads back byte for byte;
 * - no reward is lost or paid twice, and the reward contract's books add up;
 * - difficulty stays within its band: the answers of an epoch, on average, near what it aims at.
 */
const NODES = 5
const MINERS = 2
/** Blocks, a second of chain time each, mined for each second of the clock where the machine has nothing else to do. */
const SPEED = 6
/** Twenty seconds of the clock: an answer takes one or two to be proven, sent and mined. */
const EPOCH_BLOCKS = 20 * SPEED
const MAX_FILE_BYTES = 2 * 2 ** 20
/** Copies of each file. So few nodes less one may be down at a time. */
const REPLICAS = 3
/**
 * Answers per epoch that are aimed at: few enough that hash power is the limit, not the time an answer is under way, and
 * enough that hardly any epoch has none by chance, for which the target would double.
 */
const WANTED_ANSWERS = 10
/** Epochs that difficulty is given to find its level. */
const WARM_UP_EPOCHS = 8
/** Mean answers per epoch, as a multiple of those aimed at. */
const BAND = { low: 0.4, high: 1.8 }
/** Below this the floor holds difficulty up, and not the hash power. */
const LEAST_DIFFICULTY = 50

interface StoredFile {
  root: Hash
  sha256: string
}

interface Run {
  devnet: Devnet
  client: Client
  pids: Map<string, number>
  random: () => number
  files: StoredFile[]
  counts: { uploads: number; failedUploads: number; reads: number; kills: number }
  say: (line: string) => void
  signal: AbortSignal
}

async function soak({ seed, minutes, signal }: { seed: number; minutes: number; signal: AbortSignal }): Promise<void> {
  const say = (line: string): void => void process.stdout.write(`${line}\n`)
  say(`seed ${seed} (repeat with --seed ${seed}), ${minutes} minutes of chain time`)
  const directory = join(await mkdtemp(join(tmpdir(), 'weightless-soak-')), 'devnet')
  const pids = new Map<string, number>()
  const devnet = await startDevnet({
    ...{
      directory,
      nodesPerReplica: 1,
      replicas: NODES,
      miners: MINERS,
      services: [],
      portBase: 40_000,
      readyTimeoutMs: 120_000,
    },
    contracts: {
      blocksPerEpoch: EPOCH_BLOCKS,
      mineWindowBlocks: EPOCH_BLOCKS - 10,
      mineAnswersPerEpoch: WANTED_ANSWERS,
      // Near the level of two miners at a tenth of a thread each, with 64 chances in an attempt: what it is off at the
      // start is made up slowly, by at most an eighth of the distance in an epoch.
      mineDifficulty: 100_000n,
    },
    ...{ say, signal },
    onProcess: (event) => {
      if (event.type === 'started') pids.set(event.name, event.pid)
      if (event.type === 'ended') pids.delete(event.name)
    },
  })
  const [account] = DEV_ACCOUNTS
  if (account === undefined) throw new Error('no development account')
  const { rpcUrl, indexerUrl } = devnet.file
  const journalDir = join(directory, '..', 'journal')
  const client = await connect({ rpcUrl, indexerUrl, account: privateKeyToAccount(account.privateKey), journalDir })
  const counts = { uploads: 0, failedUploads: 0, reads: 0, kills: 0 }
  const run: Run = { devnet, client, pids, random: seededRandom(seed), files: [], counts, say, signal }
  try {
    await drive(run, minutes)
    await settle(run)
    for (const file of run.files) await read(run, file)
    say(`all ${run.files.length} finalised files read back; ${JSON.stringify(counts)}`)
    await checkBooks(run)
    say('soak passed')
  } finally {
    await client.close()
    await devnet.stop()
    await rm(join(directory, '..'), { recursive: true, force: true })
  }
}

/** Actions drawn from the seed until the chain has come so far. */
async function drive(run: Run, minutes: number): Promise<void> {
  const { devnet, random, signal, say, counts } = run
  const chain = await connectChain({ rpcUrls: [devnet.file.rpcUrl], signal })
  const first = await chain.client.getBlockNumber()
  const last = first + BigInt(60 * minutes)
  let due = 0
  const clock = setInterval(() => {
    due += SPEED / slowdown()
    const blocks = Math.floor(due)
    due -= blocks
    if (blocks > 0) chain.request('anvil_mine', [`0x${blocks.toString(16)}`, '0x1']).catch(() => {})
  }, 1_000)
  try {
    for (let told = first; ; ) {
      signal.throwIfAborted()
      const block = await chain.client.getBlockNumber()
      if (block >= last) return
      if (block - told > 600n) {
        told = block
        say(`minute ${(block - first) / 60n}: ${run.files.length} files, ${JSON.stringify(counts)}`)
      }
      const choice = random()
      if (choice < 0.45) await upload(run)
      else if (choice < 0.8) await readAny(run)
      else await kill(run)
      await delay(200 + 600 * random(), undefined, { signal })
    }
  } finally {
    clearInterval(clock)
    chain.close()
  }
}

/** Processor time of the probe below, in milliseconds. */
const PROBE_MS = 30

/**
 * How many times longer than on a free processor work takes at the moment. The chain's clock is slowed by it: an epoch
 * is to hold the same work on a busy machine, or it would be the load that difficulty follows, and not the hash power.
 */
function slowdown(): number {
  const begun = performance.now()
  const { user, system } = process.cpuUsage()
  let spentMs = 0
  for (let input = Buffer.alloc(4_096); spentMs < PROBE_MS; ) {
    for (let i = 0; i < 100; i++)
      input = Buffer.concat([createHash('sha256').update(input).digest(), input.subarray(32)])
    const now = process.cpuUsage()
    spentMs = (now.user + now.system - user - system) / 1_000
  }
  return Math.max(1, (performance.now() - begun) / spentMs)
}

async function upload(run: Run): Promise<void> {
  const { client, random, files, counts, signal, say } = run
  // Sizes from one byte on, small ones as often as large ones.
  const sizeBytes = Math.max(1, Math.floor(MAX_FILE_BYTES ** random()))
  const bytes = new Uint8Array(sizeBytes)
  for (let at = 0; at < sizeBytes; at++) bytes[at] = Math.floor(256 * random())
  try {
    const { root } = await client.storage.upload({ source: memorySource(bytes), replicas: REPLICAS, signal })
    files.push({ root, sha256: sha256(bytes) })
    counts.uploads += 1
  } catch (error) {
    signal.throwIfAborted()
    // Killed nodes may fail an upload; that it failed is told, and nothing was promised.
    counts.failedUploads += 1
    say(`an upload failed: ${error instanceof Error ? error.message : String(error)}`)
  }
}

async function readAny(run: Run): Promise<void> {
  const file = run.files[Math.floor(run.random() * run.files.length)]
  if (file !== undefined) await read(run, file)
}

async function read({ client, counts, signal }: Run, { root, sha256: expected }: StoredFile): Promise<void> {
  const hash = createHash('sha256')
  for await (const piece of client.storage.readFile({ root, signal })) hash.update(piece)
  if (hash.digest('hex') !== expected) throw new Error(`${root} reads back with other bytes`)
  counts.reads += 1
}

/** SIGKILL for a node or a miner, while enough nodes serve. The supervisor starts it again. */
async function kill({ devnet, pids, random, counts, signal }: Run): Promise<void> {
  const nodes = devnet.targets.filter(({ name }) => name.startsWith('node-'))
  const checks = await Promise.allSettled(nodes.map(({ check }) => check(signal)))
  const serving = checks.filter(({ status }) => status === 'fulfilled').length
  const victims = [...pids].filter(
    ([name]) => name.startsWith('miner-') || (name.startsWith('node-') && serving > NODES - REPLICAS + 1),
  )
  const victim = victims[Math.floor(random() * victims.length)]
  if (victim === undefined) return
  try {
    process.kill(victim[1], 'SIGKILL')
    counts.kills += 1
  } catch (error) {
    // It is on its way down from an earlier kill.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

/** Waits until everything is well again. */
async function settle({ devnet, signal, say }: Run): Promise<void> {
  say('waiting for every process to be well')
  const deadline = Date.now() + 120_000
  for (const { name, check } of devnet.targets) {
    for (;;) {
      try {
        await check(signal)
        break
      } catch (cause) {
        if (Date.now() > deadline) throw new Error(`${name} is not well two minutes after the last kill`, { cause })
        await delay(500, undefined, { signal })
      }
    }
  }
}

async function checkBooks({ devnet, say, signal }: Run): Promise<void> {
  const { rpcUrl, contracts, startBlock } = devnet.file
  const { StorageReward, PoraMine } = contracts
  const chain = await connectChain({ rpcUrls: [rpcUrl], signal })
  try {
    const report = await checkRewards({
      chain,
      reward: StorageReward as `0x${string}`,
      mine: PoraMine as `0x${string}`,
      fromBlock: BigInt(startBlock),
      stepBlocks: EPOCH_BLOCKS,
    })
    say(`${report.answers} answers, ${report.distributedWei} wei earned, ${report.withdrawnWei} wei withdrawn`)
    checkBand(report, say)
  } finally {
    chain.close()
  }
}

function checkBand({ answersByEpoch, difficulties }: RewardReport, say: (line: string) => void): void {
  const epochs = [...answersByEpoch].sort(([a], [b]) => Number(a - b))
  const first = epochs[0]?.[0] ?? 0n
  const last = epochs.at(-1)?.[0] ?? 0n
  const counted = epochs.filter(([epoch]) => epoch > first + BigInt(WARM_UP_EPOCHS))
  const span = Number(last - first) - WARM_UP_EPOCHS
  if (span <= 0) throw new Error('too few epochs to judge difficulty: run longer')
  // Epochs without an answer count as zero.
  const mean = counted.reduce((sum, [, answers]) => sum + answers, 0) / span
  const level = difficulties.slice(WARM_UP_EPOCHS)
  const [lowest, highest] = [Math.min(...level), Math.max(...level)]
  say(`difficulty by epoch: ${difficulties.map((value) => Math.round(value)).join(' ')}`)
  say(`answers by epoch: ${epochs.map(([epoch, answers]) => `${epoch - first}: ${answers}`).join(', ')}`)
  const range = `difficulty ${Math.round(lowest)} to ${Math.round(highest)}`
  const text = `${mean.toFixed(1)} answers per epoch over ${span} epochs, ${range}`
  say(text)
  if (mean < BAND.low * WANTED_ANSWERS || mean > BAND.high * WANTED_ANSWERS) {
    throw new Error(`difficulty left its band: ${text}, aimed at ${WANTED_ANSWERS}`)
  }
  if (lowest < LEAST_DIFFICULTY) throw new Error(`difficulty fell to its floor: ${text}`)
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

const { values } = parseArgs({
  options: { seed: { type: 'string' }, minutes: { type: 'string', default: '60' } },
})
const abort = new AbortController()
process.once('SIGINT', () => abort.abort())
process.once('SIGTERM', () => abort.abort())
const seed = values.seed === undefined ? randomInt(1, 2 ** 31) : Number(values.seed)
await soak({ seed, minutes: Number(values.minutes), signal: abort.signal })
