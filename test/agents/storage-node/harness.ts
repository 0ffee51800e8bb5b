import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { createWalletClient, http, publicActions } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { createLog, silentLog } from '#kit/log.ts'
import { flowAbi } from '#protocol/abi/flow.ts'
import type { Hash } from '#protocol/hex.ts'
import { SEGMENT_BYTES } from '#protocol/storage/constants.ts'
import { buildFileTree, type FileTree, memorySource } from '#protocol/storage/file-tree.ts'
import { segmentCount, segmentDataBytes } from '#protocol/storage/padding.ts'
import { encodeSegmentFrame, type SegmentFrame } from '#protocol/storage/segment-frame.ts'
import { submissionSectors } from '#protocol/storage/submission.ts'
import {
  type NodeConfigInput,
  type NodeContext,
  nodeConfigSchema,
  type RunningNode,
  startNode,
} from '#storage/node/main.ts'
import { type Anvil, DEV_ACCOUNTS, mine, startAnvil } from '../../chain.ts'
import { deployStorageContracts, type StorageContracts } from '../../storage-contracts.ts'

/** A chain with the storage contracts on it. */
export interface TestNet {
  anvil: Anvil
  contracts: StorageContracts
  /** Submits a file and gives its submission index once the transaction is mined. */
  submit(file: TestFile): Promise<number>
  close(): Promise<void>
}

/** A file as a client holds it. */
export interface TestFile {
  bytes: Uint8Array
  tree: FileTree
}

export async function startTestNet(): Promise<TestNet> {
  const anvil = await startAnvil()
  const contracts = await deployStorageContracts({ url: anvil.url })
  const [, second] = DEV_ACCOUNTS
  if (!second) throw new Error('the chain has no second account')
  const account = privateKeyToAccount(second.privateKey)
  const client = createWalletClient({ account, transport: http(anvil.url), pollingInterval: 20 }).extend(publicActions)
  return {
    anvil,
    contracts,
    async submit({ tree }) {
      const hash = await client.writeContract({
        address: contracts.flow,
        abi: flowAbi,
        functionName: 'submit',
        args: [
          {
            data: {
              length: BigInt(tree.sizeBytes),
              tags: '0x',
              nodes: tree.nodes.map(({ root, height }) => ({ root, height: BigInt(height) })),
            },
            submitter: account.address,
          },
        ],
        value: BigInt(submissionSectors(tree.nodes)) * contracts.pricePerSector,
        chain: null,
        // Asked each time: a reorganisation sets it back.
        nonce: await client.getTransactionCount({ address: account.address, blockTag: 'pending' }),
      })
      const receipt = await client.waitForTransactionReceipt({ hash, timeout: 10_000, pollingInterval: 20 })
      if (receipt.status !== 'success') throw new Error('the submission failed')
      const events = await client.getContractEvents({
        address: contracts.flow,
        abi: flowAbi,
        eventName: 'Submit',
        blockHash: receipt.blockHash,
      })
      const event = events.find(({ transactionHash }) => transactionHash === hash)
      return Number(event?.args.submissionIndex)
    },
    close: () => anvil.stop(),
  }
}

/** Bytes that repeat nowhere, the same for the same seed. */
export function pseudoRandomBytes(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(length / 4) * 4)
  const words = new Uint32Array(bytes.buffer)
  let state = (seed * 2_654_435_761) >>> 0 || 1
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13
    state >>>= 0
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    words[i] = state
  }
  return bytes.subarray(0, length)
}

/** Numbers in [0, 1) from a seed. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export async function makeFile(sizeBytes: number, seed = sizeBytes): Promise<TestFile> {
  const bytes = pseudoRandomBytes(sizeBytes, seed)
  return { bytes, tree: await buildFileTree({ source: memorySource(bytes) }) }
}

/** Segment `index` as it travels: whole sectors, zero-filled. */
export function segmentOf({ bytes, tree }: TestFile, index: number): SegmentFrame {
  const data = new Uint8Array(segmentDataBytes(tree.sizeBytes, index))
  data.set(bytes.subarray(index * SEGMENT_BYTES, (index + 1) * SEGMENT_BYTES))
  return { index, proof: tree.proof(index), data }
}

