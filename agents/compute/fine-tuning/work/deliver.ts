import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { LocalAccount } from 'viem'
import { atomicWrite } from '#kit/files.ts'
import { encodeLineage, type Lineage, signLineage } from '#protocol/compute/fine-tuning/lineage.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import { memorySource } from '#protocol/storage/byte-source.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import { packArchiveFile } from '../archive-file.ts'
import { encryptArtefactFile, keccakOfFile } from '../artefact-file.ts'
import type { FineTuningChain } from '../chain/fine-tuning-chain.ts'
import { type BaseModelEntry, rootOf } from '../models.ts'
import type { ArtefactStorage } from '../storage.ts'
import type { TaskRow, TaskStore } from '../store/task-store.ts'
import { DELIVERED_FILES } from './collect-outputs.ts'
import { recipeOf, seedOf, type TaskFiles } from './train.ts'

export interface DeliverParameters {
  task: TaskRow
  model: BaseModelEntry
  store: TaskStore
  files: TaskFiles
  storage: ArtefactStorage | undefined
  chain: FineTuningChain
  signer: LocalAccount
  trainer: Lineage['trainer']
  datasetPath: string
  signal: AbortSignal
}

/**
 * Packs, encrypts, stores and announces what training left. May be repeated: each step looks whether it is done. The key
 * stays here until the user has acknowledged.
 */
export async function deliverTask(parameters: DeliverParameters): Promise<void> {
  const { task, store, files, storage, chain, signer, signal } = parameters
  const { id, user } = task
  const key = task.secret ?? new Uint8Array(randomBytes(32))
  if (task.secret === undefined) store.update(id, { secret: key })
  if (!existsSync(files.artefact)) {
    const packed = Object.values(DELIVERED_FILES)
      .map((name) => ({ name, path: join(files.output, name) }))
      .filter(({ path }) => existsSync(path))
    await packArchiveFile({ files: packed, to: files.archive })
    const iv = new Uint8Array(randomBytes(12))
    await encryptArtefactFile({ from: files.archive, to: files.artefact, key, iv, signer })
  }
  const sizeBytes = (await stat(files.artefact)).size
  const root =
    storage === undefined ? await keccakOfFile(files.artefact) : await storage.putFile(files.artefact, { signal })
  const kind = storage === undefined ? 'keccak256' : 'storage'
  store.update(id, { artefactRoot: root, artefactKind: kind, artefactBytes: sizeBytes })
  store.addLine(id, `artefact ${root}, ${sizeBytes} bytes`)

  const lineageRoot = await recordLineage(parameters, { root, sizeBytes, kind })
  store.update(id, { lineageRoot })
  store.addLine(id, `lineage ${lineageRoot}`)

  await chain.addDeliverable({ user, id, root })
  const [index, deliverable] = await Promise.all([chain.deliverableCount(user), chain.deliverable(user, id)])
  store.update(id, { deliverIndex: index - 1, deliveredAtMs: (deliverable?.timestampS ?? 0) * 1000 })
}

async function recordLineage(parameters: DeliverParameters, artefact: Lineage['artefact']): Promise<Hash> {
  const { task, model, store, files, storage, chain, signer, trainer, datasetPath, signal } = parameters
  const { figures } = task
  const { finishedAtS = 0, ...scores } = figures ?? { steps: 0, loss: 0, learnedTokens: 0 }
  const [dataset, keccak, adapter] = await Promise.all([
    rootOf(datasetPath),
    keccakOfFile(datasetPath),
    rootOf(join(files.output, DELIVERED_FILES.adapterPath)),
  ])
  // Made once: a repetition after a crash signs the same bytes, so the root is the same.
  const signed = await signLineage({
    signer,
    record: {
      format: 'weightless-lineage-1',
      task: {
        ...{ id: task.id, user: task.user, provider: chain.provider, chainId: chain.chain.id },
        contract: chain.contract.toLowerCase() as Hex,
      },
      dataset: { ...dataset, keccak256: keccak, examples: task.examples, tokens: task.tokens },
      base: { name: model.name, root: model.root, sizeBytes: model.sizeBytes },
      recipe: { ...recipeOf({ params: task.params, model }) },
      seed: seedOf(task.id),
      trainer,
      checkpoints: store.checkpoints(task.id),
      adapter,
      artefact,
      scores: JSON.parse(JSON.stringify(scores)) as Lineage['scores'],
      finishedAtS,
      signer: signer.address.toLowerCase() as Hex,
    },
  })
  const bytes = encodeLineage(signed)
  await atomicWrite({ path: files.lineage, data: bytes, mode: 0o600 })
  if (storage !== undefined) return await storage.putRecord(bytes, { tag: artefact.root, signal })
  return (await buildFileTree({ source: memorySource(bytes) })).root
}
