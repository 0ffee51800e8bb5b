import type { LocalAccount } from 'viem'
import { type Client, connect } from '#client/connect.ts'
import type { StorageLimits } from '#client/storage/connection.ts'
import type { CliIo } from './io.ts'
import { type NetworkSettings, resolveNetwork } from './network.ts'
import type { GlobalOptions } from './options.ts'

/** Flags of commands that pay. */
export interface SignerOptions {
  keystore?: string
  passwordFile?: string
}

export interface OpenClientParameters {
  io: CliIo
  options: GlobalOptions & SignerOptions
  /** Whether the command may have to pay. Default false: no key is asked for. */
  signs?: boolean
  limits?: Partial<StorageLimits> | undefined
}

/** A client with the settings of the command line, and those settings. */
export async function openClient({
  io,
  options,
  signs = false,
  limits,
}: OpenClientParameters): Promise<{ client: Client; network: NetworkSettings }> {
  const network = resolveNetwork({ io, options })
  const account = signs ? await signer({ io, options, network }) : undefined
  const client = await connect({
    rpcUrl: network.rpcUrl,
    indexerUrl: network.indexerUrl,
    nodes: network.nodes,
    flow: network.flow,
    account,
    limits,
  })
  return { client, network }
}

/**
 * The account that pays: keystore or `WEIGHTLESS_PRIVATE_KEY`; on a devnet of this machine the publicly known
 * development account. Undefined when none is given: content that is paid for already needs none.
 */
export async function signer({
  io,
  options,
  network,
}: {
  io: CliIo
  options: SignerOptions
  network: NetworkSettings
}): Promise<LocalAccount | undefined> {
  const keystorePath = options.keystore ?? network.keystore
  if (keystorePath !== undefined || io.env.WEIGHTLESS_PRIVATE_KEY) {
    const { resolveSigner } = await import('#kit/keys/keystore.ts')
    const { askSecret } = await import('./ask.ts')
    return resolveSigner({
      env: io.env,
      keystorePath: options.keystore ?? (io.env.WEIGHTLESS_PRIVATE_KEY ? undefined : keystorePath),
      passwordFile: options.passwordFile ?? network.passwordFile,
      promptPassword: (question) => askSecret({ io, question }),
    })
  }
  if (network.devnet?.chainId !== 31337 || !network.rpcUrl.every(isLoopback)) return undefined
  const [{ DEV_ACCOUNTS }, { privateKeyToAccount }] = await Promise.all([
    import('#kit/chain/local-chain.ts'),
    import('viem/accounts'),
  ])
  const [first] = DEV_ACCOUNTS
  if (first === undefined) return undefined
  io.detail(`paying with the development account ${first.address}`)
  return privateKeyToAccount(first.privateKey)
}

function isLoopback(url: string): boolean {
  const host = URL.parse(url)?.hostname ?? ''
  return host === 'localhost' || host === '[::1]' || /^127\./.test(host)
}
