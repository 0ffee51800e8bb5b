import { z } from 'zod'

/** Something that is read from a deployed contract and must be as planned. */
export interface WiringCheck<Name extends string> {
  contract: Name
  read: string
  args?: readonly unknown[]
  want: unknown
}

export const secondsPerDay = 86_400

/** An amount in wei, given as a number, a bigint or a decimal string. */
export const wei = ({ min = 0n, max }: { min?: bigint; max: bigint }) =>
  z.coerce.bigint<bigint | string | number>().min(min).max(max)
