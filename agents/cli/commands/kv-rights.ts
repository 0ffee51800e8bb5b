import type { Command } from 'commander'
import { streamIdOf } from '#client/kv/stream-id.ts'
import type { Hex } from '#protocol/hex.ts'
import type { StreamControl } from '#protocol/kv/stream-data.ts'
import type { CliIo } from '../io.ts'
import { type KvOptions, kvNodeOf, parseKey, STREAM_HELP, showKey, usage, withKvNode } from '../open-kv.ts'
import { readOptions } from '../options.ts'
import { type KvWriteOptions, runWrite, withWriting } from './kv-write.ts'

interface RightsOptions extends KvWriteOptions {
  admin?: boolean
  key?: string
  off?: boolean
}

const ACCOUNT_HELP = 'address of the account'
const KEY_HELP = 'the right to one protected key'

/** `weightless kv grant|revoke|renounce|protect|rights`. */
export function addRightsCommands(group: Command, io: CliIo): void {
  withWriting(group.command('grant'))
    .description('let an account write a stream, or one protected key, or make it an admin')
    .argument('<stream>', STREAM_HELP)
    .argument('<account>', ACCOUNT_HELP)
    .option('--key <key>', KEY_HELP)
    .option('--admin', 'make it an admin: nobody but itself can take that back')
    .action((stream: string, account: string, _: unknown, at: Command) => {
      const options = readOptions<RightsOptions>(at)
      const who = parseAccount(account)
      const name = pick(options, 'GRANT_ADMIN_ROLE', 'GRANT_SPECIAL_WRITER_ROLE', 'GRANT_WRITER_ROLE')
      return change({ stream, name, account: who, options, io, done: `granted to ${who}` })
    })
  withWriting(group.command('revoke'))
    .description('take the right to write back from an account; for admins only')
    .argument('<stream>', STREAM_HELP)
    .argument('<account>', ACCOUNT_HELP)
    .option('--key <key>', KEY_HELP)
    .action((stream: string, account: string, _: unknown, at: Command) => {
      const options = readOptions<RightsOptions>(at)
      const who = parseAccount(account)
      const name = options.key === undefined ? 'REVOKE_WRITER_ROLE' : 'REVOKE_SPECIAL_WRITER_ROLE'
      return change({ stream, name, account: who, options, io, done: `revoked from ${who}` })
    })
  withWriting(group.command('renounce'))
    .description('give up a right of your own account')
    .argument('<stream>', STREAM_HELP)
    .option('--key <key>', KEY_HELP)
    .option('--admin', 'give up being an admin: if nobody else is one, the rights stay as they are for good')
    .action((stream: string, _: unknown, at: Command) => {
      const options = readOptions<RightsOptions>(at)
      const name = pick(options, 'RENOUNCE_ADMIN_ROLE', 'RENOUNCE_SPECIAL_WRITER_ROLE', 'RENOUNCE_WRITER_ROLE')
      return change({ stream, name, options, io, done: 'renounced' })
    })
  withWriting(group.command('protect'))
    .description('let a key be written only by admins and by accounts that were granted it')
    .argument('<stream>', STREAM_HELP)
    .argument('<key>', 'the key')
    .option('--off', 'let it be written as any other key again')
    .action((stream: string, key: string, _: unknown, at: Command) => {
      const options = { ...readOptions<RightsOptions>(at), key }
      const name = options.off === true ? 'SET_KEY_TO_NORMAL' : 'SET_KEY_TO_SPECIAL'
      return change({ stream, name, options, io, done: options.off === true ? 'protection removed' : 'protected' })
    })
  withKvNode(group.command('rights'))
    .description('what an account may do in a stream')
    .argument('<stream>', STREAM_HELP)
    .argument('<account>', ACCOUNT_HELP)
    .option('--key <key>', 'and with this key')
    .action((stream: string, account: string, _: unknown, at: Command) =>
      rights({ stream, account: parseAccount(account), options: readOptions<RightsOptions>(at), io }),
    )
}

/** The control for what the flags name: the admin role, one key, or the stream. */
function pick<T>({ admin, key }: RightsOptions, forAdmin: T, forKey: T, forStream: T): T {
  if (admin === true && key !== undefined) throw usage('--admin and --key exclude each other', 'give one of them')
  if (admin === true) return forAdmin
  return key === undefined ? forStream : forKey
}

interface ChangeParameters {
  stream: string
  name: StreamControl['name']
  account?: Hex
  options: RightsOptions
  io: CliIo
  done: string
}

async function change({ stream, name, account, options, io, done }: ChangeParameters): Promise<void> {
  const streamId = streamIdOf(stream)
  const control: StreamControl = { name, streamId }
  if (account !== undefined) control.account = account
  if (options.key !== undefined) control.key = parseKey(options.key, options)
  await runWrite({ streamId, writes: [], controls: [control], options, io, done })
}

interface RightsParameters {
  stream: string
  account: Hex
  options: RightsOptions & KvOptions
  io: CliIo
}

async function rights({ stream, account, options, io }: RightsParameters): Promise<void> {
  const streamId = streamIdOf(stream)
  const key = options.key === undefined ? undefined : parseKey(options.key, options)
  const node = kvNodeOf({ io, options })
  try {
    const at = { streamId, account, signal: io.signal }
    const [isAdmin, isWriter] = await Promise.all([node.isAdmin(at), node.isWriter(at)])
    const roles = [...(isAdmin ? ['admin'] : []), ...(isWriter ? ['writer'] : [])]
    const lines = [`${account}: ${roles.length === 0 ? 'no role' : roles.join(' and ')} in ${streamId}`]
    const json: Record<string, unknown> = { streamId, account, isAdmin, isWriter }
    if (key !== undefined) {
      const [isProtected, isKeyWriter, mayWrite] = await Promise.all([
        node.isProtected({ ...at, key }),
        node.isKeyWriter({ ...at, key }),
        node.mayWrite({ ...at, key }),
      ])
      Object.assign(json, { isProtected, isKeyWriter, mayWrite })
      const kind = isProtected ? 'a protected key' : 'an ordinary key'
      lines.push(`${showKey(key, options)}: ${kind}, which it ${mayWrite ? 'may' : 'may not'} write`)
    }
    io.result({ json, text: lines })
  } finally {
    node.close()
  }
}

function parseAccount(text: string): Hex {
  if (/^0x[0-9a-fA-F]{40}$/.test(text)) return text.toLowerCase() as Hex
  throw usage(`${text.slice(0, 80)} is no address`, 'give 0x and 40 hex digits')
}
