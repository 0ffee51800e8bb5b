import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'

/** The folder of this layer. */
const HERE = new URL('./', import.meta.url)

/** Folder of everything that is built; not under version control. */
export const BUILD_FOLDER = new URL('build/', HERE)

/** All kernels, in 128-bit vectors. */
export const PORTABLE_FILE = new URL('kernels.wasm', BUILD_FOLDER)

/** The kernels on keccak, written to be fused into 256-bit vectors. */
export const WIDE_FILE = new URL('wide.wasm', BUILD_FOLDER)

/** The PoRA seal hash, written to be fused into 256-bit vectors. */
export const WIDE_PORA_FILE = new URL('wide-pora.wasm', BUILD_FOLDER)

/** The kernels of data availability, in 128-bit vectors. */
export const ERASURE_FILE = new URL('erasure.wasm', BUILD_FOLDER)

/** Their SHA-256 trees, written to be fused into 256-bit vectors. */
export const ERASURE_WIDE_FILE = new URL('erasure-wide.wasm', BUILD_FOLDER)

/** Names the sources that the compiled modules came from: `{ "sources": "<sha256>" }`. */
export const STAMP_FILE = new URL('kernels.json', BUILD_FOLDER)

/** sha256 over everything that decides what the compiled modules are. About a quarter of a millisecond. */
export function hashSources(): string {
  const hash = createHash('sha256')
  for (const folder of ['assembly/', 'codegen/']) {
    const url = new URL(folder, HERE)
    for (const name of readdirSync(url).sort()) {
      if (!name.endsWith('.ts')) continue
      hash
        .update(`${folder}${name}\0`)
        .update(readFileSync(new URL(name, url)))
        .update('\0')
    }
  }
  return hash.update(readFileSync(new URL('build.ts', HERE))).digest('hex')
}

/** Whether the compiled modules are there and came from the sources as they are. */
export function isBuilt(): boolean {
  try {
    const stamp: unknown = JSON.parse(readFileSync(STAMP_FILE, 'utf8'))
    return typeof stamp === 'object' && stamp !== null && 'sources' in stamp && stamp.sources === hashSources()
  } catch {
    return false
  }
}
