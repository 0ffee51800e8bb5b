import { fromHex, type Hash, toHex } from '#protocol/hex.ts'
import { AltDaError } from './error.ts'

/**
 * Commitments as op-stack batchers put them on L1 (op-stack specification, Alt-DA mode), without the leading 0x01 of the
 * batcher's transaction:
 *
 * - keccak: 0x00 ‖ keccak256(input)
 * - generic: 0x01 ‖ layer byte ‖ epoch u64 LE ‖ quorum u64 LE ‖ data root (32), 50 bytes
 */
export type AltDaCommitment =
  | { type: 'keccak'; hash: Hash }
  | { type: 'generic'; layer: number; epoch: number; quorumId: number; dataRoot: Hash }

/** The layer byte of this project where the configuration says no other: `W`. */
export const LAYER_BYTE = 0x57

const KECCAK = 0
const GENERIC = 1
const KECCAK_BYTES = 33
const GENERIC_BYTES = 50

/** Most hex digits a commitment may have. */
export const MAX_COMMITMENT_CHARS = 2 + 2 * GENERIC_BYTES

export function encodeGeneric({
  layer,
  epoch,
  quorumId,
  dataRoot,
}: {
  layer: number
  epoch: number
  quorumId: number
  dataRoot: Hash
}): Uint8Array {
  const bytes = Buffer.alloc(GENERIC_BYTES)
  bytes[0] = GENERIC
  bytes[1] = layer
  bytes.writeBigUInt64LE(BigInt(epoch), 2)
  bytes.writeBigUInt64LE(BigInt(quorumId), 10)
  bytes.set(fromHex(dataRoot, { byteLength: 32 }), 18)
  return bytes
}

/**
 * The commitment of a path: hex with or without 0x.
 *
 * @throws AltDaError `COMMITMENT_HEX` (not hex), `COMMITMENT_TYPE` (neither kind), `COMMITMENT_FORM` (its kind, but wrong
 * length or layer: it will never be right)
 */
export function decodeCommitment(text: string, { layer }: { layer: number }): AltDaCommitment {
  const digits = text.replace(/^0x/i, '')
  if (!/^([0-9a-fA-F]{2})+$/.test(digits) || digits.length > MAX_COMMITMENT_CHARS * 2) {
    throw new AltDaError({
      code: 'COMMITMENT_HEX',
      message: 'the commitment is not hex',
      fix: 'give /get/0x and the hex digits of the commitment',
    })
  }
  const bytes = Buffer.from(digits, 'hex')
  if (bytes[0] === KECCAK) {
    if (bytes.length !== KECCAK_BYTES) throw wrongForm(`a keccak commitment has ${KECCAK_BYTES} bytes`)
    return { type: 'keccak', hash: toHex(bytes.subarray(1)) }
  }
  if (bytes[0] !== GENERIC) {
    throw new AltDaError({
      code: 'COMMITMENT_TYPE',
      message: `commitments of type ${bytes[0]} are not known`,
      fix: 'use type 0 (keccak) or 1 (generic)',
    })
  }
  if (bytes[1] !== layer) throw wrongForm(`its layer byte is ${bytes[1]}, not ${layer}`)
  if (bytes.length !== GENERIC_BYTES) throw wrongForm(`a generic commitment has ${GENERIC_BYTES} bytes here`)
  const [epoch, quorumId] = [bytes.readBigUInt64LE(2), bytes.readBigUInt64LE(10)]
  if (epoch > BigInt(Number.MAX_SAFE_INTEGER) || quorumId > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw wrongForm('its epoch or quorum number is impossible')
  }
  const dataRoot = toHex(bytes.subarray(18))
  return { type: 'generic', layer, epoch: Number(epoch), quorumId: Number(quorumId), dataRoot }
}

function wrongForm(reason: string): AltDaError {
  return new AltDaError({
    code: 'COMMITMENT_FORM',
    message: `the commitment cannot be one of this server: ${reason}`,
    fix: 'check which server the batch was put to',
  })
}
