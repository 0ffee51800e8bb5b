import { decodeLineage, encodeLineage, type SignedLineage } from '#protocol/compute/fine-tuning/lineage.ts'
import { sameAddress } from '#protocol/compute/signature.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash } from '#protocol/hex.ts'
import { memorySource } from '#protocol/storage/byte-source.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import type { FineTuningReader } from '../chain/fine-tuning-chain.ts'
import { rootOf } from '../models.ts'
import type { ArtefactStorage } from '../storage.ts'

/** One link of a model's lineage. `unknown`: nothing at hand to compare it with. */
export interface LineageLink {
  name: string
  state: 'holds' | 'broken' | 'unknown'
  detail: string
}

/** Files at hand, to be compared with the roots of the record. */
export interface LineageFiles {
  dataset?: string | undefined
  base?: string | undefined
  adapter?: string | undefined
}

/**
 * Verifies each link of a record: its bytes against the root by which it was asked for, its signature, the deliverable and
 * the signer on the chain, what the storage network holds, and files at hand.
 *
 * @throws FineTuningFormatError `LINEAGE_FORMAT`, `LINEAGE_SIGNATURE`
 */
export async function verifyLineage(parameters: {
  bytes: Uint8Array
  root: Hash
  reader?: ((lineage: SignedLineage) => FineTuningReader) | undefined
  storage?: ArtefactStorage | undefined
  files?: LineageFiles | undefined
}): Promise<{ lineage: SignedLineage; links: LineageLink[] }> {
  const { bytes, root, reader, storage, files = {} } = parameters
  const lineage = decodeLineage(bytes)
  const { record } = lineage
  const found = (await buildFileTree({ source: memorySource(bytes) })).root
  const canonical = Buffer.from(encodeLineage(lineage)).equals(bytes)
  const links: LineageLink[] = [
    link('record', found === root && canonical, `${found}${canonical ? '' : ', not in its canonical form'}`),
    { name: 'signature', state: 'holds', detail: `by ${record.signer}` },
    ...(await chainLinks(lineage, reader?.(lineage))),
    await stored('dataset', { root: record.dataset.root, storage, file: files.dataset }),
    await stored('base', { root: record.base.root, storage, file: files.base }),
    await stored('adapter', { root: record.adapter.root, storage: undefined, file: files.adapter }),
  ]
  if (record.artefact.kind === 'storage') {
    links.push(await stored('artefact', { root: record.artefact.root, storage, file: undefined }))
  }
  return { lineage, links }
}

async function chainLinks({ record }: SignedLineage, reader: FineTuningReader | undefined): Promise<LineageLink[]> {
  const { task, artefact } = record
  if (reader === undefined) return [unknown('deliverable', 'no chain is given'), unknown('signer', 'no chain is given')]
  if (reader.chain.id !== task.chainId || !sameAddress(reader.contract, task.contract)) {
    const detail = `the record is of ${task.contract} on chain ${task.chainId}`
    return [unknown('deliverable', detail), unknown('signer', detail)]
  }
  try {
    const [deliverable, service] = await Promise.all([reader.deliverable(task.user, task.id), reader.service()])
    const named = deliverable?.modelRootHash
    return [
      named === undefined
        ? unknown('deliverable', 'the chain keeps the last twenty of each account; this one is not among them')
        : link('deliverable', named === artefact.root, `the chain names ${named} for task ${task.id}`),
      service === undefined
        ? unknown('signer', 'the provider has left the market')
        : link('signer', sameAddress(service.signer, record.signer), `the provider's signer is ${service.signer}`),
    ]
  } catch (error) {
    const detail = error instanceof WeightlessError ? error.message : 'the chain does not answer'
    return [unknown('deliverable', detail), unknown('signer', detail)]
  }
}

async function stored(
  name: string,
  { root, storage, file }: { root: Hash; storage: ArtefactStorage | undefined; file: string | undefined },
): Promise<LineageLink> {
  if (file !== undefined) {
    const { root: found } = await rootOf(file)
    return link(name, found === root, `${file} is ${found}`)
  }
  if (storage === undefined) return unknown(name, `${root}; no file is given to compare`)
  try {
    // A root names its bytes: whoever fetches them checks them against it.
    if (await storage.has(root)) return { name, state: 'holds', detail: `${root} is stored` }
    return unknown(name, `${root} is not stored; no file is given to compare`)
  } catch (error) {
    return unknown(name, `${root}; ${error instanceof WeightlessError ? error.message : 'storage does not answer'}`)
  }
}

function link(name: string, holds: boolean, detail: string): LineageLink {
  return { name, state: holds ? 'holds' : 'broken', detail }
}

function unknown(name: string, detail: string): LineageLink {
  return { name, state: 'unknown', detail }
}
