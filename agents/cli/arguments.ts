import { InvalidArgumentError } from 'commander'
import { WeightlessError } from '#protocol/error.ts'

/** An option's whole number, at least 1. */
export function wholeNumber(text: string): number {
  const value = Number(text)
  if (Number.isSafeInteger(value) && value >= 1) return value
  throw new InvalidArgumentError('give a whole number from 1 on')
}

/** An option's bytes as hex. */
export function hexBytes(text: string): `0x${string}` {
  if (/^0x([0-9a-fA-F]{2})*$/.test(text)) return text.toLowerCase() as `0x${string}`
  throw new InvalidArgumentError('give 0x and an even number of hex digits')
}

/** A root as lower-case hex. @throws WeightlessError `CLI_USAGE` when text is no root */
export function parseRoot(text: string): `0x${string}` {
  if (/^0x[0-9a-fA-F]{64}$/.test(text)) return text.toLowerCase() as `0x${string}`
  throw new WeightlessError({
    code: 'CLI_USAGE',
    message: `${text.slice(0, 80)} is no root`,
    fix: 'give 0x and 64 hex digits, as the upload printed it',
  })
}

/** An option's whole number, 0 or more. */
export function zeroOrMore(text: string): number {
  const value = Number(text)
  if (text.trim() !== '' && Number.isSafeInteger(value) && value >= 0) return value
  throw new InvalidArgumentError('give a whole number')
}

/** An option's number of bytes: `1048576`, `512MiB`, `4GiB`. */
export function byteCount(text: string): number {
  const [, digits = '', unit = ''] = /^(\d+)\s*(|B|KiB|MiB|GiB|TiB)$/i.exec(text.trim()) ?? []
  const power = ['', 'kib', 'mib', 'gib', 'tib'].indexOf(unit.toLowerCase().replace(/^b$/, ''))
  const bytes = Number(digits) * 1024 ** Math.max(0, power)
  if (digits !== '' && Number.isSafeInteger(bytes) && bytes >= 1) return bytes
  throw new InvalidArgumentError('give a number of bytes, such as 1048576 or 512MiB')
}

/** An option's way of choosing nodes. */
export function selectionMethod(text: string): 'min' | 'max' | 'random' | number {
  if (text === 'min' || text === 'max' || text === 'random') return text
  if (/^\d{1,8}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('give min, max, random, or a number of shards')
}

/** An option's amount of coins, above zero, in wei. */
export function coins(text: string): bigint {
  const [, whole = '', fraction = ''] = /^(\d{1,12})(?:\.(\d{1,18}))?$/.exec(text) ?? []
  const wei = BigInt(`${whole}${fraction.padEnd(18, '0')}`)
  if (whole !== '' && wei > 0n) return wei
  throw new InvalidArgumentError('give an amount of coins above zero, such as 3 or 0.5')
}
