import { WeightlessError } from '#protocol/error.ts'
import type { Hex } from '#protocol/hex.ts'

/**
 * The key-value node cannot be used as asked. Codes `KV_UNREACHABLE`, `KV_ANSWER` (it sent what is no answer),
 * `KV_REFUSED` (it answered with an error), `KV_STREAM_NOT_HELD`, `KV_STREAM` (no stream id or name), `KV_SIZE`.
 */
export class KvNodeError extends WeightlessError {}

/** A key has no value: never written (`deletedIn` undefined), or deleted. Code `KV_KEY_UNKNOWN`. */
export class KvKeyUnknownError extends WeightlessError {
  constructor({ streamId, key, deletedIn }: { streamId: Hex; key: string; deletedIn?: number | undefined }) {
    super({
      code: 'KV_KEY_UNKNOWN',
      message:
        deletedIn === undefined
          ? `the stream ${streamId} has no key ${key}`
          : `the key ${key} of the stream ${streamId} was deleted in version ${deletedIn}`,
      fix: 'see the keys with: weightless kv list STREAM',
      details: { streamId, key, deletedIn },
    })
  }
}

/**
 * A write that the streams do not take, before it was paid (`txSeq` undefined) or as the key-value node replayed it.
 * Codes `KV_VERSION_CONFLICT`, `KV_WRITE_DENIED`, `KV_CONTROL_DENIED`, `KV_DATA_INVALID`, `KV_DATA_MISSING`, `KV_TAGS`,
 * `KV_RESULT`. `details`: `result` (the node's own word), `txSeq`.
 */
export class KvWriteRefusedError extends WeightlessError {
  constructor({ result, txSeq }: { result: string; txSeq?: number | undefined }) {
    const { code, message, fix } = explain(result)
    super({
      code,
      message: txSeq === undefined ? `${message}; nothing was paid` : `submission ${txSeq} changed nothing: ${message}`,
      fix,
      details: { result, txSeq },
    })
  }
}

/** What the results of replay mean (storage-node §7.4), by the word they begin with. */
const MEANINGS: readonly { word: string; code: string; message: string; fix: string }[] = [
  {
    word: 'VersionConfliction',
    code: 'KV_VERSION_CONFLICT',
    message: 'a key is newer than the version that was given',
    fix: 'read the key again, decide anew, and write with the version that was read',
  },
  {
    word: 'SenderNoWritePermission',
    code: 'KV_WRITE_DENIED',
    message: 'the account may not write this stream',
    fix: 'use the account of an admin or writer, or ask one for: weightless kv grant STREAM ACCOUNT',
  },
  {
    word: 'WritePermissionDenied',
    code: 'KV_WRITE_DENIED',
    message: 'the account may not write this key',
    fix: 'a protected key is written by its own writers and admins; others by writers of the stream',
  },
  {
    word: 'AccessControlPermissionDenied',
    code: 'KV_CONTROL_DENIED',
    message: 'the account may not change these rights',
    fix: 'use the account of an admin of the stream',
  },
  {
    word: 'DataParseError',
    code: 'KV_DATA_INVALID',
    message: 'the key-value node cannot read the data',
    fix: 'encrypt with the key that the node reads its streams with, or not at all where it has none',
  },
  {
    word: 'DownloadFailed',
    code: 'KV_DATA_MISSING',
    message: 'the key-value node could not fetch the data',
    fix: 'check the storage nodes; the node tries again by itself, see: weightless kv result SEQUENCE',
  },
  {
    word: 'TagsMismatch',
    code: 'KV_TAGS',
    message: 'the tags do not name every stream that is written',
    fix: 'tag every stream',
  },
]

function explain(result: string): { code: string; message: string; fix: string } {
  const found = MEANINGS.find(({ word }) => result.startsWith(word))
  if (found === undefined) return { code: 'KV_RESULT', message: result, fix: 'see the documentation of the node' }
  const { word, code, message, fix } = found
  return { code, message: result === word ? message : `${message} (${result})`, fix }
}