/** The JSON object of a segment with proof. */
export function segmentJson(file: TestFile, index: number) {
  const { data, proof } = segmentOf(file, index)
  return {
    root: file.tree.root,
    data: Buffer.from(data).toString('base64'),
    index,
    proof,
    fileSize: file.tree.sizeBytes,
  }
}

/** Frames of some segments in one body. */
export function framesOf(file: TestFile, indexes: Iterable<number>): Buffer {
  return Buffer.concat([...indexes].flatMap((index) => encodeSegmentFrame(segmentOf(file, index))))
}

export function allSegments({ tree }: TestFile): number[] {
  return Array.from({ length: segmentCount(tree.sizeBytes) }, (_, i) => i)
}

export interface OpenNodeParameters extends Partial<Omit<NodeContext, 'log'>> {
  net: TestNet
  dataDir: string
  config?: Omit<Partial<NodeConfigInput>, 'chain'> & { chain?: Partial<NodeConfigInput['chain']> }
}

/** The configuration of a node of this chain, on free ports. */
export function nodeConfig({ net, dataDir, config = {} }: Pick<OpenNodeParameters, 'net' | 'dataDir' | 'config'>) {
  const { anvil, contracts } = net
  return nodeConfigSchema.parse({
    ...config,
    data: { dir: dataDir, ...config.data },
    chain: {
      rpcUrls: [anvil.url],
      flow: contracts.flow,
      startBlock: contracts.block,
      confirmations: 0,
      pollIntervalMs: 50,
      ...config.chain,
    },
    rpc: { listen: '127.0.0.1:0', listenAdmin: '127.0.0.1:0', hashThreads: 0, ...config.rpc },
    sync: { graceMs: 300, peerRefreshMs: 200, retryMinMs: 100, ...config.sync },
  })
}

export async function openNode({ net, dataDir, config, ...context }: OpenNodeParameters): Promise<RunningNode> {
  const log = process.env.NODE_TEST_LOG ? createLog({ name: 'node', level: 'debug' }) : silentLog()
  return startNode(nodeConfig({ net, dataDir, ...(config ? { config } : {}) }), { log, ...context })
}

/** What the tests of one file share: begun before the first of them, ended after the last. */
export interface SharedNet {
  /** Not to be used before the tests begin. */
  net: TestNet
  /** Called when the tests are over, what was deferred last first. */
  defer(close: () => void | Promise<void>): void
  /** A node with a folder of its own; both go when the tests are over. */
  open(parameters?: Omit<OpenNodeParameters, 'net' | 'dataDir'>): Promise<RunningNode>
}

/** A chain for all tests of a file. To be called once, outside of the tests. */
export function useTestNet(): SharedNet {
  let started: TestNet | undefined
  // Hooks of a file may run side by side: one that opens a node waits for the one that starts the chain.
  const start = Promise.withResolvers<void>()
  start.promise.catch(() => {})
  const closers: (() => void | Promise<void>)[] = []
  const current = (): TestNet => {
    if (started === undefined) throw new Error('the chain runs once the tests have begun')
    return started
  }
  const net: TestNet = {
    get anvil() {
      return current().anvil
    },
    get contracts() {
      return current().contracts
    },
    submit: (file) => current().submit(file),
    close: () => current().close(),
  }
  before(async () => {
    try {
      started = await startTestNet()
      start.resolve()
    } catch (error) {
      start.reject(error)
      throw error
    }
  })
  after(async () => {
    for (const close of closers.reverse()) await close()
    await started?.close()
  })
  return {
    net,
    defer: (close) => void closers.push(close),
    open: async (parameters = {}) => {
      await start.promise
      const folder = await temporaryFolder()
      closers.push(() => folder.remove())
      const node = await openNode({ ...parameters, net, dataDir: folder.path })
      closers.push(() => node.close())
      return node
    },
  }
}

