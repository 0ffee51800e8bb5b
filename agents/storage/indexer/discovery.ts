import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { createJsonRpcClient, type JsonRpcClient } from '#kit/http/json-rpc-client.ts'
import type { Logger } from '#kit/log.ts'
import type { KnownNode, NodeRegistry } from './node-registry.ts'
import { fileLocationsSchema, peersSchema } from './wire.ts'

const CALL_TIMEOUT_MS = 5_000
const MAX_PEERS = 2_000
const MAX_ANNOUNCED = 16
const AT_ONCE = 8
const FAILED_PAUSE_MS = 600_000
const MAX_FAILED = 10_000

/**
 * Learns of further nodes from a storage node's admin port (storage-node §8.3): its peers now and then, and where a
 * file was announced. Each address is tried on a few ports and kept only if a node of this network answers. Addresses
 * of private networks are skipped unless allowed, so that a peer cannot point the indexer at the operator's own hosts.
 */
export class Discovery {
  readonly #rpc: JsonRpcClient
  readonly #parameters: DiscoveryParameters
  readonly #failedUntilMs = new Map<string, number>()
  #timer: NodeJS.Timeout | undefined
  #round: Promise<void> | undefined

  constructor(parameters: DiscoveryParameters) {
    this.#parameters = parameters
    this.#rpc = createJsonRpcClient({
      url: parameters.adminUrl,
      timeoutMs: CALL_TIMEOUT_MS,
      retries: 0,
      maxResponseBytes: 16 * 2 ** 20,
    })
  }

  /** Begins looking for peers in the background. Returns at once. */
  start(): void {
    void this.discover()
    this.#timer = setInterval(() => void this.discover(), this.#parameters.intervalMs)
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#rpc.close()
  }

  /** One round: asks for the peers and tries those not known yet. Never rejects; rounds do not overlap. */
  discover(): Promise<void> {
    this.#round ??= this.#discoverOnce()
      .catch((error: unknown) => {
        this.#parameters.log.warn({ err: error }, 'no peers from the discovery node')
      })
      .finally(() => {
        this.#round = undefined
      })
    return this.#round
  }

  /** Nodes that announced the file, as far as they answer. */
  async nodesWithFile(txSeq: number): Promise<KnownNode[]> {
    const places = fileLocationsSchema.parse(await this.#rpc.call('admin_getFileLocation', [txSeq, false]))
    const found = new Map<string, KnownNode>()
    await this.#each((places ?? []).slice(0, MAX_ANNOUNCED), async (place) => {
      const node = await this.#tryPlace(place)
      if (node !== undefined) found.set(node.url, node)
    })
    return [...found.values()]
  }

  /** Asks the network for a file. Its answers come to the discovery node later. */
  async findFile(txSeq: number): Promise<void> {
    await this.#rpc.call('admin_findFile', [txSeq])
  }

  async #discoverOnce(): Promise<void> {
    const peers = peersSchema.parse(await this.#rpc.call('admin_getPeers', []))
    const places = Object.values(peers)
      .slice(0, MAX_PEERS)
      .flatMap(({ seenIps, listeningAddresses }): Place[] => {
        const url = listeningAddresses.find((address) => /^https?:/.test(address))
        return url === undefined ? seenIps.slice(0, 4).map((ip) => ({ ip })) : [{ url }]
      })
    await this.#each(places, async (place) => {
      await this.#tryPlace(place)
    })
  }

  async #tryPlace({ url, ip }: Place): Promise<KnownNode | undefined> {
    for (const candidate of await this.#urlsOf({ url, ip })) {
      const known = this.#parameters.registry.has(candidate)
      if (!known && (this.#failedUntilMs.get(candidate) ?? 0) > Date.now()) continue
      const node = await this.#parameters.registry.add(candidate)
      if (node !== undefined) return node
      if (this.#failedUntilMs.size >= MAX_FAILED) this.#failedUntilMs.clear()
      this.#failedUntilMs.set(candidate, Date.now() + FAILED_PAUSE_MS)
    }
    return undefined
  }

  async #urlsOf({ url, ip }: Place): Promise<string[]> {
    if (url !== undefined) {
      const parsed = URL.parse(url)
      if (parsed === null || !/^https?:$/.test(parsed.protocol) || parsed.username !== '') return []
      if (!this.#parameters.allowPrivate && (await leadsInside(parsed.hostname))) return []
      return [parsed.href.replace(/\/+$/, '')]
    }
    if (ip === undefined || isIP(ip) === 0 || (isPrivateHost(ip) && !this.#parameters.allowPrivate)) return []
    const host = isIP(ip) === 6 ? `[${ip}]` : ip
    return this.#parameters.ports.map((port) => `http://${host}:${port}`)
  }

  async #each<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
    const next = items.values()
    const worker = async (): Promise<void> => {
      for (const item of next) await work(item)
    }
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, worker))
  }
}

/** Where a node may be: its own word for it, or an address it was seen at. */
interface Place {
  url?: string | undefined
  ip?: string | undefined
}

export interface DiscoveryParameters {
  /** Admin port of a storage node. */
  adminUrl: string
  /** Pause between rounds, in milliseconds. */
  intervalMs: number
  /** Ports tried at an address of which only the IP is known. */
  ports: readonly number[]
  /** Also try addresses of private networks and of this machine. */
  allowPrivate: boolean
  registry: NodeRegistry
  log: Logger
}

/** Whether a host, or what its name stands for, is private; a name that stands for nothing is no use either. */
async function leadsInside(host: string): Promise<boolean> {
  if (isPrivateHost(host)) return true
  if (isIP(host.replace(/^\[|\]$/g, '')) !== 0) return false
  const found = await lookup(host, { all: true }).catch(() => [])
  return found.length === 0 || found.some(({ address }) => isPrivateHost(address))
}

/**
 * Whether a host is on this machine or in a private network: names without a public suffix, loopback, link-local,
 * private and other special-purpose ranges (RFC 6890).
 */
export function isPrivateHost(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase()
  const version = isIP(bare)
  if (version === 0) return bare === 'localhost' || !bare.includes('.') || /\.(local|localhost|internal)$/.test(bare)
  if (version === 6) {
    const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(bare)?.[1]
    return mapped === undefined ? !/^[23]/.test(bare) : isPrivateHost(mapped)
  }
  const [a = 0, b = 0] = bare.split('.').map(Number)
  if (a === 0 || a === 10 || a === 127 || a >= 224) return true
  if (a === 172) return b >= 16 && b <= 31
  if (a === 192) return b === 168 || b === 0
  if (a === 100) return b >= 64 && b <= 127
  return (a === 169 && b === 254) || (a === 198 && (b === 18 || b === 19))
}
