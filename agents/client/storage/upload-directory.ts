import { opendir, readlink } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { fileSource } from '#kit/files.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash } from '#protocol/hex.ts'
import { memorySource } from '#protocol/storage/byte-source.ts'
import {
  type DirectoryEntry,
  type DirectoryNode,
  encodeDirectory,
  MAX_DIRECTORY_DEPTH,
} from '#protocol/storage/directory.ts'
import type { StorageConnection } from './connection.ts'
import { type Encryption, encryptSource } from './encryption.ts'
import { runLimited } from './run-limited.ts'
import type { UploadParameters } from './upload.ts'
import { type UploadFragmentsReturnType, uploadFragments } from './upload-fragments.ts'

/** Files stored at a time: enough to fill blocks with their submissions. */
const PARALLEL_FILES = 4
/** Most entries of one directory tree. */
const MAX_ENTRIES = 100_000

export interface UploadDirectoryParameters extends Omit<UploadParameters, 'source' | 'tree'> {
  /** The folder. */
  path: string
  fragmentBytes?: number | undefined
  /** Encrypts every file and the description. */
  encryption?: Encryption | undefined
}

export interface UploadDirectoryReturnType {
  /** Root of the directory's description: what names the directory. */
  root: Hash
  files: number
  sizeBytes: number
  /** What this call paid for everything. */
  feeWei: bigint
  /** Paths that are neither files, folders nor links and were left out. */
  skipped: string[]
}

/** A folder that cannot be stored as it is. Code `DIRECTORY_TOO_LARGE`. */
export class DirectoryTooLargeError extends WeightlessError {}

/**
 * Store a folder: every file, then a description of the tree (storage-node.md §5.7, readable by 0G's client), whose
 * root names the directory. Links are stored as links. Empty files cost nothing. Repeating it sends only what is new.
 *
 * @throws as uploadFragments; DirectoryTooLargeError
 * @example
 * const { root } = await uploadDirectory(connection, { path: 'site' })
 */
export async function uploadDirectory(
  connection: StorageConnection,
  parameters: UploadDirectoryParameters,
): Promise<UploadDirectoryReturnType> {
  const { path, encryption, signal, onEvent, ...options } = parameters
  const found = await scan(resolve(path), signal)
  let feeWei = 0n
  let sizeBytes = 0
  const store = async (
    source: Parameters<typeof uploadFragments>[1]['source'],
    progress: boolean,
  ): Promise<UploadFragmentsReturnType> => {
    const { account } = connection
    const sealed = encryption === undefined ? source : await encryptSource({ source, encryption, account, signal })
    // Several transfers at once would each draw a bar of their own.
    const listen: typeof onEvent = progress ? onEvent : undefined
    const stored = await uploadFragments(connection, { ...options, source: sealed, signal, onEvent: listen })
    feeWei += stored.feeWei
    return stored
  }

  let index = 0
  const count = found.files.length
  await runLimited({
    items: found.files,
    limit: PARALLEL_FILES,
    run: async (file) => {
      signal?.throwIfAborted()
      await using source = await fileSource(file.path)
      onEvent?.({ type: 'item', name: file.shown, index: index++, count, sizeBytes: source.sizeBytes })
      file.entry.sizeBytes = source.sizeBytes
      sizeBytes += source.sizeBytes
      if (source.sizeBytes > 0) file.entry.roots = (await store(source, false)).roots
    },
  })
  const description = await store(memorySource(encodeDirectory(found.root)), true)
  const [root] = description.roots
  if (root === undefined || description.roots.length > 1) {
    throw new DirectoryTooLargeError({
      code: 'DIRECTORY_TOO_LARGE',
      message: 'the description of the directory is larger than a fragment',
      fix: 'use larger fragments',
    })
  }
  return { root, files: count, sizeBytes, feeWei, skipped: found.skipped }
}

interface FoundFile {
  path: string
  shown: string
  entry: Extract<DirectoryNode, { type: 'file' }>
}

async function scan(top: string, signal: AbortSignal | undefined) {
  const files: FoundFile[] = []
  const skipped: string[] = []
  let entries = 0
  const visit = async (folder: string, shown: string, depth: number): Promise<DirectoryEntry> => {
    const node: DirectoryEntry = { type: 'directory', name: basename(folder), entries: [] }
    if (depth > MAX_DIRECTORY_DEPTH) throw tooLarge(top, `it is deeper than ${MAX_DIRECTORY_DEPTH} levels`)
    for await (const found of await opendir(folder)) {
      signal?.throwIfAborted()
      entries += 1
      if (entries > MAX_ENTRIES) throw tooLarge(top, `it has more than ${MAX_ENTRIES} entries`)
      const path = join(folder, found.name)
      const name = found.name
      if (found.isDirectory()) node.entries.push(await visit(path, `${shown}${name}/`, depth + 1))
      else if (found.isSymbolicLink()) node.entries.push({ type: 'symbolic', name, link: await readlink(path) })
      else if (found.isFile()) {
        const entry: FoundFile['entry'] = { type: 'file', name, sizeBytes: 0, roots: [] }
        node.entries.push(entry)
        files.push({ path, shown: `${shown}${name}`, entry })
      } else skipped.push(`${shown}${name}`)
    }
    return node
  }
  const root = await visit(top, '', 0)
  files.sort((a, b) => (a.shown < b.shown ? -1 : 1))
  return { root, files, skipped }
}

function tooLarge(path: string, reason: string): DirectoryTooLargeError {
  return new DirectoryTooLargeError({
    code: 'DIRECTORY_TOO_LARGE',
    message: `${path} cannot be stored as one directory: ${reason}`,
    fix: 'store parts of it, or an archive',
    details: { path },
  })
}
