/** Which segments of a file are here: one bit each. */
export class Presence {
  readonly segments: number
  readonly #bits: Uint8Array
  #count = 0

  constructor(segments: number) {
    this.segments = segments
    this.#bits = new Uint8Array(Math.ceil(segments / 8))
  }

  get count(): number {
    return this.#count
  }

  get bytes(): number {
    return this.#bits.length
  }

  has(index: number): boolean {
    return ((this.#bits[index >> 3] ?? 0) & (1 << (index & 7))) !== 0
  }

  add(index: number): void {
    if (this.has(index)) return
    this.#bits[index >> 3] = (this.#bits[index >> 3] ?? 0) | (1 << (index & 7))
    this.#count += 1
  }
}

/** Presence of the files most recently touched, bounded by memory; the rest is read again when asked for. */
export class PresenceCache {
  readonly #entries = new Map<number, Presence>()
  readonly #maxBytes: number
  #bytes = 0

  constructor(maxBytes = 8 * 2 ** 20) {
    this.#maxBytes = maxBytes
  }

  get(objectId: number, load: () => Presence): Presence {
    const known = this.#entries.get(objectId)
    const presence = known ?? load()
    if (known) this.#entries.delete(objectId)
    else this.#bytes += cost(presence)
    this.#entries.set(objectId, presence)
    for (const [id, entry] of this.#entries) {
      if (this.#bytes <= this.#maxBytes || id === objectId) break
      this.#entries.delete(id)
      this.#bytes -= cost(entry)
    }
    return presence
  }

  /** Marks a segment that has just become durable. */
  add(objectId: number, index: number): void {
    this.#entries.get(objectId)?.add(index)
  }

  /** Forgets a file whose rows changed otherwise. */
  drop(objectId: number): void {
    const entry = this.#entries.get(objectId)
    if (!entry) return
    this.#entries.delete(objectId)
    this.#bytes -= cost(entry)
  }
}

function cost(presence: Presence): number {
  return presence.bytes + 128
}
