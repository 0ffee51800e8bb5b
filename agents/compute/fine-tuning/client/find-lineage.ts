import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { getAbiItem } from 'viem'
import { fileInfo } from '#client/storage/file-info.ts'
import { readSubmitEvents } from '#client/storage/flow-contract.ts'
import { listNodes } from '#client/storage/list-nodes.ts'
import type { Chain } from '#kit/chain/client.ts'
import { flowAbi } from '#protocol/abi/flow.ts'
import { FineTuningFormatError } from '#protocol/compute/fine-tuning/error.ts'
import { decodeLineage, MAX_LINEAGE_BYTES } from '#protocol/compute/fine-tuning/lineage.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import { FineTuningError } from '../error.ts'
import { type ArtefactStorage, fetchBytes } from '../storage.ts'

/** Blocks asked for at once; fewer where an endpoint wants it so. */
const PAGE_BLOCKS = 2_000
const MIN_PAGE_BLOCKS = 10
/** Blocks looked through before the search is given up: a week of two-second blocks. */
const MAX_BLOCKS = 302_400
/** Tagged submissions that are looked at; anybody can tag one. */
const MAX_CANDIDATES = 64

const submitEvent = getAbiItem({ abi: flowAbi, name: 'Submit' })

/** A record as it is stored. */
export interface FoundLineage {
  /** Its own root. */
  root: Hash
  bytes: Uint8Array
}

/**
 * The lineage record that `root` names: its own root, or that of the artefact that it tells of. A record's submission carries
 * the root of its artefact as tag on the chain; of several the first counts, since others can copy it. Verify what is found.
 *
 * @throws FineTuningFormatError `LINEAGE_FORMAT` where `root` is neither; storage and chain errors
 */
export async function findLineage(parameters: {
  storage: ArtefactStorage
  root: Hash
  /** Folder for what is fetched meanwhile. */
  folder: string
  signal?: AbortSignal | undefined
}): Promise<FoundLineage> {
  const { storage, root } = parameters
  const { sizeBytes } = await fileInfo(storage.connection, { root })
  const bytes = sizeBytes > MAX_LINEAGE_BYTES ? undefined : await fetchRecord({ ...parameters, root })
  if (bytes !== undefined && artefactOf(bytes) !== undefined) return { root, bytes }
  const found = await searchTags(parameters)
  if (found !== undefined) return found
  throw new FineTuningFormatError({
    code: 'LINEAGE_FORMAT',
    message: `${root} is no record of a model's lineage, and no record names it as its artefact`,
    fix: 'give the root of a lineage record (weightless finetune prints it), or of an artefact as it was delivered',
    details: { root },
  })
}

/** Looks back from the head until before the artefact was submitted. */
async function searchTags(parameters: Parameters<typeof findLineage>[0]): Promise<FoundLineage | undefined> {
  const { storage, root, signal } = parameters
  const { connection } = storage
  if (!connection.hasChain) return undefined
  const chain = await connection.chain({ purpose: "find a model's lineage", signal })
  const { txSeq } = await fileInfo(connection, { root, signal })
  const flow = connection.flow ?? (await flowOfNodes(storage, signal))
  const head = Number(await chain.client.getBlockNumber())
  const tagged: number[] = []
  let page = PAGE_BLOCKS
  for (let to = head; to >= 0 && head - to < MAX_BLOCKS && tagged.length < MAX_CANDIDATES; ) {
    signal?.throwIfAborted()
    const from = Math.max(0, to - page + 1)
    const events = await submissions({ chain, flow, from, to }).catch((error: unknown) => {
      if (page <= MIN_PAGE_BLOCKS) throw error
      return undefined
    })
    if (events === undefined) {
      page = Math.max(MIN_PAGE_BLOCKS, Math.floor(page / 4))
      continue
    }
    for (const event of events) if (event.tags.toLowerCase() === root) tagged.push(event.txSeq)
    // A record comes after its artefact.
    if (events.some((event) => event.txSeq <= txSeq)) break
    to = from - 1
  }
  for (const candidate of tagged.sort((a, b) => a - b)) {
    const info = await fileInfo(connection, { txSeq: candidate, signal }).catch(() => undefined)
    if (info === undefined || info.sizeBytes > MAX_LINEAGE_BYTES) continue
    const bytes = await fetchRecord({ ...parameters, root: info.root }).catch(() => undefined)
    if (bytes !== undefined && artefactOf(bytes) === root) return { root: info.root, bytes }
  }
  return undefined
}

async function submissions(o: { chain: Chain; flow: Hex; from: number; to: number }) {
  const { chain, flow, from, to } = o
  const range = { fromBlock: BigInt(from), toBlock: BigInt(to) }
  return readSubmitEvents({ flow, logs: await chain.client.getLogs({ address: flow, event: submitEvent, ...range }) })
}

async function flowOfNodes({ connection }: ArtefactStorage, signal: AbortSignal | undefined): Promise<Hex> {
  const { nodes } = await listNodes(connection, { signal })
  for (const { node } of nodes) {
    const status = await node.status({ signal }).catch(() => undefined)
    if (status !== undefined) return status.flowAddress
  }
  throw new FineTuningError({ code: 'FINE_TUNING_UNREACHABLE', message: 'no storage node answers', fix: 'try again' })
}

async function fetchRecord(o: { storage: ArtefactStorage; root: Hash; folder: string }): Promise<Uint8Array> {
  const scratch = join(o.folder, `${randomUUID()}.json`)
  return await fetchBytes(o.storage, { root: o.root, scratch, maxBytes: MAX_LINEAGE_BYTES })
}

/** The artefact that a record tells of, where the bytes are a record and signed. */
function artefactOf(bytes: Uint8Array): Hash | undefined {
  try {
    return decodeLineage(bytes).record.artefact.root as Hash
  } catch (error) {
    if (error instanceof WeightlessError) return undefined
    throw error
  }
}
