import type { SlotRef } from './slot-files.ts'

/**
 * Which slots of one class are free. Kept in memory and rebuilt at start from the rows that name slots: a slot taken
 * for a write that a crash cut off is simply free again.
 */
export class SlotAllocator {
  readonly #slotClass: number
  readonly #free: number[] = []
  #end = 0

  constructor({ slotClass, used }: { slotClass: number; used: Iterable<number> }) {
    this.#slotClass = slotClass
    for (const slot of used) {
      for (; this.#end < slot; this.#end++) this.#free.push(this.#end)
      this.#end = slot + 1
    }
    // Low slots first, so that the files stay dense.
    this.#free.reverse()
  }

  take(): SlotRef {
    const reused = this.#free.pop()
    if (reused !== undefined) return { slotClass: this.#slotClass, slot: reused }
    const slot = this.#end
    this.#end += 1
    return { slotClass: this.#slotClass, slot }
  }

  release(slot: number): void {
    this.#free.push(slot)
  }

  /** Slots that hold something, or are about to. */
  get usedSlots(): number {
    return this.#end - this.#free.length
  }
}
