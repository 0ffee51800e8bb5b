import { resolveObjectURL } from 'node:buffer'
import { Worker as NodeWorker } from 'node:worker_threads'

/** What a worker's script expects of a browser: `self`, `postMessage`, `onmessage`. */
const prelude = `const { parentPort } = require('node:worker_threads'); globalThis.self = globalThis
globalThis.postMessage = (m) => parentPort.postMessage(m); parentPort.on('message', (data) => onmessage({ data }));\n`

/** The part of a browser's Worker that jax-js uses, on Node's worker threads; messages wait until the script runs. */
class BlobWorker {
  onmessage: ((event: { data: unknown }) => void) | undefined
  onerror: ((event: { message: string }) => void) | undefined
  readonly #waiting: unknown[] = []
  #worker: NodeWorker | undefined

  constructor(url: string | URL) {
    this.#start(String(url)).catch((error) => this.onerror?.({ message: String(error) }))
  }

  postMessage(message: unknown): void {
    if (this.#worker === undefined) this.#waiting.push(message)
    else this.#worker.postMessage(message)
  }

  terminate(): void {
    void this.#worker?.terminate()
  }

  async #start(url: string): Promise<void> {
    const source = await resolveObjectURL(url)?.text()
    if (source === undefined) throw new Error('the worker script is gone')
    const worker = new NodeWorker(prelude + source, { eval: true })
    worker.on('message', (data) => this.onmessage?.({ data }))
    worker.on('error', (error) => this.onerror?.({ message: String(error) }))
    for (const message of this.#waiting) worker.postMessage(message)
    this.#waiting.length = 0
    this.#worker = worker
  }
}

/**
 * Lets jax-js compute on `threads` threads. Node has no global `Worker`, and without one jax-js runs on a single thread
 * and says nothing. Call before jax-js is first imported; with one thread nothing is installed. The threads live as long
 * as the process.
 */
export function installWorkerThreads(threads: number): void {
  Object.defineProperty(globalThis.navigator, 'hardwareConcurrency', { value: threads, configurable: true })
  if (threads > 1) Object.assign(globalThis, { Worker: BlobWorker })
}
