import { z } from 'zod'

const BYTE_UNITS: Record<string, number> = {
  '': 1,
  b: 1,
  k: 1e3,
  kb: 1e3,
  m: 1e6,
  mb: 1e6,
  g: 1e9,
  gb: 1e9,
  t: 1e12,
  tb: 1e12,
}
for (const [i, unit] of ['kib', 'mib', 'gib', 'tib'].entries()) BYTE_UNITS[unit] = 2 ** (10 * (i + 1))
const TIME_UNITS_MS: Record<string, number> = { '': 1, ms: 1, s: 1e3, m: 6e4, min: 6e4, h: 36e5, d: 864e5 }

interface Bounds {
  min?: number
  max?: number
}

/** A number of bytes: `1048576`, `'1 MiB'`, `'4 GB'`. */
export function configBytes({ min = 0, max = Number.MAX_SAFE_INTEGER }: Bounds = {}) {
  const example = 'bytes, as 1048576 or "1 MiB"'
  return withUnit({ units: BYTE_UNITS, example, min, max, unit: 'bytes' })
}

/** A span in milliseconds: `500`, `'15s'`, `'2 min'`. */
export function configDurationMs({ min = 0, max = 2 ** 31 - 1 }: Bounds = {}) {
  return withUnit({ units: TIME_UNITS_MS, example: 'milliseconds, or "15s", "2min", "1h"', min, max, unit: 'ms' })
}

/** An address to listen on, `host:port`; port 0 lets the system choose. `[::1]:5678` for IPv6. */
export function configListen() {
  const message = 'expected host:port with a port from 0 to 65535, as 127.0.0.1:5678'
  return z
    .string({ error: message })
    .transform((text, context) => {
      const match = /^(?:\[([0-9a-f:.]+)\]|([\w.-]+)):(\d{1,5})$/i.exec(text.trim())
      const port = Number(match?.[3])
      if (match !== null && port <= 65_535) return { host: match[1] ?? match[2] ?? '', port }
      context.addIssue({ code: 'custom', message })
      return z.NEVER
    })
    .meta({ type: 'host:port' })
}

/** An http or https address. */
export function configUrl() {
  const message = 'expected an http or https address, as http://127.0.0.1:8545'
  return z
    .string({ error: message })
    .refine((text) => /^https?:$/.test(URL.parse(text)?.protocol ?? ''), message)
    .meta({ type: 'http address' })
}

/** A contract or account address, 20 bytes in hex, as lower-case text with `0x`. */
export function configAddress() {
  const message = 'expected an address: 0x and 40 hex digits'
  return z
    .string({ error: message })
    .regex(/^(0x)?[0-9a-fA-F]{40}$/, message)
    .transform((text): `0x${string}` => `0x${text.replace(/^0x/, '').toLowerCase()}`)
    .meta({ type: 'address' })
}

function withUnit({
  units,
  example,
  min,
  max,
  unit,
}: {
  units: Record<string, number>
  example: string
  min: number
  max: number
  unit: string
}) {
  const message = `expected ${example}, from ${min} to ${max} ${unit}`
  return z
    .union([z.number(), z.string()], { error: message })
    .transform((given, context) => {
      const match = /^(\d[\d_]*(?:\.\d+)?)\s*([a-z]*)$/i.exec(String(given).trim())
      const factor = units[match?.[2]?.toLowerCase() ?? 'none']
      const value = Math.round(Number(match?.[1]?.replaceAll('_', '')) * (factor ?? Number.NaN))
      if (value >= min && value <= max) return value
      context.addIssue({ code: 'custom', message })
      return z.NEVER
    })
    .meta({ type: example })
}
