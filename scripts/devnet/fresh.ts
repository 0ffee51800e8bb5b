import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { DevnetError } from './error.ts'
import type { DevnetLayout } from './layout.ts'
import { runningSupervisor } from './lock.ts'

/** Everything a devnet makes in its directory: nothing else is ever deleted. */
const ownEntry =
  /^(devnet\.json|supervisor\.json|processes\.json|deployment(\.partial)?\.json|lock(-.*)?|chain|logs|indexer|node-\d+|miner-\d+)$/

/** True when the directory is a devnet's. */
export function holdsDevnet({ markerFile }: DevnetLayout): boolean {
  return existsSync(markerFile)
}

/**
 * Makes the directory a devnet's, unless it is one.
 *
 * @throws {DevnetError} `DEVNET_DIRECTORY` when it holds other things: they must not be mixed with a devnet's, nor be
 * deleted with it
 */
export function claimDirectory(layout: DevnetLayout): void {
  const { directory, markerFile } = layout
  if (holdsDevnet(layout)) return
  if (existsSync(directory) && readdirSync(directory).length > 0) {
    throw new DevnetError({
      code: 'DEVNET_DIRECTORY',
      message: `${directory} holds other things than a devnet`,
      fix: 'give --dir with an empty or new directory',
      details: { directory },
    })
  }
  mkdirSync(directory, { recursive: true })
  writeFileSync(markerFile, 'Made by `weightless up`; `weightless up --fresh` deletes what is here.\n')
}

/**
 * Deletes a devnet's data. The directory itself and anything in it that is not a devnet's stay.
 *
 * @throws {DevnetError} `DEVNET_RUNNING` while one runs there
 */
export function wipeDevnet(layout: DevnetLayout): void {
  const running = runningSupervisor(layout)
  if (running !== undefined) {
    throw new DevnetError({
      code: 'DEVNET_RUNNING',
      message: `a devnet runs in ${layout.directory} (process ${running.pid})`,
      fix: 'end it first, with Ctrl-C or `weightless down`',
      details: { pid: running.pid },
    })
  }
  if (!holdsDevnet(layout)) return
  for (const entry of readdirSync(layout.directory)) {
    if (ownEntry.test(entry)) rmSync(path.join(layout.directory, entry), { recursive: true, force: true })
  }
}