/** Submits a file and gives every node all of it that it takes. */
export async function storeFile(
  net: Pick<TestNet, 'submit'>,
  nodes: readonly RunningNode[],
  file: TestFile,
): Promise<number> {
  const seq = await net.submit(file)
  for (const node of nodes) {
    await logged(node.url, seq)
    const answer = await postFrames(node.url, seq, framesOf(file, allSegments(file)))
    if (answer.status !== 200) throw new Error(`upload: ${answer.code} ${answer.message}`)
    await finalized(node.url, seq)
  }
  return seq
}

/** A folder that `remove` takes away again. */
export async function temporaryFolder(): Promise<{ path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'storage-node-'))
  return { path, remove: () => rm(path, { recursive: true, force: true }) }
}

/** An answer of a JSON-RPC call. */
export interface RpcAnswer {
  result?: unknown
  error?: { code: number; message: string; data?: string }
}

export async function rawRpc(url: string, body: unknown): Promise<RpcAnswer> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
  return JSON.parse(await response.text()) as RpcAnswer
}

/** Calls a method; its error, if any, is thrown. */
export async function rpc<T = unknown>(url: string, method: string, ...params: unknown[]): Promise<T> {
  const { result, error } = await rawRpc(url, { jsonrpc: '2.0', id: 1, method, params })
  if (error) throw Object.assign(new Error(`${error.code} ${error.message}: ${error.data}`), error)
  return result as T
}

/** The error of a call that must fail. */
export async function rpcError(url: string, method: string, ...params: unknown[]) {
  const { error, result } = await rawRpc(url, { jsonrpc: '2.0', id: 1, method, params })
  if (!error) throw new Error(`${method} answered ${JSON.stringify(result)}`)
  return error
}

export interface PostAnswer {
  status: number
  stored?: number
  finalized?: boolean
  code?: string
  message?: string
  details?: Record<string, unknown>
}

export async function postFrames(
  url: string,
  seq: number,
  body: Uint8Array | ReadableStream<Uint8Array>,
): Promise<PostAnswer> {
  const response = await fetch(`${url}/v1/files/${seq}/segments`, {
    method: 'POST',
    headers: { 'content-type': 'application/octet-stream' },
    body: body as BodyInit,
    duplex: 'half',
  } as RequestInit)
  return { status: response.status, ...((await response.json()) as object) }
}

/** Waits until a look gives something else than undefined, false or null. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false | null> | T | undefined | false | null,
  limitMs = 15_000,
): Promise<T> {
  const giveUp = Date.now() + limitMs
  for (;;) {
    const found = await look()
    if (found !== undefined && found !== false && found !== null) return found
    if (Date.now() > giveUp) throw new Error(`waited ${limitMs} ms in vain: ${what}`)
    await delay(20)
  }
}

export interface FileInfoAnswer {
  tx: { dataMerkleRoot: Hash; startEntryIndex: number; size: number; seq: number; merkleNodes: [number, Hash][] }
  finalized: boolean
  isCached: boolean
  uploadedSegNum: number
  pruned: boolean
}

export function fileInfo(url: string, seq: number): Promise<FileInfoAnswer | null> {
  return rpc<FileInfoAnswer | null>(url, 'zgs_getFileInfoByTxSeq', seq)
}

/** Waits until a node has logged a submission. */
export function logged(url: string, seq: number): Promise<FileInfoAnswer> {
  return until(`submission ${seq} in the log`, () => fileInfo(url, seq))
}

export function finalized(url: string, seq: number, limitMs?: number): Promise<FileInfoAnswer> {
  return until(
    `file ${seq} finalized`,
    async () => {
      const info = await fileInfo(url, seq)
      return info?.finalized === true && info
    },
    limitMs,
  )
}

/** Downloads a whole file sector by sector range, as the field's clients do. */
export async function download(url: string, seq: number, sizeBytes: number): Promise<Buffer | null> {
  const sectors = Math.ceil(sizeBytes / 256)
  const parts: Buffer[] = []
  for (let start = 0; start < sectors; start += 1024) {
    const end = Math.min(start + 1024, sectors)
    const part = await rpc<string | null>(url, 'zgs_downloadSegmentByTxSeq', seq, start, end)
    if (part === null) return null
    parts.push(Buffer.from(part, 'base64'))
  }
  return Buffer.concat(parts).subarray(0, sizeBytes)
}

export { mine }
