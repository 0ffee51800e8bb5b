const SECRET_KEY =
  /^(.*_)?(private_?key|secret(_?key)?|pass(word|phrase)?|mnemonic|seed_?phrase|api_?key|authorization|cookie|set-cookie|(access|session|bearer|auth)_?token|miner_?key)$/i
const MAX_DEPTH = 6
const MAX_ENTRIES = 256
const CENSORED = '[redacted]'

/** Whether a field of this name holds a secret: private keys, passwords, tokens, mnemonics, in any usual spelling. */
export function isSecretName(name: string): boolean {
  return SECRET_KEY.test(name.replaceAll(/([a-z0-9])([A-Z])/g, '$1_$2'))
}

/**
 * A copy of `value` fit for a log line: fields with a secret's name are censored at any depth to 6, URLs lose their
 * credentials, big integers become decimal text, and wide objects are cut at 256 entries. Errors, buffers and other
 * class instances are left to the logger's serialisers.
 */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'bigint') return value.toString()
  if (typeof value === 'string') return redactUrls(value)
  if (typeof value !== 'object' || value === null) return value
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`
  if (!isPlain(value)) return value
  if (depth >= MAX_DEPTH) return Array.isArray(value) ? '[array]' : '[object]'
  if (Array.isArray(value)) {
    const shown = value.slice(0, MAX_ENTRIES).map((entry) => redact(entry, depth + 1))
    if (value.length > MAX_ENTRIES) shown.push(`[${value.length - MAX_ENTRIES} more]`)
    return shown
  }
  const entries = Object.entries(value)
  const shown = entries.slice(0, MAX_ENTRIES).map(([key, entry]): [string, unknown] => {
    const secret = isSecretName(key) && entry !== undefined && entry !== null
    return [key, secret ? CENSORED : redact(entry, depth + 1)]
  })
  if (entries.length > MAX_ENTRIES) shown.push(['…', `[${entries.length - MAX_ENTRIES} more]`])
  return Object.fromEntries(shown)
}

/**
 * Text with the secrets of every URL in it censored: user and password before `@`, query values named like a secret,
 * and path parts of 24 characters or more that mix letters and digits, as hosted RPC endpoints carry their API keys.
 * Hexadecimal parts with `0x` (roots, transaction hashes) stay.
 */
export function redactUrls(text: string): string {
  if (!text.includes('://')) return text
  return text.replaceAll(/([a-z][a-z0-9+.-]*:\/\/)([^\s"'<>]+)/gi, (_, scheme: string, rest: string) => {
    const withoutUser = rest.replace(/^[^/?#\s]*@/, `${CENSORED}@`)
    const withoutQuery = withoutUser.replaceAll(/([?&])([^=&#]+)=([^&#]*)/g, (pair, mark: string, name: string) =>
      /key|token|secret|pass|auth/i.test(name) ? `${mark}${name}=${CENSORED}` : pair,
    )
    return (
      scheme + withoutQuery.replaceAll(/\/(?!0x)(?=[^/?#]*\d)(?=[^/?#]*[a-z])[\w-]{24,}(?=[/?#]|$)/gi, `/${CENSORED}`)
    )
  })
}

function isPlain(value: object): boolean {
  if (Array.isArray(value)) return true
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
