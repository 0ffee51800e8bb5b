import { lstat, mkdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, isAbsolute, join, normalize, relative, resolve } from 'node:path'
import { fileSource } from '#kit/files.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash } from '#protocol/hex.ts'
import {
  type DirectoryEntry,
  decodeDirectory,
  type FileEntry,
  isDirectory,
  MAX_DIRECTORY_BYTES,
  walkDirectory,
} from '#protocol/storage/directory.ts'
import { buildFileTree } from '#protocol/storage/file-tree.ts'
import type { StorageConnection } from './connection.ts'
import { type DownloadParameters, download } from './download.ts'
import type { Decryption } from './encryption.ts'
import { FileExistsError } from './errors.ts'
import { readFile } from './read-file.ts'
import type { CallOptions } from './storage-node.ts'

export interface ReadDirectoryParameters extends CallOptions {
  root: Hash
  decryption?: Decryption | undefined
}

/** What a directory's root names is no directory. Code `NOT_A_DIRECTORY`. */
export class NotADirectoryError extends WeightlessError {}

/**
 * The tree of a stored directory, without its files.
 *
 * @throws NotADirectoryError, DirectoryError, and as readFile
 */
export async function readDirectory(
  connection: StorageConnection,
  parameters: ReadDirectoryParameters,
): Promise<DirectoryEntry> {
  const parts: Uint8Array[] = []
  let length = 0
  for await (const part of readFile(connection, parameters)) {
    if (length === 0 && !isDirectory(part)) {
      throw new NotADirectoryError({
        code: 'NOT_A_DIRECTORY',
        message: `${parameters.root} is a file, not a directory`,
        fix: 'download it as a file',
        details: { root: parameters.root },
      })
    }
    parts.push(part)
    length += part.length
    if (length > MAX_DIRECTORY_BYTES) break
  }
  return decodeDirectory(Buffer.concat(parts))
}

/** Whether a root names a directory: looks at its first bytes. */
export async function isStoredDirectory(
  connection: StorageConnection,
  parameters: ReadDirectoryParameters,
): Promise<boolean> {
  for await (const part of readFile(connection, { ...parameters, offset: 0, length: 64 })) return isDirectory(part)
  return false
}

export interface DownloadDirectoryParameters extends Omit<DownloadParameters, 'root' | 'txSeq'> {
  root: Hash
}

export interface DownloadDirectoryReturnType {
  path: string
  files: number
  sizeBytes: number
  /** Files that were there already, with the right content. */
  kept: number
  /** Links that were not made because they lead out of the directory. */
  skippedLinks: string[]
}

/**
 * Fetch a stored directory into the folder `to`, every file verified. Files that are there with the right content are
 * kept, so an interrupted download goes on where it stopped. Others are replaced only with `overwrite`. Nothing is
 * written outside `to`: links that lead out of it are left out.
 *
 * @throws NotADirectoryError, FileExistsError, and as download
 * @example
 * await downloadDirectory(connection, { root, to: 'site' })
 */
export async function downloadDirectory(
  connection: StorageConnection,
  { root, to, decryption, overwrite, signal, onEvent }: DownloadDirectoryParameters,
): Promise<DownloadDirectoryReturnType> {
  const top = resolve(to)
  const tree = await readDirectory(connection, { root, decryption, signal })
  const nodes = [...walkDirectory(tree)]
  const count = nodes.filter(({ node }) => node.type === 'file').length
  const result: DownloadDirectoryReturnType = { path: to, files: 0, sizeBytes: 0, kept: 0, skippedLinks: [] }
  const links: { path: string; link: string }[] = []
  await mkdir(top, { recursive: true })
  for (const { path, node } of nodes) {
    signal?.throwIfAborted()
    const target = join(top, path)
    if (node.type === 'directory') await makeFolder(top, target)
    else if (node.type === 'symbolic') links.push({ path, link: node.link })
    else {
      onEvent?.({ type: 'item', name: path, index: result.files, count, sizeBytes: node.sizeBytes })
      await makeFolder(top, dirname(target))
      const kept = await keepIfSame({ target, node, encrypted: decryption !== undefined, overwrite })
      if (kept) result.kept += 1
      else if (node.sizeBytes === 0) await writeFile(target, '', { flag: overwrite === true ? 'w' : 'wx' })
      else await download(connection, { root: node.roots, to: target, decryption, overwrite, signal, onEvent })
      result.files += 1
      result.sizeBytes += node.sizeBytes
    }
  }
  // Last, so that no file is ever written through a link of the directory itself.
  for (const { path, link } of links) {
    if (staysInside(top, path, link)) await symlink(link, join(top, path)).catch(ignoreExisting)
    else result.skippedLinks.push(path)
  }
  return result
}

/** A real folder, never one reached through a link: a link in its place could lead anywhere. */
async function makeFolder(top: string, folder: string): Promise<void> {
  const steps = relative(top, folder)
    .split('/')
    .filter((step) => step !== '')
  let at = top
  for (const step of steps) {
    at = join(at, step)
    await mkdir(at).catch(ignoreExisting)
    if (!(await lstat(at)).isDirectory()) throw new FileExistsError({ path: at })
  }
}

async function keepIfSame({
  target,
  node,
  encrypted,
  overwrite,
}: {
  target: string
  node: FileEntry
  encrypted: boolean
  overwrite: boolean | undefined
}): Promise<boolean> {
  const found = await lstat(target).catch(() => undefined)
  if (found === undefined) return false
  if (found.isFile() && found.size === node.sizeBytes && !encrypted && node.roots.length <= 1) {
    if (node.sizeBytes === 0) return true
    await using source = await fileSource(target)
    if ((await buildFileTree({ source })).root === node.roots[0]) return true
  }
  if (overwrite === true && found.isFile()) return false
  throw new FileExistsError({ path: target })
}

function staysInside(top: string, path: string, link: string): boolean {
  if (isAbsolute(link) || link.includes('\0')) return false
  const leads = normalize(join(dirname(join(top, path)), link))
  return leads === top || leads.startsWith(`${top}/`)
}

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error
}
