import { join } from 'node:path'
import { WeightlessError } from '#protocol/error.ts'
import { atomicWrite, FileError, readSmallFile } from './files.ts'

/** What the data of a folder is about: network, contract, account. `0x` for what is not known. */
export type FolderIdentity = Readonly<Record<string, string | number>>

/**
 * Ties a data folder to what its data is about, in `DIR/identity.json`, and refuses a folder that is about something else:
 * money owed under one contract must never be asked for under another. What was not known the first time is added.
 *
 * @throws WeightlessError `DATA_FOLDER_FOREIGN`; FileError
 * @example
 * await claimFolder({ dir, identity: { chainId: 31337, genesis, contract, provider } })
 */
export async function claimFolder({ dir, identity }: { dir: string; identity: FolderIdentity }): Promise<void> {
  const path = join(dir, 'identity.json')
  const wanted = Object.entries(identity).map(([name, value]) => [name, String(value).toLowerCase()] as const)
  const kept = await readIdentity(path)
  const foreign = wanted.filter(([name, value]) => known(kept[name]) && known(value) && kept[name] !== value)
  if (foreign.length > 0) {
    const differences = foreign.map(([name, value]) => `${name} ${kept[name]}, configured ${value}`).join('; ')
    throw new WeightlessError({
      code: 'DATA_FOLDER_FOREIGN',
      message: `${dir} holds the data of another network or account: ${differences}`,
      fix: 'give another data folder, or correct the configuration',
      details: { dir, kept, wanted: Object.fromEntries(wanted) },
    })
  }
  const learned = wanted.filter(([name, value]) => known(value) && kept[name] !== value)
  if (learned.length === 0) return
  const data = `${JSON.stringify({ ...kept, ...Object.fromEntries(learned) }, null, 2)}\n`
  await atomicWrite({ path, data, mode: 0o600 })
}

function known(value: string | undefined): boolean {
  return value !== undefined && value !== '0x'
}

async function readIdentity(path: string): Promise<Record<string, string>> {
  try {
    const parsed: unknown = JSON.parse(await readSmallFile({ path, maxBytes: 65_536 }))
    if (typeof parsed === 'object' && parsed !== null) {
      return Object.fromEntries(Object.entries(parsed).map(([name, value]) => [name, String(value)]))
    }
  } catch (error) {
    if (error instanceof FileError && error.code === 'FILE_MISSING') return {}
    if (!(error instanceof SyntaxError)) throw error
  }
  throw new WeightlessError({
    code: 'DATA_FOLDER_FOREIGN',
    message: `${path} is not what an agent writes there`,
    fix: 'give another data folder, or restore the file from a backup',
    details: { path },
  })
}
