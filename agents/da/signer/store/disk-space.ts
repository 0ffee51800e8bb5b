import { freeDiskBytes } from '#kit/files.ts'
import { SignerError } from '../error.ts'

/** Guards the space for rows: what is held, and what is promised to uploads under way. */
export class DiskSpace {
  readonly #dir: string
  readonly #maxBytes: number
  readonly #minFreeBytes: number
  readonly #heldBytes: () => number
  #promised = 0

  constructor(parameters: { dir: string; maxBytes: number; minFreeBytes: number; heldBytes: () => number }) {
    this.#dir = parameters.dir
    this.#maxBytes = parameters.maxBytes
    this.#minFreeBytes = parameters.minFreeBytes
    this.#heldBytes = parameters.heldBytes
  }

  /** Promises space; call what it gives once the bytes are entered or given up. @throws SignerError `SIGNER_FULL` */
  async reserve(bytes: number): Promise<() => void> {
    const used = this.#heldBytes() + this.#promised
    if (used + bytes > this.#maxBytes) {
      throw full(`${used} bytes of the ${this.#maxBytes} allowed are used`, 'raise data.maxBytes, or wait for expiry')
    }
    this.#promised += bytes
    let returned = false
    const release = (): void => {
      if (returned) return
      returned = true
      this.#promised -= bytes
    }
    try {
      const free = await freeDiskBytes(this.#dir)
      if (free - this.#promised >= this.#minFreeBytes) return release
    } catch (error) {
      release()
      throw error
    }
    release()
    throw full(`the disk would have less than ${this.#minFreeBytes} bytes free`, 'free some disk space')
  }
}

function full(reason: string, fix: string): SignerError {
  return new SignerError({ code: 'SIGNER_FULL', message: `no room for more rows: ${reason}`, fix })
}
