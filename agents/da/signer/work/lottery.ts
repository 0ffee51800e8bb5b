import { keccak_256 } from '@noble/hashes/sha3.js'
import { fromHex, type Hash, toHex } from '#protocol/hex.ts'

/** What makes a ticket (da.md A5). */
export interface Ticket {
  seed: Hash
  epoch: number
  quorumId: number
  dataRoot: Hash
  row: number
}

/**
 * Hashes the lines of one blob: keccak256(seed ‖ u256 epoch ‖ u256 quorum ‖ data root ‖ u64 row) as a number. A line
 * above the target cannot win, whatever its data.
 */
export function lineQualities({ seed, epoch, quorumId, dataRoot }: Omit<Ticket, 'row'>): (row: number) => bigint {
  const input = Buffer.alloc(136)
  input.set(fromHex(seed), 0)
  input.writeBigUInt64BE(BigInt(epoch), 56)
  input.writeBigUInt64BE(BigInt(quorumId), 88)
  input.set(fromHex(dataRoot), 96)
  return (row) => {
    input.writeBigUInt64BE(BigInt(row), 128)
    return BigInt(toHex(keccak_256(input)))
  }
}

/** Line and data quality together: keccak256(u256 line ‖ u256 sub-line ‖ data) added; undefined when the sum overflows. */
export function pieceQuality({
  line,
  subline,
  data,
}: {
  line: bigint
  subline: number
  data: Uint8Array
}): bigint | undefined {
  const input = Buffer.alloc(64 + data.length)
  input.set(fromHex(`0x${line.toString(16).padStart(64, '0')}`), 0)
  input.writeBigUInt64BE(BigInt(subline), 56)
  input.set(data, 64)
  const quality = line + BigInt(toHex(keccak_256(input)))
  return quality >> 256n === 0n ? quality : undefined
}
