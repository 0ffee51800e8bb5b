import { keccak_256 } from '@noble/hashes/sha3.js'
import { WeightlessError } from '../error.ts'
import { type Hash, toHex } from '../hex.ts'

/** Token ids in one leaf of 256 bytes. */
export const TOKENS_PER_LEAF = 64
/** Longest list a root is made for: 2^22 tokens. */
export const MAX_TOKENS = 2 ** 22
/** Stands for "no token list": an engine that does not tell its tokens. */
export const NO_TOKENS: Hash = `0x${'00'.repeat(32)}`

/**
 * The Merkle root of a token list (verifiable-inference §D.2): ids as u32 little-endian, 64 to a chunk of 256 bytes, the
 * last one filled with zeros; leaf = keccak(chunk), node = keccak(left ‖ right), and the leaves filled up to a power of
 * two with the hash of a chunk of zeros. The list's length stands beside the root wherever the root stands. An empty
 * list has one chunk of zeros.
 *
 * @throws WeightlessError `TOKENS_INVALID`
 */
export function tokenRoot(ids: readonly number[] | Uint32Array): Hash {
  if (ids.length > MAX_TOKENS) throw invalid(`a token list has at most ${MAX_TOKENS} ids, not ${ids.length}`, 'length')
  const leaves = 2 ** Math.ceil(Math.log2(Math.max(1, Math.ceil(ids.length / TOKENS_PER_LEAF))))
  const nodes = new Uint8Array(32 * leaves)
  const chunk = new Uint8Array(4 * TOKENS_PER_LEAF)
  const view = new DataView(chunk.buffer)
  for (let leaf = 0; leaf < leaves; leaf++) {
    for (let at = 0; at < TOKENS_PER_LEAF; at++) {
      const id = ids[leaf * TOKENS_PER_LEAF + at] ?? 0
      if (!Number.isInteger(id) || id < 0 || id > 0xffff_ffff) {
        throw invalid(`token ${leaf * TOKENS_PER_LEAF + at} is ${id}, not an unsigned 32-bit number`, 'ids')
      }
      view.setUint32(4 * at, id, true)
    }
    nodes.set(keccak_256(chunk), 32 * leaf)
  }
  for (let count = leaves; count > 1; count /= 2) {
    for (let i = 0; i < count / 2; i++) nodes.set(keccak_256(nodes.subarray(64 * i, 64 * (i + 1))), 32 * i)
  }
  return toHex(nodes.subarray(0, 32))
}

function invalid(message: string, field: string): WeightlessError {
  return new WeightlessError({
    code: 'TOKENS_INVALID',
    message,
    fix: 'give the ids as the tokenizer made them',
    details: { field },
  })
}
