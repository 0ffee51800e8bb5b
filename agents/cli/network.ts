import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse as parseToml } from 'smol-toml'
import { z } from 'zod'
import { WeightlessError } from '#protocol/error.ts'
import type { CliIo } from './io.ts'
import type { GlobalOptions } from './options.ts'

/** Where a command works, and where each setting came from. */
export interface NetworkSettings {
  rpcUrl: readonly string[]
  indexerUrl: string | undefined
  nodes: readonly string[]
  flow: `0x${string}` | undefined
  /** Key-value node. */
  kvUrl: string | undefined
  keystore: string | undefined
  passwordFile: string | undefined
  /** The `.weightless/devnet.json` in use, if any. */
  devnet: { path: string; chainId: number } | undefined
  /** For each setting: `--rpc`, `WEIGHTLESS_RPC_URL`, a file's path. */
  origin: Readonly<Record<string, string>>
}

/** The flags that say where: those of every command, and those of some. */
export interface NetworkOptions extends GlobalOptions {
  /** `--kv` of the key-value commands. */
  kv?: string
}

/** A setting is missing or wrong. Codes `SETTING_INVALID`, `NETWORK_UNKNOWN`. */
export class SettingError extends WeightlessError {}

const url = z.string().refine((text) => /^https?:$/.test(URL.parse(text)?.protocol ?? ''), 'is no http(s) URL')
const address = z
  .string()
  .regex(/^0x[0-9a-fA-F]{40}$/, 'is no address')
  .transform((text) => text.toLowerCase() as `0x${string}`)
const listOf = <T extends z.ZodType>(item: T) =>
  z.preprocess(
    (value) => (typeof value === 'string' ? value.split(',').map((part) => part.trim()) : value),
    z.array(item),
  )

/** The settings of one layer (flags, environment, a file), all optional. */
const layerSchema = z.object({
  rpcUrl: listOf(url).optional(),
  indexerUrl: url.optional(),
  nodes: listOf(url).optional(),
  flow: address.optional(),
  kvUrl: url.optional(),
  keystore: z.string().min(1).optional(),
  passwordFile: z.string().min(1).optional(),
})

type Layer = z.output<typeof layerSchema>

const devnetSchema = z.object({
  chainId: z.number().int().positive(),
  rpcUrl: url,
  indexerUrl: url.optional(),
  nodes: z.array(z.object({ url })).default([]),
  contracts: z.looseObject({ Flow: address }),
  kvUrl: url.optional(),
})

const ENVIRONMENT: Readonly<Record<string, string>> = {
  rpcUrl: 'WEIGHTLESS_RPC_URL',
  indexerUrl: 'WEIGHTLESS_INDEXER_URL',
  nodes: 'WEIGHTLESS_NODES',
  flow: 'WEIGHTLESS_FLOW',
  kvUrl: 'WEIGHTLESS_KEYVALUE_URL',
  keystore: 'WEIGHTLESS_KEYSTORE',
  passwordFile: 'WEIGHTLESS_KEYSTORE_PASSWORD_FILE',
}

/**
 * Settings from flags, then the environment, then `.weightless/devnet.json` of this folder or one above it, then the
 * configuration file. With `--network` the named network takes the place of devnet and configuration file. Nodes named
 * by a flag keep an indexer of a lower layer from being used, and the other way round.
 *
 * @throws SettingError naming the setting, where it is set and what is wrong
 */
export function resolveNetwork({ io, options }: { io: CliIo; options: NetworkOptions }): NetworkSettings {
  const layers: { layer: Layer; origin: (key: string) => string }[] = []
  const { rpc: rpcUrl, indexer: indexerUrl, node: nodes, flow, kv: kvUrl } = options
  const flags = { rpcUrl, indexerUrl, nodes, flow, kvUrl }
  const flagNames: Record<string, string> = {
    rpcUrl: '--rpc',
    indexerUrl: '--indexer',
    nodes: '--node',
    flow: '--flow',
    kvUrl: '--kv',
  }
  layers.push({ layer: parseLayer(flags, (key) => flagNames[key] ?? key), origin: (key) => flagNames[key] ?? key })
  const fromEnv = Object.fromEntries(Object.entries(ENVIRONMENT).map(([key, name]) => [key, io.env[name] || undefined]))
  const envName = (key: string) => ENVIRONMENT[key] ?? key
  layers.push({ layer: parseLayer(fromEnv, envName), origin: envName })

  let devnet: NetworkSettings['devnet']
  const network = options.network ?? (io.env.WEIGHTLESS_NETWORK || undefined)
  const devnetPath = network === undefined ? findDevnet(io.cwd) : devnetFile(io.cwd, network)
  if (devnetPath !== undefined) {
    const { layer, chainId } = readDevnet(devnetPath)
    devnet = { path: devnetPath, chainId }
    layers.push({ layer, origin: () => devnetPath })
  } else if (network !== undefined) {
    const { layer, path } = namedNetwork({ io, network })
    layers.push({ layer, origin: () => `${path} [networks.${network}]` })
  }
  for (const path of configFiles(io)) {
    const { networks: _networks, ...top } = readTable(path)
    layers.push({ layer: parseLayer(camelKeys(top), (key) => `${key} in ${path}`), origin: () => path })
  }
  return merge(layers, devnet)
}

