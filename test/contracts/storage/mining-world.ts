import { keccak_256 } from '@noble/hashes/sha3.js'
import {
  type Answer,
  type FlowData,
  type MineJob,
  mineAnswer,
  type Range,
  RepetitiveFlow,
  SmallFlow,
  scaledTarget,
  WHOLE,
} from './plain-miner.ts'
import {
  as,
  deployStorage,
  type FixtureParameters,
  type StorageFixture,
  SUBMIT,
  submissionOf,
} from './storage-fixture.ts'

/** Who may ask for a worker context, by eth_call. */
export const WORKER = '0x000000000000000000000000000000000000000A'

/** A flow with data, its first epoch ended, and a registered miner. */
export interface MiningWorld extends StorageFixture {
  data: FlowData
  minerId: string
  beneficiary: string
}

export interface Work {
  epoch: bigint
  contextDigest: string
  flowLength: bigint
  poraTarget: bigint
  subtaskDigest: string
  mineStart: bigint
}

/**
 * Two files of random bytes, 256 KiB and 512 KiB, in a flow of 4096 sectors. Pool 0 is far from full, so answers pay
 * nothing.
 */
export async function smallWorld(parameters: FixtureParameters = {}): Promise<MiningWorld> {
  const fixture = await deployStorage({ blocksPerEpoch: 200, ...parameters })
  const data = smallFlow()
  await store(fixture, data.node(1024, 10), 10)
  await store(fixture, data.node(2048, 11), 11)
  if ((await fixture.flow.computeFlowRoot()) !== data.root) throw new Error('the test data is not what the flow holds')
  return await begin(fixture, data)
}

let builtOnce: SmallFlow | undefined

function smallFlow(): SmallFlow {
  builtOnce ??= new SmallFlow({
    pieces: [
      { position: 1024, data: randomBytes('first file', 262_144) },
      { position: 2048, data: randomBytes('second file', 524_288) },
    ],
    length: 4096,
  })
  return builtOnce
}

/** Two full pricing chunks, the upper one a single sector repeated: both pools are started, so answers pay. */
export async function payingWorld(parameters: FixtureParameters = {}, height = 25): Promise<MiningWorld> {
  const fixture = await deployStorage({ blocksPerEpoch: 200, ...parameters })
  const data = new RepetitiveFlow({ height, sector: randomBytes('one sector', 256) })
  await store(fixture, data.node.root, height)
  return await begin(fixture, data)
}

/** Registers an id for a beneficiary. */
export async function register({ mine }: StorageFixture, beneficiary: string, seed: number): Promise<string> {
  const response = await mine.requestMinerId(beneficiary, seed)
  const receipt = await response.wait()
  const [log] = await mine.queryFilter('NewMinerId', receipt.blockNumber, receipt.blockNumber)
  if (log === undefined || !('args' in log)) throw new Error('no NewMinerId event')
  return log.args.minerId
}

/** Mines blocks up to the next epoch and a little into it, and makes its context. */
export async function nextEpoch({ flow, connection }: StorageFixture, into = 1): Promise<void> {
  const epoch = await flow.epoch()
  const start = (await flow.firstBlock()) + (epoch + 1n) * (await flow.blocksPerEpoch())
  await connection.networkHelpers.mineUpTo(start + BigInt(into))
  await flow.makeContext()
}

/** What the contract tells this miner to do now. */
export async function workFor({ mine, connection }: StorageFixture, minerId: string): Promise<Work> {
  const worker = await as(mine, connection.ethers.provider).computeWorkerContext.staticCall(minerId, { from: WORKER })
  return {
    epoch: worker.context.epoch,
    contextDigest: worker.context.digest,
    flowLength: worker.context.flowLength,
    mineStart: worker.context.mineStart,
    poraTarget: worker.poraTarget,
    subtaskDigest: worker.subtaskDigest,
  }
}

/** All that there is to mine, in one part. */
export function wholeRange(flowLength: bigint): Range {
  return { startPosition: 0n, mineLength: (flowLength / 1024n) * 1024n, shardId: 0n, shardMask: WHOLE }
}

/** Mines an answer that the contract should take, for the context that runs. */
export async function answerFor(
  world: MiningWorld,
  changes: Partial<MineJob> & { range?: Range } = {},
): Promise<Answer> {
  const work = await workFor(world, changes.minerId ?? world.minerId)
  const range = changes.range ?? wholeRange(work.flowLength)
  const sealContext = (await world.flow.queryContextAtPosition.staticCall(work.flowLength - 1n)).digest
  return mineAnswer({
    contextDigest: work.contextDigest,
    subtaskDigest: work.subtaskDigest,
    minerId: world.minerId,
    range,
    target: scaledTarget({ target: work.poraTarget, flowLength: work.flowLength, range }),
    data: world.data,
    sealContext: () => sealContext,
    ...changes,
  })
}

/** Bytes that depend on the label alone. */
export function randomBytes(label: string, size: number): Uint8Array {
  const bytes = new Uint8Array(size)
  let block: Uint8Array = keccak_256(new TextEncoder().encode(label))
  for (let at = 0; at < size; at += 32) {
    bytes.set(block.subarray(0, Math.min(32, size - at)), at)
    block = keccak_256(block)
  }
  return bytes
}

async function store(
  { flow, connection, pricePerSector }: StorageFixture,
  root: string,
  height: number,
): Promise<void> {
  const [signer] = await connection.ethers.getSigners()
  const value = pricePerSector << BigInt(height)
  const response = await flow[SUBMIT](submissionOf([{ root, height }], signer?.address ?? ''), { value })
  await response.wait()
}

async function begin(fixture: StorageFixture, data: FlowData): Promise<MiningWorld> {
  const [, miner] = await fixture.connection.ethers.getSigners()
  if (miner === undefined) throw new Error('the simulated chain has too few accounts')
  const minerId = await register(fixture, miner.address, 0)
  await nextEpoch(fixture)
  return { ...fixture, data, minerId, beneficiary: miner.address }
}
