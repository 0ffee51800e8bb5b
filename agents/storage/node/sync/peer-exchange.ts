import type { KeyObject } from 'node:crypto'
import { BlockList, isIP } from 'node:net'
import type { Logger } from '#kit/log.ts'
import type { Hash } from '#protocol/hex.ts'
import {
  nodeIdOf,
  PeerRecordError,
  type SignedPeerRecord,
  signPeerRecord,
  verifyPeerRecord,
} from '#protocol/storage/peer-record.ts'
import type { ShardConfig } from '#protocol/storage/shard.ts'
import { reasonOf } from '../error.ts'
import type { Peer, PeerBook } from './peer-book.ts'

export interface PeerExchangeParameters {
  key: KeyObject
  identity: { chainId: number; flow: `0x${string}` }
  /** Where others reach this node; without it, it learns of others and is not made known. */
  publicUrl: string | undefined
  shard: () => ShardConfig
  peers: PeerBook
  log: Logger
  now?: (() => number) | undefined
  random?: (() => number) | undefined
}

/** Records in one answer. */
export const MAX_RECORDS_TOLD = 256
/** Peers asked in one round: with a round each half minute a record is everywhere within minutes. */
const ASKED_PER_ROUND = 4
const RENEW_MS = 3_600_000

/**
 * How nodes come to know each other from a single address: each tells those records of others that it has found to be
 * right itself, and its own. A record is signed by the node it names, so nobody can place a node at another address.
 */
export class PeerExchange {
  readonly nodeId: Hash
  readonly #parameters: PeerExchangeParameters
  readonly #now: () => number
  readonly #acceptsPrivate: boolean
  #own: SignedPeerRecord | undefined

  constructor(parameters: PeerExchangeParameters) {
    this.#parameters = parameters
    this.#now = parameters.now ?? Date.now
    this.nodeId = nodeIdOf(parameters.key)
    this.#acceptsPrivate = parameters.publicUrl !== undefined && isPrivateHost(parameters.publicUrl)
  }

  /** The own record, renewed each hour and when the shard changes. */
  own(): SignedPeerRecord | undefined {
    const { key, identity, publicUrl, shard } = this.#parameters
    if (publicUrl === undefined) return undefined
    const now = this.#now()
    const { shardId, numShard } = shard()
    const kept = this.#own
    const fresh = kept !== undefined && now - kept.issuedAtS * 1_000 < RENEW_MS
    if (fresh && kept.shard.shardId === shardId && kept.shard.numShard === numShard) return kept
    const record = { ...identity, url: trimSlashes(publicUrl), shard: { shardId, numShard } }
    this.#own = signPeerRecord({ record: { ...record, issuedAtS: Math.floor(now / 1_000) }, privateKey: key })
    return this.#own
  }

  /** What is told to whoever asks: the own record, and those of peers that answered as their record says. */
  told(): SignedPeerRecord[] {
    const own = this.own()
    const others = this.#parameters.peers
      .list()
      .flatMap(({ state, record }) => (state === 'up' && record !== undefined ? [record] : []))
    return [...(own === undefined ? [] : [own]), ...others].slice(0, MAX_RECORDS_TOLD)
  }

  /**
   * Takes a record in. It is believed once the node at its address answers as the node it names.
   *
   * @throws {PeerRecordError}
   */
  take(record: SignedPeerRecord): void {
    verifyPeerRecord({ record, identity: this.#parameters.identity, nowS: Math.floor(this.#now() / 1_000) })
    if (record.nodeId === this.nodeId) return
    if (!this.#acceptsPrivate && isPrivateHost(record.url)) {
      throw new PeerRecordError({
        code: 'PEER_RECORD_INVALID',
        message: 'the peer record names an address of a private network',
        fix: 'announce an address that others can reach; list nodes of a private network in sync.peers',
        details: { url: record.url },
      })
    }
    this.#parameters.peers.addRecord(record)
  }

  /** Swaps records with some of the peers. Never rejects. */
  async round(signal: AbortSignal): Promise<void> {
    const { peers, random = Math.random } = this.#parameters
    const up = peers.list().filter(({ state, client }) => state === 'up' && client.isBinary)
    for (let asked = 0; asked < ASKED_PER_ROUND && up.length > 0; asked += 1) {
      const [peer] = up.splice(Math.floor(random() * up.length), 1)
      if (peer !== undefined) await this.#swap(peer, signal)
    }
  }

  async #swap(peer: Peer, signal: AbortSignal): Promise<void> {
    const { log } = this.#parameters
    try {
      const own = this.own()
      if (own !== undefined) await peer.client.announce(own, signal)
      for (const record of await peer.client.records(signal)) {
        try {
          this.take(record)
        } catch (error) {
          log.debug({ peer: peer.url, reason: reasonOf(error) }, 'a peer record was refused')
        }
      }
    } catch (error) {
      log.debug({ peer: peer.url, reason: reasonOf(error) }, 'no peer records were swapped')
    }
  }
}

/** Addresses that mean another machine to everybody who reads them (RFC 1918, 4193, 3927, 6598). */
const privateAddresses = new BlockList()
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
] as const) {
  privateAddresses.addSubnet(network, prefix, 'ipv4')
}
for (const [network, prefix] of [
  ['::', 127],
  ['fc00::', 7],
  ['fe80::', 10],
] as const) {
  privateAddresses.addSubnet(network, prefix, 'ipv6')
}

/** True for addresses of private networks and names without a dot. What a public name resolves to is not looked at. */
export function isPrivateHost(url: string): boolean {
  const host = URL.parse(url)?.hostname.replace(/^\[|\]$/g, '') ?? ''
  const version = isIP(host)
  if (version === 0) return !host.includes('.') || host.endsWith('.local') || host.endsWith('.internal')
  return privateAddresses.check(host, version === 4 ? 'ipv4' : 'ipv6')
}

function trimSlashes(url: string): string {
  return url.replace(/\/+$/, '')
}
