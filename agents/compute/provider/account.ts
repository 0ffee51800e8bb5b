import { join } from 'node:path'
import type { LocalAccount } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { DEV_ACCOUNTS, LOCAL_CHAIN_ID } from '#kit/chain/local-chain.ts'
import { atomicWrite, FileError, readSmallFile } from '#kit/files.ts'
import { checkPrivateKey, resolveSigner } from '#kit/keys/keystore.ts'
import { newPrivateKey } from '#kit/keys/private-key.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { ProviderConfig } from './config.ts'

/** A provider that cannot start as it is set up. Codes `PROVIDER_KEY`, `PROVIDER_ENGINE`, `PROVIDER_CONTRACT`. */
export class ProviderSetupError extends WeightlessError {}

/**
 * The provider's wallet: the keystore of the configuration, else what the environment names (`WEIGHTLESS_PRIVATE_KEY`,
 * `WEIGHTLESS_KEYSTORE`), or on a development chain of this machine one of its known accounts.
 *
 * @throws KeyError when there is none; ProviderSetupError `PROVIDER_KEY` for a development account elsewhere
 */
export async function providerAccount({
  config,
  env,
  promptPassword,
}: {
  config: Pick<ProviderConfig, 'key' | 'chain'>
  env: Readonly<Record<string, string | undefined>>
  promptPassword?: ((question: string) => Promise<string | undefined>) | undefined
}): Promise<LocalAccount> {
  const { keystore, passwordFile, devAccount } = config.key
  if (devAccount === undefined)
    return await resolveSigner({ env, keystorePath: keystore, passwordFile, promptPassword })
  const known = DEV_ACCOUNTS[devAccount]
  if (known !== undefined && config.chain.id === LOCAL_CHAIN_ID && config.chain.rpcUrls.every(isLoopback)) {
    return privateKeyToAccount(known.privateKey)
  }
  throw new ProviderSetupError({
    code: 'PROVIDER_KEY',
    message: 'key.devAccount is for a development chain of this machine',
    fix: `set chain.id to ${LOCAL_CHAIN_ID} and use loopback endpoints, or give key.keystore`,
    details: { devAccount, chainId: config.chain.id },
  })
}

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

function isLoopback(url: string): boolean {
  const host = URL.parse(url)?.hostname ?? ''
  return host === 'localhost' || host === '[::1]' || host.startsWith('127.')
}
