import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { privateKeyToAccount } from 'viem/accounts'
import { signersAbi } from '#client/da/abi.ts'
import { connectDa, type DaClient, type DaConnectionParameters } from '#client/da/da-client.ts'
import { blsSecret } from '#da/signer/account.ts'
import { type RunningSigner, type SignerConfigInput, signerConfigSchema, startSigner } from '#da/signer/main.ts'
import { createLog, silentLog } from '#kit/log.ts'
import { BlobCodec } from '#protocol/da/blob-codec.ts'
import { type Anvil, DEV_ACCOUNTS, headNumber, mine, startAnvil } from '../../chain.ts'
import { type DaContracts, type DeployDaContractsParameters, deployDaContracts } from '../../da-contracts.ts'

const ETHER = 10n ** 18n

/** What a test may change about one signer. */
export type SignerOverrides = Partial<Omit<SignerConfigInput, 'chain'>> & { chain?: object }

export interface DaNet {
  readonly anvil: Anvil
  readonly contracts: DaContracts
  readonly folder: string
  readonly codec: BlobCodec
  readonly signers: RunningSigner[]
  /** Starts signer `index` (account index + 1) on its own folder. */
  start(index: number, overrides?: SignerOverrides): Promise<RunningSigner>
  /** A client of account 0, or of another one. Closed with the net. */
  client(parameters?: Partial<DaConnectionParameters> & { account?: never; accountIndex?: number }): DaClient
  /** Mines to the first block of the next epoch, and waits until the signers have seen it. */
  nextEpoch(): Promise<void>
  folderOf(index: number): string
  close(): Promise<void>
}

export interface OpenNetParameters {
  /** Stakes of the signers in ether. Default four of 10. */
  stakes?: readonly number[]
  deploy?: Partial<DeployDaContractsParameters>
  overrides?: (index: number) => SignerOverrides
  /** Default 0. */
  confirmations?: number
}

/** A chain with contracts and signers that are in the table of the current epoch. */
export async function openNet(parameters: OpenNetParameters = {}): Promise<DaNet> {
  const { stakes = [10, 10, 10, 10], deploy = {}, overrides = () => ({}), confirmations = 0 } = parameters
  const folder = await mkdtemp(join(tmpdir(), 'da-signer-'))
  const anvil = await startAnvil()
  const codec = await BlobCodec.create()
  const signers: RunningSigner[] = []
  const clients: DaClient[] = []
  let contracts: DaContracts | undefined

  async function close(): Promise<void> {
    await Promise.allSettled([...signers, ...clients].map((one) => one.close()))
    await codec.close()
    await anvil.stop()
    await rm(folder, { recursive: true, force: true })
  }

  try {
    contracts = await deployDaContracts({ url: anvil.url, ...deploy })
    const deployed = contracts
    const folderOf = (index: number): string => join(folder, `signer-${index}`)
    const net: DaNet = {
      ...{ anvil, contracts, folder, codec, signers, folderOf, close },
      start: async (index, more = {}) => {
        const given = { ...overrides(index), ...more }
        const config = signerConfigSchema.parse({
          epochs: { checkIntervalMs: 200 },
          sampling: { enabled: false },
          repair: { enabled: false },
          ...given,
          data: { dir: folderOf(index), minFreeBytes: 0, ...given.data },
          chain: {
            rpcUrls: [anvil.url],
            id: 31337,
            signers: deployed.signers,
            entrance: deployed.entrance,
            startBlock: deployed.block,
            confirmations,
            pollIntervalMs: 100,
            ...given.chain,
          },
          key: { devAccount: index + 1 },
          bls: { devAccount: index + 1 },
          stake: { initialWei: BigInt(stakes[index] ?? 10) * ETHER },
          listen: '127.0.0.1:0',
        })
        const log = process.env.DA_TEST_LOG ? createLog({ name: `signer-${index}`, level: 'debug' }) : silentLog()
        const secret = await blsSecret({ config, env: {} })
        const signer = await startSigner(config, { log, account: accountOf(index + 1), blsSecret: secret, codec })
        signers[index] = signer
        return signer
      },
      client: ({ accountIndex = 0, ...more } = {}) => {
        const client = connectDa({
          rpcUrl: anvil.url,
          contracts: deployed,
          account: accountOf(accountIndex),
          startBlock: deployed.block,
          journalDir: join(folder, 'journal'),
          codec,
          ...more,
          limits: { pollIntervalMs: 30, graceMs: 300, ...more.limits },
        })
        clients.push(client)
        return client
      },
      nextEpoch: async () => {
        const chain = await net.client().connection.chain()
        const call = { address: deployed.signers, abi: signersAbi, functionName: 'nextEpochBlock' } as const
        const next = Number(await chain.client.readContract(call))
        await mine(anvil, next - (await headNumber(anvil)))
        const epoch = await epochOf(net)
        await until('signers to see the epoch', () => signers.every((signer) => signer.status().epoch >= epoch))
      },
    }
    // One after the other, so that their places in the table are those in the list.
    for (const index of stakes.keys()) {
      const signer = await net.start(index)
      await until('a signer to register', () => signer.status().state === 'joining')
    }
    await net.nextEpoch()
    await until('signers to be in the table', () => signers.every(({ status }) => status().state === 'signing'))
    return net
  } catch (error) {
    await close()
    throw error
  }
}

/** One of the chain's funded accounts. */
export function accountOf(index: number): ReturnType<typeof privateKeyToAccount> {
  const account = DEV_ACCOUNTS[index]
  if (account === undefined) throw new RangeError(`no account ${index}`)
  return privateKeyToAccount(account.privateKey)
}

/** The chain's epoch. */
export async function epochOf(net: DaNet): Promise<number> {
  const { epoch } = await net.client().quote({ sizeBytes: 1 })
  return epoch
}

/** Waits until a condition holds, for at most 30 s. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const giveUpAt = Date.now() + 30_000
  while (!(await holds())) {
    if (Date.now() > giveUpAt) throw new Error(`waited too long for ${what}`)
    await delay(20)
  }
}

/** Bytes that look random and follow from a seed. */
export function seededBytes(seed: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  let state = (seed * 2_654_435_761 + 1) >>> 0
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    bytes[i] = state >>> 24
  }
  return bytes
}

/** Throws unless a promise rejects with an error of this code; gives the error. */
export async function rejectsWith(code: string, promise: Promise<unknown>): Promise<Error & { code: string }> {
  try {
    await promise
  } catch (error) {
    if (error instanceof Error && Reflect.get(error, 'code') === code) return error as Error & { code: string }
    throw new Error(
      `expected ${code}, got ${error instanceof Error ? `${Reflect.get(error, 'code')} ${error.message}` : error}`,
      {
        cause: error,
      },
    )
  }
  throw new Error(`expected ${code}, nothing was thrown`)
}
