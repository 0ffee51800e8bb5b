/**
 * Job ids as BullMQ takes them: it refuses colons and whole numbers, so ours are escaped and carry a prefix.
 */
export function encodeJobId(id: string): string {
  return `j-${encodeURIComponent(id)}`
}

/** The inverse of {@link encodeJobId}; what was not encoded comes back as it is. */
export function decodeJobId(encoded: string): string {
  return encoded.startsWith('j-') ? decodeURIComponent(encoded.slice(2)) : encoded
}
