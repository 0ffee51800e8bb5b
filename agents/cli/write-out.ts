import { once } from 'node:events'
import type { Writable } from 'node:stream'

/** Writes bytes to a stream as fast as it takes them, and waits until they have left this process. */
export async function writeOut({
  stream,
  bytes,
  signal,
}: {
  stream: Writable
  bytes: AsyncIterable<Uint8Array>
  signal: AbortSignal
}): Promise<void> {
  for await (const part of bytes) {
    signal.throwIfAborted()
    if (!stream.write(part)) await once(stream, 'drain', { signal })
  }
  await new Promise<void>((resolve, reject) => {
    stream.write('', (error) => (error === null || error === undefined ? resolve() : reject(error)))
  })
}
