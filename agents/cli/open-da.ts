import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import type { Address } from 'viem'
import { z } from 'zod'
import { connectDa, type DaClient } from '#client/da/da-client.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { CliIo } from './io.ts'
import { type NetworkSettings, resolveNetwork } from './network.ts'
import { type SignerOptions, signer } from './open-client.ts'
import type { GlobalOptions } from './options.ts'

/** Flags of all commands of data availability. */
export interface DaOptions extends GlobalOptions, SignerOptions {
  entrance?: string
  signers?: string
  accounts?: string
}

/** Adds the flags that name the contracts. */
export function withContracts(command: Command): Command {
  return command
    .option('--entrance <address>', 'DAEntrance contract (also WEIGHTLESS_DA_ENTRANCE)')
    .option('--signers <address>', 'DASigners contract (also WEIGHTLESS_DA_SIGNERS)')
}

/** Adds the flag that names the contract of accounts with dispersers. */
export function withAccounts(command: Command): Command {
  return withContracts(command).option(
    '--accounts <address>',
    'DispersalAccounts contract (also WEIGHTLESS_DA_ACCOUNTS)',
  )
}

/** A client with the contracts by flag, environment, or the devnet's file. */
export async function openDa(
  options: DaOptions,
  io: CliIo,
  { pays = false, needsAccounts = false } = {},
): Promise<DaClient> {
  const network = resolveNetwork({ io, options })
  const contracts = contractsOf(options, network, io, needsAccounts)
  const account = pays ? await signer({ io, options, network }) : undefined
  return connectDa({ rpcUrl: network.rpcUrl, contracts, account })
}

const address = z
  .string()
  .regex(/^0x[0-9a-fA-F]{40}$/, 'is no address')
  .transform((text) => text.toLowerCase() as Address)
const devnetSchema = z.object({
  contracts: z.looseObject({
    DASigners: address.optional(),
    DAEntrance: address.optional(),
    DispersalAccounts: address.optional(),
  }),
  ports: z.looseObject({ disperser: z.int().optional() }).default({}),
})

function devnetOf({ devnet }: NetworkSettings): z.output<typeof devnetSchema> | undefined {
  if (devnet === undefined) return undefined
  const known = devnetSchema.safeParse(JSON.parse(readFileSync(devnet.path, 'utf8')))
  return known.success ? known.data : undefined
}

/** The disperser that is meant: by flag, environment, or the one of the devnet. */
export function disperserOf(given: string | undefined, options: DaOptions, io: CliIo): string {
  const text = given ?? (io.env.WEIGHTLESS_DA_DISPERSER || undefined)
  if (text !== undefined) return text
  const port = devnetOf(resolveNetwork({ io, options }))?.ports.disperser
  if (port !== undefined) return `http://127.0.0.1:${port}`
  throw new WeightlessError({
    code: 'SETTING_MISSING',
    message: 'the disperser is not known: --disperser',
    fix: 'give --disperser URL, set WEIGHTLESS_DA_DISPERSER, or start a local network with: weightless up',
    details: { setting: '--disperser' },
  })
}

function contractsOf(
  options: DaOptions,
  network: NetworkSettings,
  io: CliIo,
  needsAccounts: boolean,
): { signers: Address; entrance: Address; accounts: Address | undefined } {
  const found = devnetOf(network)?.contracts ?? {}
  const pick = (flag: string, given: string | undefined, variable: string, local: Address | undefined) => {
    const text = given ?? (io.env[variable] || undefined)
    if (text === undefined) return local
    const parsed = address.safeParse(text)
    if (parsed.success) return parsed.data
    throw unknown('SETTING_INVALID', `${flag} is no address`, flag, variable)
  }
  const need = (flag: string, given: string | undefined, variable: string, local: Address | undefined): Address => {
    const picked = pick(flag, given, variable, local)
    if (picked !== undefined) return picked
    throw unknown('SETTING_MISSING', `the address of the contract is not known: ${flag}`, flag, variable)
  }
  const accounts = needsAccounts ? need : pick
  return {
    entrance: need('--entrance', options.entrance, 'WEIGHTLESS_DA_ENTRANCE', found.DAEntrance),
    signers: need('--signers', options.signers, 'WEIGHTLESS_DA_SIGNERS', found.DASigners),
    accounts: accounts('--accounts', options.accounts, 'WEIGHTLESS_DA_ACCOUNTS', found.DispersalAccounts),
  }
}

function unknown(code: string, message: string, flag: string, variable: string): WeightlessError {
  return new WeightlessError({
    code,
    message,
    fix: `give ${flag}, set ${variable}, or start a local network with: weightless up`,
    details: { setting: flag },
  })
}
