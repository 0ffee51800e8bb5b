import { RPC_CODE, RpcError } from './rpc-error.ts'
import type { RpcMethod } from './rpc-method.ts'

const FAMILIES: Record<string, string> = {
  zgs: "a storage node's public port",
  admin: "a storage node's administration port, closed to the network",
  miner: "a storage node's administration port, closed to the network",
  kv: 'a KV node, which is not a storage node: give the address of your KV node',
  indexer: 'an indexer',
  eth: "the chain's RPC endpoint",
  net: "the chain's RPC endpoint",
  web3: "the chain's RPC endpoint",
}

/**
 * −32601 `Method not found` with a text that helps: the right name where the case or a letter is off, else where such
 * methods are served and what this port serves.
 */
export function methodNotFound({
  method,
  methods,
  fallbackHelp,
}: {
  method: string
  methods: Record<string, RpcMethod>
  fallbackHelp?: ((method: string) => string | undefined) | undefined
}): RpcError {
  const known = Object.keys(methods)
  const data = fallbackHelp?.(method) ?? meant(method, known) ?? elsewhere(method, known)
  return new RpcError({ rpcCode: RPC_CODE.methodNotFound, message: 'Method not found', data })
}

function meant(method: string, known: readonly string[]): string | undefined {
  const plain = (name: string): string => name.toLowerCase().replaceAll(/[^a-z0-9]/g, '')
  const wanted = plain(method.slice(0, 128))
  const found = known.find((name) => plain(name) === wanted || plain(name).replace(/^[a-z]+?(?=get)/, '') === wanted)
  return found === undefined ? undefined : `did you mean ${found}?`
}

function elsewhere(method: string, known: readonly string[]): string {
  const family = /^([a-z0-9]{1,16})_/.exec(method)?.[1]
  const families = [...new Set(known.map((name) => name.split('_')[0]))].map((name) => `${name}_*`)
  const served = `this port serves ${families.length === 0 ? 'no methods' : families.join(', ')}`
  const home = family !== undefined && Object.hasOwn(FAMILIES, family) ? FAMILIES[family] : undefined
  if (home === undefined || families.includes(`${family}_*`)) return served
  return `${family}_* is served by ${home}; ${served}`
}