function merge(
  layers: readonly { layer: Layer; origin: (key: string) => string }[],
  devnet: NetworkSettings['devnet'],
): NetworkSettings {
  const merged: Layer = {}
  const origin: Record<string, string> = {}
  for (const { layer, origin: where } of layers) {
    const peersChosen = merged.nodes !== undefined || merged.indexerUrl !== undefined
    for (const [key, value] of Object.entries(layer)) {
      if (value === undefined || key in origin) continue
      if (peersChosen && (key === 'nodes' || key === 'indexerUrl')) continue
      Object.assign(merged, { [key]: value })
      origin[key] = where(key)
    }
  }
  return {
    rpcUrl: merged.rpcUrl ?? [],
    indexerUrl: merged.indexerUrl,
    nodes: merged.nodes ?? [],
    flow: merged.flow,
    kvUrl: merged.kvUrl,
    keystore: merged.keystore,
    passwordFile: merged.passwordFile,
    devnet,
    origin,
  }
}

function parseLayer(values: Record<string, unknown>, name: (key: string) => string): Layer {
  const parsed = layerSchema.safeParse(values)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const key = String(issue?.path[0] ?? '')
  throw new SettingError({
    code: 'SETTING_INVALID',
    message: `${name(key)} ${issue?.message ?? 'is not valid'}`,
    fix: `correct ${name(key)}`,
    details: { setting: key },
  })
}

/** `.weightless/devnet.json` here or in a folder above. */
function findDevnet(cwd: string): string | undefined {
  for (let at = resolve(cwd); ; at = dirname(at)) {
    const path = join(at, '.weightless', 'devnet.json')
    if (existsSync(path)) return path
    if (dirname(at) === at) return undefined
  }
}

/** `--network devnet`, or a path to a file or to the folder that holds it. */
function devnetFile(cwd: string, network: string): string | undefined {
  if (network === 'devnet') {
    const path = findDevnet(cwd)
    if (path !== undefined) return path
    throw new SettingError({
      code: 'NETWORK_UNKNOWN',
      message: 'there is no .weightless/devnet.json here or above',
      fix: 'start a devnet with: weightless up',
    })
  }
  const path = resolve(cwd, network)
  if (network.endsWith('.json') && existsSync(path)) return path
  const inside = join(path, 'devnet.json')
  return existsSync(inside) ? inside : undefined
}

function readDevnet(path: string): { layer: Layer; chainId: number } {
  try {
    const { chainId, rpcUrl, indexerUrl, nodes, contracts, kvUrl } = devnetSchema.parse(
      JSON.parse(readFileSync(path, 'utf8')),
    )
    const peers = indexerUrl === undefined ? { nodes: nodes.map((node) => node.url) } : { indexerUrl }
    return { chainId, layer: { rpcUrl: [rpcUrl], flow: contracts.Flow, kvUrl, ...peers } }
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

function namedNetwork({ io, network }: { io: CliIo; network: string }): { layer: Layer; path: string } {
  const shipped = fileURLToPath(new URL('networks.toml', import.meta.url))
  const known = new Set<string>()
  for (const path of [...configFiles(io), shipped]) {
    const { networks } = z
      .looseObject({ networks: z.record(z.string(), z.looseObject({})).default({}) })
      .parse(readTable(path))
    for (const name of Object.keys(networks)) known.add(name)
    const table = networks[network]
    if (table !== undefined)
      return { layer: parseLayer(camelKeys(table), (key) => `${key} of network ${network} in ${path}`), path }
  }
  throw new SettingError({
    code: 'NETWORK_UNKNOWN',
    message: `there is no network ${network}`,
    fix: `give one of devnet, ${[...known].join(', ')}, or the path of a devnet.json`,
    details: { network },
  })
}

/** Configuration files that exist, the nearest first. */
function configFiles({ cwd, env }: CliIo): string[] {
  const home = env.XDG_CONFIG_HOME ?? join(env.HOME ?? homedir(), '.config')
  const named = env.WEIGHTLESS_CONFIG
  if (named !== undefined && named !== '') return [resolve(cwd, named)]
  return [join(cwd, 'weightless.toml'), join(home, 'weightless', 'config.toml')].filter((path) => existsSync(path))
}

function readTable(path: string): Record<string, unknown> {
  try {
    return parseToml(readFileSync(path, 'utf8'))
  } catch (cause) {
    throw new SettingError({
      code: 'SETTING_INVALID',
      message: `${path} cannot be read as TOML`,
      fix: 'correct the file, or name another one with WEIGHTLESS_CONFIG',
      details: { path },
      cause,
    })
  }
}

function camelKeys(table: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(table).map(([key, value]) => [
      key.replaceAll(/[_-]([a-z])/g, (_, letter: string) => letter.toUpperCase()),
      value,
    ]),
  )
}
