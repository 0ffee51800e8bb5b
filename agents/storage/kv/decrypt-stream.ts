import { StreamDataError } from '#protocol/kv/stream-data.ts'
import {
  cryptAt,
  type DecryptionKeys,
  decryptionKey,
  EncryptionError,
  HEADER_BYTES,
  MAX_HEADER_BYTES,
  parseEncryptionHeader,
} from '#protocol/storage/encryption.ts'
import type { FetchStream, StreamFile } from './replayer.ts'

/**
 * Fetches as `fetch` does and decrypts what comes (storage-node §5.6, §7.4). Data that are not encrypted, or not for
 * this kind of key, come as a file that cannot be parsed, because asking for them again would not change them: replay
 * records a `DataParseError` and goes on. A wrong key of the right kind shows itself in the same way.
 */
export function decryptStreams({ fetch, keys }: { fetch: FetchStream; keys: DecryptionKeys }): FetchStream {
  return async (submission, signal) => {
    const file = await fetch(submission, signal)
    try {
      const length = Math.min(MAX_HEADER_BYTES, submission.sizeBytes)
      return opened({ file, keys, head: await file.read({ offset: 0, length }), storedBytes: submission.sizeBytes })
    } catch (error) {
      if (error instanceof EncryptionError) return unreadable({ file, reason: reasonOf(error) })
      await file[Symbol.asyncDispose]()
      throw error
    }
  }
}

interface OpenedParameters {
  file: StreamFile
  keys: DecryptionKeys
  head: Uint8Array
  storedBytes: number
}

function opened({ file, keys, head, storedBytes }: OpenedParameters): StreamFile {
  const header = parseEncryptionHeader(head)
  const key = decryptionKey({ header, keys })
  const headerBytes = HEADER_BYTES[header.version]
  return {
    // Unlike plain data, these end with their last byte: the zeros of the last sector would decrypt to noise.
    sizeBytes: storedBytes - headerBytes,
    read: async ({ offset, length }) => {
      const data = await file.read({ offset: headerBytes + offset, length })
      return cryptAt({ key, nonce: header.nonce, offset, data })
    },
    [Symbol.asyncDispose]: () => file[Symbol.asyncDispose](),
  }
}

function unreadable({ file, reason }: { file: StreamFile; reason: string }): StreamFile {
  return {
    sizeBytes: file.sizeBytes,
    read: async () => {
      throw new StreamDataError({ code: 'STREAM_DATA', message: reason })
    },
    [Symbol.asyncDispose]: () => file[Symbol.asyncDispose](),
  }
}

function reasonOf({ code }: EncryptionError): string {
  if (code === 'ENCRYPTION_KEY_MISSING') return 'Encrypted for another kind of key'
  return code === 'ENCRYPTION_HEADER' ? 'Not encrypted' : 'Invalid encryption header'
}
