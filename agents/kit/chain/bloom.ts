import { hexToBytes } from 'viem'
import { keccak256 } from '#kernels/keccak.ts'
import type { Hash } from './block.ts'
import type { LogFilter } from './log-filter.ts'

/**
 * Whether a block's logs bloom (Yellow Paper §4.4.1, 2048 bits, three per item) allows for a log that passes the
 * filter. "No" is certain where the chain fills its blooms (some write zeros: then the answer is always no); "yes" may
 * be chance.
 */
export type BloomTest = (logsBloom: Hash) => boolean

/** Hashes the filter's items once, so that a test costs a few bit look-ups. */
export function createBloomTest(filter: LogFilter): BloomTest {
  const groups = [filter.addresses, ...filter.topics.map((topic) => (typeof topic === 'string' ? [topic] : topic))]
    .filter((group) => group !== null)
    .map((group) => group.map(bloomBits))
  return (logsBloom) => {
    const bloom = hexToBytes(logsBloom)
    return groups.every((group) => group.some((bits) => bits.every((bit) => isSet(bloom, bit))))
  }
}

function bloomBits(item: Hash): number[] {
  const hash = keccak256(hexToBytes(item))
  return [0, 2, 4].map((offset) => (((hash[offset] ?? 0) << 8) | (hash[offset + 1] ?? 0)) & 2047)
}

function isSet(bloom: Uint8Array, bit: number): boolean {
  return ((bloom[255 - (bit >> 3)] ?? 0) & (1 << (bit & 7))) !== 0
}
