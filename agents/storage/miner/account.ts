import type { LocalAccount } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { DEV_ACCOUNTS, LOCAL_CHAIN_ID } from '#kit/chain/local-chain.ts'
import { resolveSigner } from '#kit/keys/keystore.ts'
import type { MinerConfig } from './config.ts'
import { MinerError } from './error.ts'

/**
 * The account that pays for a miner's gas: the keystore of the configuration, else what the environment names
 * (`WEIGHTLESS_PRIVATE_KEY`, `WEIGHTLESS_KEYSTORE`), or on a development chain of this machine one of its known accounts.
 *
 * @throws KeyError when there is none; MinerError `MINER_KEY` for a development account elsewhere
 */
export async function minerAccount({
  config,
  env,
  promptPassword,
}: {
  config: Pick<MinerConfig, 'key' | 'chain'>
  env: Readonly<Record<string, string | undefined>>
  promptPassword?: ((question: string) => Promise<string | undefined>) | undefined
}): Promise<LocalAccount> {
  const { keystore, passwordFile, devAccount } = config.key
  if (devAccount === undefined) {
    return resolveSigner({ env, keystorePath: keystore, passwordFile, promptPassword })
  }
  const known = DEV_ACCOUNTS[devAccount]
  if (known && config.chain.id === LOCAL_CHAIN_ID && config.chain.rpcUrls.every(isLoopback)) {
    return privateKeyToAccount(known.privateKey)
  }
  throw new MinerError({
    code: 'MINER_KEY',
    message: 'key.devAccount is for a development chain of this machine',
    fix: `set chain.id to ${LOCAL_CHAIN_ID} and use loopback endpoints, or give key.keystore`,
    details: { devAccount, chainId: config.chain.id },
  })
}

function isLoopback(url: string): boolean {
  const host = URL.parse(url)?.hostname ?? ''
  return host === 'localhost' || host === '[::1]' || /^127\./.test(host)
}
