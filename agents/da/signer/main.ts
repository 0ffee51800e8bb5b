import { join } from 'node:path'
import { type Address, type LocalAccount, zeroAddress } from 'viem'
import { entranceAbi, signersAbi } from '#client/da/abi.ts'
import { type Chain, connectChain } from '#kit/chain/client.ts'
import { createSender } from '#kit/chain/sender.ts'
import { createCloseStack } from '#kit/close-stack.ts'
import { lockDirectory } from '#kit/directory-lock.ts'
import type { Logger } from '#kit/log.ts'
import { createMetrics, type Metrics } from '#kit/metrics.ts'
import { BlobCodec } from '#protocol/da/blob-codec.ts'
import { blsKeyFromSecret } from '#protocol/da/bls.ts'
import { Epochs } from './chain/epochs.ts'
import type { SignerConfig } from './config.ts'
import { SignerError } from './error.ts'
import { type ContractAddresses, SignerParts } from './parts.ts'
import type { SignerStatus } from './status.ts'
import { RowFiles } from './store/row-files.ts'
import { SignerStore } from './store/signer-store.ts'
import { reconcile } from './work/pruner.ts'

export { SIGNER_ENV_PREFIX, type SignerConfig, type SignerConfigInput, signerConfigSchema } from './config.ts'
export type { SignerStatus } from './status.ts'

/** What a signer is given from outside. */
export interface SignerContext {
  log: Logger
  /** Holds the stake and pays for gas; see `agentAccount` of `#kit/keys/agent-account.ts`. */
  account: LocalAccount
  /** Signs blobs, 32 bytes; see `blsSecret`. */
  blsSecret: Uint8Array
  /** Stops the start while it waits for the chain. */
  signal?: AbortSignal | undefined
  metrics?: Metrics | undefined
  /** A codec to share, which stays open. Default: one of its own. */
  codec?: BlobCodec | undefined
}

/** A signer that runs. */
export interface RunningSigner {
  /** Where it listens. */
  readonly url: string
  readonly address: Address
  readonly store: SignerStore
  readonly files: RowFiles
  status(): SignerStatus
  /** Removes what need not be held any more, now. Gives the number of blobs. */
  prune(): Promise<number>
  /** Stops signing and serving, closes everything. Repeatable. */
  close(): Promise<void>
}

type Stack = ReturnType<typeof createCloseStack>

/**
 * Starts a signer: joins the table of signers if it is not there, follows payments on the chain, takes, checks and keeps
 * its rows, signs for them, hands them out, answers samples and custody requests, and removes what has expired.
 *
 * @throws SignerError `SIGNER_CHAIN`, `SIGNER_IDENTITY`, `SIGNER_KEY`; chain, key, database and HTTP errors
 * @example
 * const config = signerConfigSchema.parse({ chain: { rpcUrls, signers, entrance } })
 * const signer = await startSigner(config, { log, account, blsSecret })
 */
export async function startSigner(config: SignerConfig, context: SignerContext): Promise<RunningSigner> {
  const stack = createCloseStack({ log: context.log, limitMs: 20_000 })
  try {
    return await assemble(config, context, stack)
  } catch (error) {
    await stack.close()
    throw error
  }
}

async function assemble(config: SignerConfig, context: SignerContext, stack: Stack): Promise<RunningSigner> {
  const { log, account } = context
  const metrics = context.metrics ?? createMetrics('weightless_da_signer')
  const ending = new AbortController()
  const { signal } = ending
  const starting = context.signal === undefined ? signal : AbortSignal.any([signal, context.signal])
  const key = blsKeyFromSecret(context.blsSecret)
  const address = account.address.toLowerCase() as Address

  const lock = lockDirectory(config.data.dir)
  stack.defer('data folder', () => lock.release())
  const chain = await openChain(config, starting)
  stack.defer('chain', () => chain.close())
  const contracts = await checkContracts(chain, config)
  const store = new SignerStore({
    dataDir: config.data.dir,
    identity: { chainId: chain.id, entrance: contracts.entrance, signer: address },
  })
  stack.defer('tables', () => store.close())
  const files = new RowFiles({ dir: join(config.data.dir, 'rows') })
  await reconcile({ store, files, nowMs: Date.now(), log })
  const { threads: workers, memoryBytes } = config.verification
  const codec = context.codec ?? (await BlobCodec.create({ workers, memoryBytes }))
  if (context.codec === undefined) stack.defer('codec', () => codec.close())
  const sender = createSender({ chain, account, gasPolicy: config.submission, log, metrics })
  stack.defer('transactions', () => sender.close())

  const epochs = new Epochs({ chain, signers: contracts.signers, signer: address })
  await epochs.refresh()
  const parts = new SignerParts({
    config,
    log,
    account: address,
    metrics,
    chain,
    contracts,
    store,
    files,
    codec,
    sender,
    epochs,
    key,
    signal,
  })
  const { url } = await parts.serve(stack)
  const follower = parts.follow()
  stack.defer('log follower', () => follower.done.catch(() => {}))
  const loops = parts.work({ url })
  stack.defer('loops', () => Promise.all(loops.map((loop) => loop.done)))
  parts.report(stack)
  log.info({ url, signer: address, epoch: epochs.current, entrance: contracts.entrance }, 'the signer runs')

  return {
    ...{ url, address, store, files },
    status: () => parts.status(),
    prune: () => parts.prune(),
    close: async () => {
      ending.abort(new SignerError({ code: 'SIGNER_STOPPED', message: 'the signer is stopping' }))
      await stack.close()
    },
  }
}

function openChain({ chain }: SignerConfig, signal: AbortSignal): Promise<Chain> {
  return connectChain({
    rpcUrls: chain.rpcUrls,
    chainId: chain.id,
    waitMs: chain.waitMs,
    pollingIntervalMs: Math.min(chain.pollIntervalMs, 500),
    signal,
  })
}

/** The contracts must know each other; the custody contract is found by them. */
async function checkContracts(chain: Chain, { chain: given }: SignerConfig): Promise<ContractAddresses> {
  const { signers, entrance } = given
  let named: Address
  let custody: Address
  try {
    named = await chain.client.readContract({ address: entrance, abi: entranceAbi, functionName: 'signers' })
    custody = await chain.client.readContract({ address: signers, abi: signersAbi, functionName: 'custody' })
  } catch (cause) {
    throw new SignerError({
      code: 'SIGNER_CHAIN',
      message: `there are no data-availability contracts at ${entrance} and ${signers}`,
      fix: 'check chain.entrance, chain.signers and the RPC endpoint',
      details: { entrance, signers },
      cause,
    })
  }
  if (named.toLowerCase() === signers && custody !== zeroAddress) {
    return { signers, entrance, custody: custody.toLowerCase() as Address }
  }
  throw new SignerError({
    code: 'SIGNER_CHAIN',
    message: `the entrance ${entrance} belongs to the signers’ contract ${named}, not to ${signers}`,
    fix: 'correct chain.signers',
    details: { entrance, named, signers },
  })
}
