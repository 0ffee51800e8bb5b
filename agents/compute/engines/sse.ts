import { EngineError } from './engine-error.ts'

/** Most bytes of one event of an upstream: 1 MiB. */
export const MAX_EVENT_BYTES = 1024 * 1024

/**
 * The `data` of every event of a server-sent event stream (WHATWG HTML §9.2.6). Lines may end in LF, CR or CRLF; an event
 * that the end of the stream cuts off is dropped.
 *
 * @throws EngineError `ENGINE_UPSTREAM` when one event is larger than `maxEventBytes`
 */
export async function* readSse(
  stream: AsyncIterable<Uint8Array>,
  { maxEventBytes = MAX_EVENT_BYTES }: { maxEventBytes?: number } = {},
): AsyncGenerator<string, void, void> {
  const decoder = new TextDecoder()
  let rest = ''
  let data: string[] = []
  let size = 0
  let endedWithCr = false
  for await (const bytes of stream) {
    let text = decoder.decode(bytes, { stream: true })
    // A CRLF may be split between two reads: the CR has ended the line already.
    if (endedWithCr && text.startsWith('\n')) text = text.slice(1)
    if (text === '') continue
    endedWithCr = text.endsWith('\r')
    const lines = (rest + text).split(/\r\n|\n|\r/)
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield data.join('\n')
        data = []
        size = 0
        continue
      }
      if (!line.startsWith('data:')) continue
      const value = line.slice(line[5] === ' ' ? 6 : 5)
      size += value.length
      if (size > maxEventBytes) throw tooLarge(maxEventBytes)
      data.push(value)
    }
    if (rest.length > maxEventBytes) throw tooLarge(maxEventBytes)
  }
}

function tooLarge(limit: number): EngineError {
  return new EngineError({
    code: 'ENGINE_UPSTREAM',
    message: `the upstream sent an event of more than ${limit} bytes`,
    details: { limit },
  })
}
