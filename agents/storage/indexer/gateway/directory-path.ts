import { DirectoryError, type DirectoryNode, decodeDirectory } from '#protocol/storage/directory.ts'
import { GatewayError } from './envelope.ts'
import type { GatewayParameters } from './gateway.ts'
import { fromParts, type GatewayFile, openFile, openPart, readRange } from './gateway-file.ts'
import type { FileId } from './requests.ts'

/** A directory's own bytes are read whole; larger ones than this are refused. */
const MAX_DIRECTORY_BYTES = 16 * 2 ** 20
const MAX_FRAGMENTS = 65_536

/** What lies at a path: content to send, or something to show as JSON. */
export type DirectoryEntry = { kind: 'file'; name: string; content: GatewayFile } | { kind: 'listing'; data: unknown }

/**
 * Follows names inside an uploaded directory (storage-node §5.7). A directory answers with its entries, a symbolic link
 * with its node: links are shown, not followed, as they may lead anywhere.
 *
 * @throws GatewayError path not found; unsupported when the id is not a directory; too large
 */
export async function openDirectoryPath({
  id,
  names,
  maxFileBytes,
  parameters,
}: OpenPathParameters): Promise<DirectoryEntry> {
  const root = await readDirectory({ id, parameters })
  let node: DirectoryNode = root
  for (const name of names) {
    const next: DirectoryNode | undefined =
      node.type === 'directory' ? node.entries.find((entry) => entry.name === name) : undefined
    if (next === undefined) throw new GatewayError({ kind: 'pathNotFound', data: names.join('/') })
    node = next
  }
  if (node.type === 'directory') return { kind: 'listing', data: node.entries.map(summary) }
  if (node.type === 'symbolic') return { kind: 'listing', data: { ...summary(node), link: node.link } }
  if (node.roots.length > MAX_FRAGMENTS) {
    throw new GatewayError({ kind: 'tooLarge', data: { actual: node.roots.length, max: MAX_FRAGMENTS } })
  }
  const parts = []
  for (const fragment of node.roots) parts.push(await openPart({ locator: parameters.locator, id: { root: fragment } }))
  return { kind: 'file', name: node.name, content: fromParts({ parts, maxFileBytes }) }
}

export interface OpenPathParameters {
  /** The directory. */
  id: FileId
  /** Names from its top; none for the top itself. */
  names: readonly string[]
  /** 0 for no limit. */
  maxFileBytes: number
  parameters: GatewayParameters
}

async function readDirectory({
  id,
  parameters,
}: {
  id: FileId
  parameters: GatewayParameters
}): Promise<DirectoryNode> {
  const { locator, reader, settings } = parameters
  const content = await openFile({ locator, id, maxFileBytes: MAX_DIRECTORY_BYTES })
  const pieces: Uint8Array[] = []
  const { readAhead } = settings
  for await (const piece of readRange({ reader, content, start: 0, end: content.sizeBytes, readAhead }))
    pieces.push(piece)
  try {
    return decodeDirectory(Buffer.concat(pieces))
  } catch (error) {
    if (!(error instanceof DirectoryError)) throw error
    throw new GatewayError({ kind: 'unsupportedType', data: error.message, cause: error })
  }
}

function summary(node: DirectoryNode) {
  return { name: node.name, type: node.type, size: node.type === 'file' ? node.sizeBytes : 0 }
}
