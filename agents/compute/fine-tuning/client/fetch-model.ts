import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { eciesDecrypt } from '#protocol/compute/fine-tuning/ecies.ts'
import { fromHex, type Hash, type Hex } from '#protocol/hex.ts'
import { unpackArchiveFile } from '../archive-file.ts'
import { checkArtefactFile, decryptArtefactFile, keccakOfFile } from '../artefact-file.ts'
import { FineTuningError } from '../error.ts'
import { rootOf } from '../models.ts'
import type { ArtefactStorage } from '../storage.ts'
import type { ProviderApi } from './provider-api.ts'

/** Largest artefact that is fetched. */
const MAX_ARTEFACT_BYTES = 8 * 2 ** 30

/** What the folder of a result holds beside what comes in the archive. */
const RESERVED: ReadonlySet<string> = new Set(['task.json', 'lineage.json', 'artefact.bin', 'adapter.zip', 'base.gguf'])

/**
 * Fetches an encrypted artefact, from the storage network or else from its provider, and refuses whatever is not what the
 * chain names, or not signed by the provider's signer.
 *
 * @throws FineTuningError `ARTEFACT_MISMATCH`; FineTuningFormatError `ARTEFACT_SIGNATURE`, `ARTEFACT_FORMAT`
 */
export async function fetchArtefact(parameters: {
  api: ProviderApi
  storage: ArtefactStorage | undefined
  id: string
  root: Hash
  signer: Hex
  to: string
  signal?: AbortSignal | undefined
}): Promise<void> {
  const { api, storage, id, root, signer, to, signal } = parameters
  const fresh = `${to}.unchecked`
  const fromStorage = storage?.fetch(root, { to: fresh, maxBytes: MAX_ARTEFACT_BYTES, signal }).then(
    () => true,
    () => false,
  )
  const isThere = await fromStorage
  signal?.throwIfAborted()
  if (isThere !== true) await api.fetchArtefact({ id, to: fresh, maxBytes: MAX_ARTEFACT_BYTES })
  const { root: found } = await rootOf(fresh)
  // Only artefacts that were not stored are named by their keccak-256, which is slow.
  const keccak = found === root ? undefined : await keccakOfFile(fresh)
  if (found !== root && keccak !== root) {
    await rm(fresh, { force: true })
    throw new FineTuningError({
      ...{ code: 'ARTEFACT_MISMATCH', message: `what was fetched is not ${root}, which the chain names` },
      fix: 'do not acknowledge it: the provider gets a part of the fee at most; use another provider',
      details: { root, found, keccak256: keccak },
    })
  }
  await checkArtefactFile({ path: fresh, signer })
  await rename(fresh, to)
}

/** Opens an artefact with the key that the chain holds for its user; its files lie in `folder` then. */
export async function openArtefact(parameters: {
  artefact: string
  encryptedSecret: Hex
  secretKey: Uint8Array
  signer: Hex
  folder: string
}): Promise<string[]> {
  const { artefact, encryptedSecret, secretKey, signer, folder } = parameters
  const key = eciesDecrypt({ secretKey, data: fromHex(encryptedSecret) })
  const archive = join(folder, 'adapter.zip')
  await decryptArtefactFile({ from: artefact, to: archive, key, signer })
  const names = await unpackArchiveFile({ from: archive, folder, reserved: RESERVED })
  await rm(archive, { force: true })
  return names
}
