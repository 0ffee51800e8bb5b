import { resolve } from 'node:path'
import type { Command } from 'commander'
import { WeightlessError } from '#protocol/error.ts'
import { askSecret, readSecretLine } from '../ask.ts'
import type { CliIo } from '../io.ts'
import { keystorePassword } from '../keystore-password.ts'
import { resolveNetwork } from '../network.ts'
import { type GlobalOptions, readOptions } from '../options.ts'

interface KeyOptions extends GlobalOptions {
  passwordFile?: string
}

/** `weightless key new|import|show` */
export function register(program: Command, io: CliIo): void {
  const key = program.command('key').description('make, import or show the key of an account')
  key
    .command('new')
    .description('make a key and keep it encrypted in a keystore file')
    .argument('<file>', 'keystore to write; an existing one is never replaced')
    .option('--password-file <file>', 'file with the password (also: WEIGHTLESS_KEYSTORE_PASSWORD; else you are asked)')
    .action((file: string, _options: unknown, command: Command) => create({ file, options: readOptions(command), io }))
  key
    .command('import')
    .description('encrypt an existing private key: from standard input, WEIGHTLESS_PRIVATE_KEY, or asked for')
    .argument('<file>', 'keystore to write; an existing one is never replaced')
    .option('--password-file <file>', 'file with the password (also: WEIGHTLESS_KEYSTORE_PASSWORD; else you are asked)')
    .action((file: string, _options: unknown, command: Command) =>
      create({ file, options: readOptions(command), io, imported: true }),
    )
  key
    .command('show')
    .description('show the address and public key of a keystore, or of the account the settings name')
    .argument('[file]', 'keystore')
    .option('--password-file <file>', 'file with the password')
    .action((file: string | undefined, _options: unknown, command: Command) =>
      show({ file, options: readOptions(command), io }),
    )
}

interface CreateParameters {
  file: string
  options: KeyOptions
  io: CliIo
  imported?: boolean
}

async function create({ file, options, io, imported = false }: CreateParameters): Promise<void> {
  const { createKeystore } = await import('#kit/keys/keystore.ts')
  const privateKey = imported ? await givenKey(io) : undefined
  const password = await newPassword({ options, io })
  const path = resolve(io.cwd, file)
  const { address } = await createKeystore({ path, password, privateKey })
  io.result({ json: { address, path }, text: [`address ${address}`, `keystore ${path}`] })
  io.info('keep a copy of the keystore and its password: nobody can restore them')
}

async function givenKey(io: CliIo): Promise<`0x${string}`> {
  const { checkPrivateKey } = await import('#kit/keys/keystore.ts')
  const text =
    (io.env.WEIGHTLESS_PRIVATE_KEY || undefined) ??
    (await readSecretLine({ io })) ??
    (await askSecret({ io, question: 'Private key' }))
  if (text !== undefined) return checkPrivateKey(text)
  throw new WeightlessError({
    code: 'CLI_USAGE',
    message: 'no private key is given',
    fix: 'pipe it into the command, or set WEIGHTLESS_PRIVATE_KEY; it is never taken from the command line',
  })
}

async function newPassword({ options, io }: { options: KeyOptions; io: CliIo }): Promise<string> {
  return keystorePassword({
    passwordFile: options.passwordFile,
    io,
    ask: async () => {
      const first = await askSecret({ io, question: 'Password for the keystore' })
      if (first === undefined || first === (await askSecret({ io, question: 'The same again' }))) return first
      throw new WeightlessError({ code: 'CLI_USAGE', message: 'the two passwords differ', fix: 'try again' })
    },
  })
}

async function show({
  file,
  options,
  io,
}: {
  file: string | undefined
  options: KeyOptions
  io: CliIo
}): Promise<void> {
  const { signer } = await import('../open-client.ts')
  const keystore = file === undefined ? {} : { keystore: resolve(io.cwd, file) }
  const account = await signer({ io, options: { ...options, ...keystore }, network: resolveNetwork({ io, options }) })
  if (account === undefined) {
    throw new WeightlessError({
      code: 'SIGNER_MISSING',
      message: 'no key is given',
      fix: 'name a keystore (make one with: weightless key new FILE), or set WEIGHTLESS_KEYSTORE',
    })
  }
  const { toHex } = await import('viem')
  const { Point } = (await import('@noble/curves/secp256k1.js')).secp256k1
  const publicKey = toHex(Point.fromHex(account.publicKey.slice(2)).toBytes(true))
  io.result({
    json: { address: account.address, publicKey },
    text: [`address ${account.address}`, `public key ${publicKey} (for: weightless upload --recipient)`],
  })
}
