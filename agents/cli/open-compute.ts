import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { Option } from 'commander'
import { z } from 'zod'
import { ComputeBook } from '#client/compute/book.ts'
import { type ComputeClient, connectCompute } from '#client/compute/compute-client.ts'
import { defaultDataDir } from '#client/compute/connection.ts'
import type { ModelTexts } from '#client/compute/token-text.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { Hex } from '#protocol/hex.ts'
import type { CliIo } from './io.ts'
import { type NetworkSettings, resolveNetwork, SettingError } from './network.ts'
import { type SignerOptions, signer } from './open-client.ts'
import type { GlobalOptions } from './options.ts'

/** Flags of every command of the compute market. */
export interface ComputeOptions extends GlobalOptions, SignerOptions {
  ledger?: string
  inference?: string
  dataDir?: string
}

/** Where the compute market is. */
export interface ComputeSettings {
  readonly rpcUrl: readonly string[]
  readonly ledger: Hex
  readonly inference: Hex | undefined
  readonly dataDir: string | undefined
  readonly network: NetworkSettings
}

const address = z
  .string()
  .regex(/^0x[0-9a-fA-F]{40}$/)
  .transform((text) => text.toLowerCase() as Hex)
const devnetSchema = z.looseObject({
  contracts: z.looseObject({ LedgerManager: address.optional(), InferenceServing: address.optional() }),
})

/** The flags of {@link ComputeOptions}, made anew for each command. */
export function computeOptions({ signs }: { signs: boolean }): Option[] {
  const contracts = [
    new Option('--ledger <address>', 'LedgerManager contract (also: WEIGHTLESS_LEDGER; default: of the devnet)'),
    new Option('--inference <address>', 'InferenceServing contract (default: the one that the ledger recommends)'),
    new Option('--data-dir <folder>', 'folder of vouchers and receipts (default: ~/.local/share/weightless/compute)'),
  ]
  const keys = [
    new Option(
      '--keystore <file>',
      'keystore of the account that pays (also: WEIGHTLESS_KEYSTORE, WEIGHTLESS_PRIVATE_KEY)',
    ),
    new Option('--password-file <file>', 'file with the password of the keystore'),
  ]
  return signs ? [...contracts, ...keys] : contracts
}

/**
 * Settings from flags, then the environment, then the devnet's file.
 *
 * @throws SettingError `SETTING_MISSING`, `SETTING_INVALID`
 */
export function computeSettings({ io, options }: { io: CliIo; options: ComputeOptions }): ComputeSettings {
  const network = resolveNetwork({ io, options })
  const devnet = network.devnet === undefined ? {} : readDevnet(network.devnet.path)
  const ledger = given('--ledger', options.ledger ?? (io.env.WEIGHTLESS_LEDGER || undefined)) ?? devnet.LedgerManager
  const inference = given('--inference', options.inference ?? (io.env.WEIGHTLESS_INFERENCE || undefined))
  if (network.rpcUrl.length === 0) throw missing('the chain', '--rpc', 'WEIGHTLESS_RPC_URL')
  if (ledger === undefined) throw missing('the ledger contract', '--ledger', 'WEIGHTLESS_LEDGER')
  const dataDir = dataDirOf({ io, options })
  return { rpcUrl: network.rpcUrl, ledger, inference: inference ?? devnet.InferenceServing, dataDir, network }
}

/**
 * A client of the compute market with the settings of the command line.
 *
 * @throws SettingError; WeightlessError `SIGNER_MISSING` when the command signs and no key is given
 */
export async function openCompute({
  io,
  options,
  modelFiles = [],
}: {
  io: CliIo
  options: ComputeOptions
  /** GGUF files whose tokenizers are used to compare text with tokens. */
  modelFiles?: readonly string[] | undefined
}): Promise<{ compute: ComputeClient; settings: ComputeSettings }> {
  const settings = computeSettings({ io, options })
  const account = await payer({ io, options, settings })
  const { rpcUrl, ledger, inference, dataDir } = settings
  const modelTexts =
    modelFiles.length === 0 ? undefined : await textsOf(modelFiles.map((path) => resolve(io.cwd, path)))
  return { compute: connectCompute({ rpcUrl, ledger, inference, dataDir, account, modelTexts }), settings }
}

/** The user's book alone: what needs neither chain nor key. */
export function openBook({ io, options }: { io: CliIo; options: ComputeOptions }): ComputeBook {
  return ComputeBook.open({ dir: dataDirOf({ io, options }) ?? defaultDataDir() })
}

/** The account that pays: as for every other command, so that a devnet needs no key. */
export async function payer({
  io,
  options,
  settings,
}: {
  io: CliIo
  options: ComputeOptions
  settings: ComputeSettings
}) {
  const account = await signer({ io, options, network: settings.network })
  if (account !== undefined) return account
  throw new WeightlessError({
    code: 'SIGNER_MISSING',
    message: 'no key is given to pay with',
    fix: 'give --keystore FILE (make one with: weightless key new), or set WEIGHTLESS_PRIVATE_KEY',
  })
}

/** Tokenizers bring hashing threads with them: loaded when wanted. */
async function textsOf(paths: readonly string[]): Promise<ModelTexts> {
  const { modelFileTexts } = await import('#client/compute/model-texts.ts')
  return modelFileTexts(paths)
}

function given(name: string, text: string | undefined): Hex | undefined {
  if (text === undefined) return undefined
  const parsed = address.safeParse(text)
  if (parsed.success) return parsed.data
  throw new SettingError({
    code: 'SETTING_INVALID',
    message: `${name} is no address`,
    fix: `give ${name} as 0x and 40 hex digits`,
    details: { setting: name },
  })
}

function missing(what: string, flag: string, env: string): SettingError {
  return new SettingError({
    code: 'SETTING_MISSING',
    message: `${what} is not known`,
    fix: `start a devnet with: weightless up, or give ${flag} or ${env}`,
    details: { setting: flag },
  })
}

function readDevnet(path: string) {
  try {
    return devnetSchema.parse(JSON.parse(readFileSync(path, 'utf8'))).contracts
  } catch (cause) {
    throw new SettingError({
      code: 'SETTING_INVALID',
      message: `${path} does not describe a devnet`,
      fix: 'start the devnet anew with: weightless up',
      details: { path },
      cause,
    })
  }
}

function dataDirOf({ io, options }: { io: CliIo; options: ComputeOptions }): string | undefined {
  return options.dataDir ?? (io.env.WEIGHTLESS_COMPUTE_DIR || undefined) ?? homeOf(io)
}

/** The data folder under the caller's own home, where the environment names one. */
function homeOf({ env }: CliIo): string | undefined {
  const data = env.XDG_DATA_HOME || (env.HOME ? `${env.HOME}/.local/share` : undefined)
  return data === undefined ? undefined : `${data}/weightless/compute`
}
