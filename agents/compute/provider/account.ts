import { join } from 'node:path'
import type { LocalAccount } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { atomicWrite, FileError, readSmallFile } from '#kit/files.ts'
import { checkPrivateKey } from '#kit/keys/keystore.ts'
import { newPrivateKey } from '#kit/keys/private-key.ts'
import { WeightlessError } from '#protocol/error.ts'

/** A provider that cannot start as it is set up. Codes `PROVIDER_ENGINE`, `PROVIDER_CONTRACT`, `PROVIDER_ADAPTER`. */
export class ProviderSetupError extends WeightlessError {}

/**
 * The key that signs answers, receipts and settlements, named on the chain as the service's signer. Made once and kept
 * in the data folder, readable by its owner alone; in a TEE that folder is on the guest's encrypted disk.
 */
export async function signingKey(dataDir: string): Promise<LocalAccount> {
  const path = join(dataDir, 'signer.key')
  try {
    return privateKeyToAccount(checkPrivateKey((await readSmallFile({ path, maxBytes: 256 })).trim()))
  } catch (error) {
    if (!(error instanceof FileError) || error.code !== 'FILE_MISSING') throw error
  }
  const key = newPrivateKey()
  await atomicWrite({ path, data: `${key}\n`, mode: 0o600, exclusive: true })
  return privateKeyToAccount(key)
}
