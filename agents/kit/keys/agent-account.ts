import type { Hex, LocalAccount } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { DEV_ACCOUNTS } from '../chain/dev-accounts.ts'
import { LOCAL_CHAIN_ID } from '../chain/local-chain.ts'
import { KeyError, resolveSigner } from './keystore.ts'

/** Where an agent's account comes from, as its configuration says. */
export interface AgentKeySettings {
  keystore?: string | undefined
  passwordFile?: string | undefined
  /** One of the publicly known accounts, on a development chain of this machine only. */
  devAccount?: number | undefined
}

export interface AgentAccountParameters {
  key: AgentKeySettings
  chain: { id?: number | undefined; rpcUrls: readonly string[] }
  env: Readonly<Record<string, string | undefined>>
  promptPassword?: ((question: string) => Promise<string | undefined>) | undefined
}

/**
 * The account that an agent pays with: the keystore of its configuration, else what the environment names
 * (`WEIGHTLESS_PRIVATE_KEY`, `WEIGHTLESS_KEYSTORE`), or on a development chain of this machine one of its known accounts.
 *
 * @throws KeyError when there is none; `DEV_ACCOUNT` for a development account elsewhere
 */
export async function agentAccount({
  key: { keystore, passwordFile, devAccount },
  chain,
  env,
  promptPassword,
}: AgentAccountParameters): Promise<LocalAccount> {
  if (devAccount === undefined) {
    return resolveSigner({ env, keystorePath: keystore, passwordFile, promptPassword })
  }
  return privateKeyToAccount(devPrivateKey({ chain, setting: 'key.devAccount', index: devAccount }))
}

/**
 * The key of a publicly known account, on a development chain of this machine.
 *
 * @param setting the configuration key that named it, for the error
 * @throws KeyError `DEV_ACCOUNT` elsewhere, or where there is no such account
 */
export function devPrivateKey({
  chain,
  setting,
  index,
}: {
  chain: AgentAccountParameters['chain']
  setting: string
  index: number
}): Hex {
  const known = DEV_ACCOUNTS[index]
  if (known && chain.id === LOCAL_CHAIN_ID && chain.rpcUrls.every(isLoopback)) return known.privateKey
  throw new KeyError({
    code: 'DEV_ACCOUNT',
    message: `${setting} is for a development chain of this machine`,
    fix: `set chain.id to ${LOCAL_CHAIN_ID} and use loopback endpoints, or give a keystore`,
    details: { setting, index, chainId: chain.id },
  })
}

function isLoopback(url: string): boolean {
  const host = URL.parse(url)?.hostname ?? ''
  return host === 'localhost' || host === '[::1]' || /^127\./.test(host)
}
