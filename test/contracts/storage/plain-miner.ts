import { bytesToHex, concatBytes, hexToBytes, numberToBytesBE } from '@noble/curves/utils.js'
import { blake2b } from '@noble/hashes/blake2.js'
import { keccak_256 } from '@noble/hashes/sha3.js'

/** A miner written straight from the specification, with no thought of speed: the oracle of the contract's tests. */

export const SECTOR_BYTES = 256
export const SEAL_BYTES = 4096
export const SEAL_SECTORS = 16
export const LOAD_SECTORS = 1024
export const WHOLE = 0xffff_ffff_ffff_ffffn

export interface Range {
  startPosition: bigint
  mineLength: bigint
  shardId: bigint
  shardMask: bigint
}

export interface Answer {
  contextDigest: string
  nonce: string
  minerId: string
  range: Range
  recallPosition: bigint
  sealOffset: bigint
  sealedContextDigest: string
  sealedData: string[]
  merkleProof: string[]
}

/** What there is in the flow: sectors and the tree over them. */
export interface FlowData {
  /** 4096 bytes from this sector on; undefined where there is nothing to mine. */
  seal(position: bigint): Uint8Array | undefined
  /** Siblings of the seal's subtree, bottom up. */
  proof(position: bigint): string[]
}

/** The 64 bytes that the scratchpad grows from. */
export function padSeed({ minerId, nonce, subtaskDigest, range }: PuzzleNonce): Uint8Array {
  const rangeDigest = keccak_256(
    concatBytes(word(range.startPosition), word(range.mineLength), word(range.shardId), word(range.shardMask)),
  )
  return blake2b(concatBytes(bytes(minerId), bytes(nonce), bytes(subtaskDigest), rangeDigest))
}

export interface PuzzleNonce {
  minerId: string
  nonce: string
  subtaskDigest: string
  range: Range
}

/** 16 KiB, and the hash of its last cell. */
export function scratchpad(seed: Uint8Array): { pad: Uint8Array; recallSeed: Uint8Array } {
  const cells: Uint8Array[] = []
  let cell = seed
  for (let i = 0; i < 256; i++) {
    const low = keccak_256(cell)
    const high = keccak_256(concatBytes(low, cell.subarray(32)))
    cell = concatBytes(low, high)
    cells.push(cell)
  }
  return { pad: concatBytes(...cells), recallSeed: keccak_256(cell) }
}

/** First sector of the load chunk that is drawn; undefined if it is behind the range. */
export function loadPosition(range: Range, recallSeed: Uint8Array): bigint | undefined {
  const chunks = range.mineLength / BigInt(LOAD_SECTORS)
  const chunk = ((number(recallSeed) % chunks) & range.shardMask) | range.shardId
  return chunk < chunks ? range.startPosition + chunk * BigInt(LOAD_SECTORS) : undefined
}

/** Seals 4096 bytes for a miner, a context and a place. */
export function seal({ data, minerId, contextDigest, position }: SealParameters): Uint8Array {
  const sealed = new Uint8Array(SEAL_BYTES)
  let mask = keccak_256(concatBytes(bytes(minerId), bytes(contextDigest), word(position)))
  for (let at = 0; at < SEAL_BYTES; at += 32) {
    for (let i = 0; i < 32; i++) sealed[at + i] = (data[at + i] ?? 0) ^ (mask[i] ?? 0)
    mask = keccak_256(sealed.subarray(at, at + 32))
  }
  return sealed
}

export interface SealParameters {
  data: Uint8Array
  minerId: string
  contextDigest: string
  position: bigint
}

/** The number that a seal of the load chunk hashes to. */
export function quality({ sealOffset, seed, pad, sealed }: QualityParameters): bigint {
  const quarter = (sealOffset % 4) * SEAL_BYTES
  const mixed = sealed.map((byte, i) => byte ^ (pad[quarter + i] ?? 0))
  const hash = blake2b(concatBytes(word(BigInt(sealOffset)), seed, new Uint8Array(32), mixed))
  return number(hash.subarray(0, 32))
}

export interface QualityParameters {
  sealOffset: number
  seed: Uint8Array
  pad: Uint8Array
  sealed: Uint8Array
}

/** `target` scaled for a range that is split into parts, as the contract compares it. */
export function scaledTarget({
  target,
  flowLength,
  range,
}: {
  target: bigint
  flowLength: bigint
  range: Range
}): bigint {
  const most = 1n << 35n
  const parts = 1n << BigInt([...(~range.shardMask & WHOLE).toString(2)].filter((bit) => bit === '1').length)
  const min = (value: bigint) => (value < most ? value : most)
  return (target / ((min(flowLength) << 64n) / min(flowLength / parts))) << 64n
}

export interface MineJob {
  contextDigest: string
  subtaskDigest: string
  minerId: string
  range: Range
  /** Already scaled. */
  target: bigint
  data: FlowData
  /** The digest that the seal at a position is sealed with. */
  sealContext(position: bigint): string
  /** The first nonce to try. */
  firstNonce?: bigint
  /** Whether this seal may be answered with. */
  accept?: (position: bigint, sealOffset: number) => boolean
}

