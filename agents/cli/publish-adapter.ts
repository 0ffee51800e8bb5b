import type { Client } from '#client/connect.ts'
import type { TransferListener } from '#client/storage/events.ts'
import { fileSource } from '#kit/files.ts'
import { WeightlessError } from '#protocol/error.ts'
import { checkAdapter } from '#protocol/gguf/check-adapter.ts'
import { ADAPTER_BASE_ROOT } from '#protocol/gguf/lora.ts'
import { numberOf, textOf } from '#protocol/gguf/metadata.ts'
import { readGgufHead } from '#protocol/gguf/read.ts'
import type { Hash } from '#protocol/hex.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'

/** What a LoRA file says of itself. */
export interface AdapterFacts {
  readonly root: Hash
  readonly sizeBytes: number
  readonly name: string
  readonly architecture: string
  /** The largest of its matrices. */
  readonly rank: number
  readonly alpha: number
  /** Matrices of the model that it changes. */
  readonly matrices: number
  /** Storage root of the weights that it was trained on, where the file says so. */
  readonly baseRoot: string | null
}

/**
 * Reads a LoRA adapter, and checks it against its base where that is at hand.
 *
 * @throws GgufError; WeightlessError `CLI_USAGE` for a GGUF file of another kind
 */
export async function readAdapter({ path, basePath }: { path: string; basePath?: string | undefined }) {
  await using source = await fileSource(path)
  const adapter = await readGgufHead(source)
  const kind = textOf(adapter, 'general.type', 'model')
  if (kind !== 'adapter' || textOf(adapter, 'adapter.type', 'none') !== 'lora') {
    throw new WeightlessError({
      code: 'CLI_USAGE',
      message: `${path} is a GGUF file of kind ${kind.slice(0, 40)}, not a LoRA adapter`,
      fix: 'give the adapter.gguf that weightless finetune wrote',
    })
  }
  if (basePath !== undefined) {
    await using base = await fileSource(basePath)
    checkAdapter({ adapter, base: await readGgufHead(base) })
  }
  const halves = [...adapter.tensors].filter(([name]) => name.endsWith('.lora_b'))
  const { root, sizeBytes } = await buildFileTree({ source })
  const facts: AdapterFacts = {
    ...{ root, sizeBytes },
    name: textOf(adapter, 'general.name', ''),
    architecture: textOf(adapter, 'general.architecture', ''),
    rank: halves.reduce((most, [, { ne }]) => Math.max(most, ne[0] ?? 0), 0),
    alpha: numberOf(adapter, 'adapter.lora.alpha', 0),
    matrices: halves.length,
    baseRoot: textOf(adapter, ADAPTER_BASE_ROOT, '') || null,
  }
  return facts
}

/**
 * Stores an adapter in the network as it is, so that every provider of its base can fetch it by its root. It is public
 * from then on. May be repeated: what is stored already is not paid again.
 *
 * @throws errors of `upload`
 */
export async function publishAdapter(parameters: {
  client: Client
  path: string
  replicas?: number | undefined
  onEvent?: TransferListener | undefined
  signal: AbortSignal
}): Promise<{ root: Hash; feeWei: bigint }> {
  const { client, path, replicas = 1, onEvent, signal } = parameters
  await using source = await fileSource(path)
  const { root, feeWei } = await client.storage.upload({ source, replicas, onEvent, signal })
  return { root, feeWei }
}

/** The command that asks a model with an adapter. */
export function chatLine({ base, root }: { base: string; root: Hash }): string {
  return `weightless chat --model ${base}:${root} "…"`
}
