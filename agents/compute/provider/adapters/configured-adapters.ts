import { fileSource } from '#kit/files.ts'
import type { Hash } from '#protocol/hex.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import { ProviderSetupError } from '../account.ts'
import type { ProviderConfig } from '../config.ts'

/** An adapter that requests may name. */
export interface KnownAdapter {
  /** What stands behind the colon of the model's name. */
  readonly name: string
  /** Storage root of its file: what receipts name. */
  readonly root: Hash
  /** Its file, where the configuration names one. */
  readonly path: string | undefined
}

/**
 * The adapters of a configuration, by name. Files are hashed: a receipt names an adapter by its root, whatever name it
 * goes by here.
 *
 * @throws ProviderSetupError `PROVIDER_ADAPTER`
 */
export async function configuredAdapters({
  adapters,
  upstream,
  storage,
}: Pick<ProviderConfig, 'adapters' | 'upstream' | 'storage'>): Promise<Map<string, KnownAdapter>> {
  const known = new Map<string, KnownAdapter>()
  const canFetch = storage.indexerUrl !== undefined || storage.nodes.length > 0
  for (const { name, path, ...given } of adapters) {
    const wanted = given.root?.toLowerCase() as Hash | undefined
    if (known.has(name)) throw wrong(name, 'is named twice', 'give each adapter its own name')
    if (upstream !== undefined && (wanted === undefined || path !== undefined)) {
      throw wrong(name, 'is an upstream’s, so its file is not loaded from here', 'give its root, and no path')
    }
    if (upstream === undefined && wanted === undefined && path === undefined) {
      throw wrong(name, 'has neither file nor root', 'give path = "adapter.gguf", or root = "0x…"')
    }
    if (upstream === undefined && path === undefined && !canFetch) {
      throw wrong(name, 'has no file, and no storage network is configured', 'give path, or storage.indexerUrl')
    }
    const root = path === undefined ? wanted : await rootOf(name, path)
    if (root === undefined || (wanted !== undefined && wanted !== root)) {
      throw wrong(name, `has the root ${root}, not ${wanted}`, 'give the file with that root, or leave the root out')
    }
    known.set(name, { name, root, path })
  }
  return known
}

async function rootOf(name: string, path: string): Promise<Hash> {
  try {
    await using source = await fileSource(path)
    return (await buildFileTree({ source })).root
  } catch (cause) {
    throw wrong(
      name,
      `cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
      'check its path',
      cause,
    )
  }
}

function wrong(name: string, what: string, fix: string, cause?: unknown): ProviderSetupError {
  return new ProviderSetupError({
    ...{ code: 'PROVIDER_ADAPTER', message: `the adapter ${name} ${what}`, fix, cause },
    details: { field: 'adapters', adapter: name },
  })
}