/** The first answer below the target, over increasing nonces. */
export function mineAnswer({ accept = () => true, firstNonce = 1n, ...job }: MineJob): Answer {
  for (let nonce = firstNonce; nonce < firstNonce + 5_000n; nonce++) {
    const puzzle = { minerId: job.minerId, nonce: hex(word(nonce)), subtaskDigest: job.subtaskDigest, range: job.range }
    const seed = padSeed(puzzle)
    const { pad, recallSeed } = scratchpad(seed)
    const load = loadPosition(job.range, recallSeed)
    if (load === undefined) continue
    for (let sealOffset = 0; sealOffset < 64; sealOffset++) {
      const position = load + BigInt(sealOffset * SEAL_SECTORS)
      const data = accept(position, sealOffset) ? job.data.seal(position) : undefined
      if (data === undefined) continue
      const sealedContextDigest = job.sealContext(position)
      const sealed = seal({ data, minerId: job.minerId, contextDigest: sealedContextDigest, position })
      if (quality({ sealOffset, seed, pad, sealed }) > job.target) continue
      return {
        contextDigest: job.contextDigest,
        nonce: puzzle.nonce,
        minerId: job.minerId,
        range: job.range,
        recallPosition: position,
        sealOffset: BigInt(sealOffset),
        sealedContextDigest,
        sealedData: words(sealed),
        merkleProof: job.data.proof(position),
      }
    }
  }
  throw new Error('no answer below the target in 5,000 nonces')
}

/** A flow of pieces: what is not covered is empty. Holds a leaf hash for every sector: for small flows. */
export class SmallFlow implements FlowData {
  readonly #bytes: Uint8Array
  readonly #levels: Uint8Array[][]

  /** `pieces` lie where they say; `length` is the length of the flow in sectors. */
  constructor({ pieces, length }: { pieces: { position: number; data: Uint8Array }[]; length: number }) {
    const size = 2 ** Math.ceil(Math.log2(length))
    this.#bytes = new Uint8Array(size * SECTOR_BYTES)
    for (const { position, data } of pieces) this.#bytes.set(data, position * SECTOR_BYTES)
    const leaves: Uint8Array[] = Array.from({ length: size }, (_, i) =>
      i === 0 ? new Uint8Array(32) : keccak_256(this.#bytes.subarray(i * SECTOR_BYTES, (i + 1) * SECTOR_BYTES)),
    )
    this.#levels = [leaves]
    for (let level = leaves; level.length > 1; ) {
      const above: Uint8Array[] = []
      for (let i = 0; i < level.length; i += 2) above.push(pair(level[i], level[i + 1]))
      this.#levels.push(above)
      level = above
    }
  }

  get root(): string {
    return hex(this.#levels.at(-1)?.[0] ?? new Uint8Array(32))
  }

  /** Root of the aligned block of 2^height sectors at a position. */
  node(position: number, height: number): string {
    return hex(this.#levels[height]?.[position / 2 ** height] ?? new Uint8Array(32))
  }

  seal(position: bigint): Uint8Array | undefined {
    // Leaf 0 is not the hash of any data.
    if (position === 0n) return undefined
    const start = Number(position) * SECTOR_BYTES
    return this.#bytes.subarray(start, start + SEAL_BYTES)
  }

  proof(position: bigint): string[] {
    const proof: string[] = []
    let index = Number(position) / SEAL_SECTORS
    for (let height = 4; height < this.#levels.length - 1; height++) {
      proof.push(hex(this.#levels[height]?.[index ^ 1] ?? new Uint8Array(32)))
      index >>= 1
    }
    return proof
  }
}

/** A flow of 2^(height + 1) sectors whose upper half is one sector over and over: as large as one likes. */
export class RepetitiveFlow implements FlowData {
  readonly #height: number
  readonly #sector: Uint8Array
  /** Root of 2^h such sectors, and of the lower half (empty but for the reserved leaf). */
  readonly #roots: Uint8Array[]
  readonly #lower: Uint8Array

  constructor({ height, sector }: { height: number; sector: Uint8Array }) {
    this.#height = height
    this.#sector = sector
    this.#roots = [keccak_256(sector)]
    let zero: Uint8Array = keccak_256(new Uint8Array(SECTOR_BYTES))
    let lower: Uint8Array = new Uint8Array(32)
    for (let i = 0; i < height; i++) {
      this.#roots.push(pair(this.#roots[i], this.#roots[i]))
      lower = pair(lower, zero)
      zero = pair(zero, zero)
    }
    this.#lower = lower
  }

  /** The node to submit. */
  get node(): { root: string; height: number } {
    return { root: hex(this.#roots[this.#height] ?? new Uint8Array()), height: this.#height }
  }

  seal(position: bigint): Uint8Array | undefined {
    if (position < 1n << BigInt(this.#height)) return undefined
    return concatBytes(...Array.from({ length: SEAL_SECTORS }, () => this.#sector))
  }

  proof(): string[] {
    return [...this.#roots.slice(4, this.#height), this.#lower].map(hex)
  }
}

function pair(left: Uint8Array = new Uint8Array(32), right: Uint8Array = new Uint8Array(32)): Uint8Array {
  return keccak_256(concatBytes(left, right))
}

/** 32-byte words as hex. */
export function words(data: Uint8Array): string[] {
  return Array.from({ length: data.length / 32 }, (_, i) => hex(data.subarray(i * 32, i * 32 + 32)))
}

export function hex(data: Uint8Array): string {
  return `0x${bytesToHex(data)}`
}

export function bytes(text: string): Uint8Array {
  return hexToBytes(text.slice(2))
}

function word(value: bigint): Uint8Array {
  return numberToBytesBE(value, 32)
}

function number(data: Uint8Array): bigint {
  return BigInt(hex(data))
}
