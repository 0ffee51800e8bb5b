import { createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import { WeightlessError } from '../error.ts'
import { fromHex, type Hash, type Hex, toHex } from '../hex.ts'
import { isShard, type ShardConfig } from './shard.ts'

/** Where a storage node can be reached, said by itself. */
export interface PeerRecord {
  /** Ed25519 public key, 32 bytes: who the node is, whatever its address. */
  nodeId: Hash
  /** Its HTTP address, without a slash at the end; at most {@link MAX_PEER_URL_BYTES} bytes. */
  url: string
  chainId: number
  flow: Hex
  shard: ShardConfig
  /** Unix seconds; of two records of a node the later one counts. */
  issuedAtS: number
}

/** A record with the node's signature, as it is passed from node to node. */
export interface SignedPeerRecord extends PeerRecord {
  /** Ed25519 (RFC 8032), 64 bytes, over {@link peerRecordBytes}. */
  signature: Hex
}

/**
 * A record that cannot be used. Codes `PEER_RECORD_SIGNATURE`, `PEER_RECORD_STALE`, `PEER_RECORD_FOREIGN`,
 * `PEER_RECORD_INVALID`.
 */
export class PeerRecordError extends WeightlessError {}

export const MAX_PEER_URL_BYTES = 512

/** A record that nobody has renewed for so long is no longer passed on. */
export const PEER_RECORD_LIFETIME_S = 86_400

/** Clocks differ: a record may come from so far in the future. */
const CLOCK_SKEW_S = 300

const DOMAIN = new TextEncoder().encode('weightless-peer-1')
/** DER head of an Ed25519 SubjectPublicKeyInfo (RFC 8410 §4); the 32 bytes of the key follow. */
const SPKI_HEAD = Uint8Array.of(0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00)

/**
 * What is signed: domain ‖ key (32) ‖ chainId u64 ‖ shardId u32 ‖ numShard u32 ‖ issuedAt u64 ‖ flow (20) ‖ url, numbers
 * big-endian. The only part of variable length stands last.
 */
export function peerRecordBytes({ nodeId, url, chainId, flow, shard, issuedAtS }: PeerRecord): Uint8Array {
  const numbers = new DataView(new ArrayBuffer(24))
  numbers.setBigUint64(0, BigInt(chainId))
  numbers.setUint32(8, shard.shardId)
  numbers.setUint32(12, shard.numShard)
  numbers.setBigUint64(16, BigInt(issuedAtS))
  return Buffer.concat([
    DOMAIN,
    fromHex(nodeId, { byteLength: 32, field: 'nodeId' }),
    new Uint8Array(numbers.buffer),
    fromHex(flow, { byteLength: 20, field: 'flow' }),
    new TextEncoder().encode(url),
  ])
}

/** The public key of a node's private key, as {@link PeerRecord.nodeId}. */
export function nodeIdOf(privateKey: KeyObject): Hash {
  const der = createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
  return toHex(der.subarray(SPKI_HEAD.length))
}

export function signPeerRecord({
  record,
  privateKey,
}: {
  record: Omit<PeerRecord, 'nodeId'>
  privateKey: KeyObject
}): SignedPeerRecord {
  const named = { ...record, nodeId: nodeIdOf(privateKey) }
  return { ...named, signature: toHex(sign(null, peerRecordBytes(named), privateKey)) }
}

/**
 * Checks that a record is of this network, fresh, and signed by the node it names.
 *
 * @throws {PeerRecordError} see its codes
 */
export function verifyPeerRecord({
  record,
  identity,
  nowS,
}: {
  record: SignedPeerRecord
  identity: { chainId: number; flow: string }
  nowS: number
}): void {
  const { url, chainId, flow, shard, issuedAtS, nodeId, signature } = record
  if (new TextEncoder().encode(url).length > MAX_PEER_URL_BYTES || !isHttp(url) || !isShard(shard)) {
    throw refused('PEER_RECORD_INVALID', `its address or shard cannot be used`, record)
  }
  if (chainId !== identity.chainId || flow.toLowerCase() !== identity.flow.toLowerCase()) {
    throw refused('PEER_RECORD_FOREIGN', `it is of chain ${chainId}, flow ${flow}`, record)
  }
  if (issuedAtS > nowS + CLOCK_SKEW_S || issuedAtS + PEER_RECORD_LIFETIME_S < nowS) {
    throw refused('PEER_RECORD_STALE', `it was issued ${nowS - issuedAtS} s ago`, record)
  }
  if (!isSigned({ record, nodeId, signature })) throw refused('PEER_RECORD_SIGNATURE', 'its signature is wrong', record)
}

function isSigned({ record, nodeId, signature }: { record: PeerRecord; nodeId: Hash; signature: Hex }): boolean {
  try {
    const key = fromHex(nodeId, { byteLength: 32 })
    const der = Buffer.concat([SPKI_HEAD, key])
    const publicKey = createPublicKey({ key: der, format: 'der', type: 'spki' })
    return verify(null, peerRecordBytes(record), publicKey, fromHex(signature, { byteLength: 64 }))
  } catch {
    return false
  }
}

function isHttp(url: string): boolean {
  const parsed = URL.parse(url)
  return parsed !== null && /^https?:$/.test(parsed.protocol) && parsed.username === '' && parsed.password === ''
}

function refused(code: string, why: string, { url, nodeId }: PeerRecord): PeerRecordError {
  return new PeerRecordError({
    code,
    message: `the peer record of ${url.slice(0, 100)} is refused: ${why}`,
    fix: 'the node must sign a record of this network with its own key, at least once a day',
    details: { url: url.slice(0, MAX_PEER_URL_BYTES), nodeId },
  })
}
