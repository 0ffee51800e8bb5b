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
