/** Bytes to send: `start` to `end`, the end not included. */
export interface ByteRange {
  start: number
  end: number
}

/** `whole`: no usable range was asked for, send everything. `unsatisfiable`: answer 416. */
export type RangeAnswer = { kind: 'whole' } | ({ kind: 'part' } & ByteRange) | { kind: 'unsatisfiable' }

/**
 * Reads a `Range` header (RFC 9110 §14) for a representation of `sizeBytes`.
 *
 * One range is honoured: `bytes=a-b`, `bytes=a-` or the suffix `bytes=-n`. A malformed header, another unit, or several
 * ranges are ignored, as the RFC allows: the whole is sent.
 *
 * @example
 * parseRange({ header: 'bytes=-100', sizeBytes: 1000 }) // { kind: 'part', start: 900, end: 1000 }
 */
export function parseRange({ header, sizeBytes }: { header: string | undefined; sizeBytes: number }): RangeAnswer {
  const match = header === undefined ? null : /^bytes[ \t]*=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*$/i.exec(header)
  const [, first = '', last = ''] = match ?? []
  if (match === null || (first === '' && last === '')) return { kind: 'whole' }
  if (first === '') {
    const length = Math.min(Number(last), sizeBytes)
    if (length === 0) return { kind: 'unsatisfiable' }
    return { kind: 'part', start: sizeBytes - length, end: sizeBytes }
  }
  const start = Number(first)
  if (last !== '' && Number(last) < start) return { kind: 'whole' }
  if (start >= sizeBytes) return { kind: 'unsatisfiable' }
  return { kind: 'part', start, end: last === '' ? sizeBytes : Math.min(Number(last) + 1, sizeBytes) }
}

/**
 * Whether a conditional request is answered "not modified": `If-None-Match` names the entity tag, or any.
 * Weak tags compare equal to strong ones here (RFC 9110 §13.1.2).
 */
export function notModified({ ifNoneMatch, etag }: { ifNoneMatch: string | undefined; etag: string }): boolean {
  if (ifNoneMatch === undefined) return false
  if (ifNoneMatch.trim() === '*') return true
  return ifNoneMatch
    .slice(0, 8192)
    .split(',')
    .some((tag) => tag.trim().replace(/^W\//, '') === etag)
}

/** Whether a `Range` still applies: without `If-Range`, or when it names exactly this (strong) tag. */
export function rangeApplies({ ifRange, etag }: { ifRange: string | undefined; etag: string }): boolean {
  return ifRange === undefined || ifRange.trim() === etag
}
