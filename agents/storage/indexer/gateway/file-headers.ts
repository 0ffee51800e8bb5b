import { contentType, lookup } from 'mime-types'

/**
 * The media type for a file of this name, by its ending; `application/octet-stream` where the ending says nothing.
 * What people uploaded is never trusted to run here: callers send it with `nosniff` and as an attachment.
 */
export function mediaType(name: string): string {
  const type = lookup(name)
  if (type === false) return 'application/octet-stream'
  const full = contentType(type)
  return full === false ? type : full
}

/**
 * A `Content-Disposition` that makes browsers save under `name`, whatever characters it has (RFC 6266, RFC 8187): an
 * ASCII fallback without quotes, controls or path separators, and the exact name in UTF-8.
 *
 * @example
 * attachment('übung.txt') // attachment; filename="_bung.txt"; filename*=UTF-8''%C3%BCbung.txt
 */
export function attachment(name: string): string {
  const safe = wellFormed(name).replace(UNSAFE, '_').slice(0, 255) || 'file'
  const fallback = safe.replace(/[^\x20-\x7e]/g, '_').replace(/["\\%]/g, '_')
  const encoded = encodeURIComponent(wellFormed(safe)).replace(/['()*]/g, percentEncode)
  if (fallback === safe) return `attachment; filename="${fallback}"`
  return `attachment; filename="${fallback}"; filename*=UTF-8''${encoded}`
}

// Controls, path separators, and the marks that turn the direction of text around to hide a file's ending.
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const UNSAFE = /[\u0000-\u001f\u007f-\u009f/\\\u200e\u200f\u202a-\u202e\u2066-\u2069]/g

function percentEncode(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase()}`
}

/** Lone surrogates cannot be written in UTF-8. */
function wellFormed(text: string): string {
  return text.toWellFormed()
}
