import { type Address, isAddress, zeroAddress } from 'viem'
import { z } from 'zod'

/** 372 days: the year that storage prices and reward releases are counted in. */
const daysPerMonth = 31
const secondsPerDay = 86_400

const address = z
  .string()
  .refine((text) => isAddress(text, { strict: true }), 'must be an address (with a right checksum, or all lower case)')
  .meta({ type: 'address' }) as unknown as z.ZodType<Address, string>
const wei = ({ max }: { max: bigint }) => z.coerce.bigint<bigint | string | number>().min(0n).max(max)

const isPowerOfTwo = (value: number): boolean => Number.isInteger(Math.log2(value))

const maxPrice = 2n ** 64n - 1n

/** The fields of a deployment. Every value is bounded; amounts in wei, times in seconds, lengths in blocks. */
export const deployParameterFields = z.strictObject({
  governor: address.describe('who may change parameters, after the delay; a multisignature contract on a public chain'),
  guardian: address.default(zeroAddress).describe('who may halt new intake at once; the zero address for none'),
  governanceDelaySeconds: z
    .int()
    .min(0)
    .max(365 * secondsPerDay)
    .describe('seconds between announcing and executing a change'),
  blocksPerEpoch: z.int().min(2).max(10_000_000).describe('blocks of a mining epoch'),
  deployDelayBlocks: z.int().min(0).max(10_000_000).default(0).describe('blocks until submissions are accepted'),
  pricePerSectorWei: wei({ max: maxPrice }).describe('price of 256 bytes for their whole lifetime, wei'),
  maxPricePerSectorWei: wei({ max: maxPrice }).describe('bound of the price, fixed for ever, wei'),
  releaseSeconds: z
    .int()
    .min(60)
    .max(100 * 12 * daysPerMonth * secondsPerDay)
    .describe('seconds over which the fees of a full pricing chunk are released to miners'),
  poolSectors: z
    .int()
    .min(2 ** 10)
    .max(2 ** 25)
    .refine(isPowerOfTwo, 'must be a power of two')
    .default(2 ** 25)
    .describe('sectors whose fees share a reward pool; it pays once the flow has passed its end'),
  mineDifficulty: wei({ max: 2n ** 200n }).describe('attempts that an answer takes on average, at the beginning'),
  mineMinDifficulty: wei({ max: 2n ** 200n })
    .default(0n)
    .describe('difficulty never falls below this; 0 for no floor'),
  mineWindows: z.int().min(1).max(65_535).default(1).describe('windows per epoch; a miner answers in one of them'),
  mineWindowBlocks: z.int().min(1).max(8_191).describe('blocks of a window'),
  mineWindowIntervalBlocks: z
    .int()
    .min(1)
    .max(2 ** 31)
    .default(1)
    .describe('blocks from the start of a window to the next'),
  mineAnswersPerEpoch: z
    .int()
    .min(1)
    .max(65_535)
    .default(100)
    .describe('answers per epoch that difficulty aims at; twice as many are taken'),
  mineMaxShards: z
    .int()
    .min(1)
    .max(2 ** 31)
    .refine(isPowerOfTwo, 'must be a power of two')
    .default(256)
    .describe('into how many parts a miner may split its range'),
  mineAdjustRatio: z
    .int()
    .min(1)
    .max(32_767)
    .default(8)
    .describe('how slowly difficulty follows the answers (docs/economics.md)'),
})

/** What a deployment is given: the fields, and what must hold between them. */
export const deployParametersSchema = deployParameterFields
  .refine(({ governor }) => governor !== zeroAddress, {
    path: ['governor'],
    message: 'must not be the zero address',
  })
  .refine(({ pricePerSectorWei, maxPricePerSectorWei }) => pricePerSectorWei <= maxPricePerSectorWei, {
    path: ['pricePerSectorWei'],
    message: 'must not be above maxPricePerSectorWei',
  })
  .refine(
    ({ mineWindows, mineWindowIntervalBlocks, mineWindowBlocks, blocksPerEpoch }) =>
      (mineWindows - 1) * mineWindowIntervalBlocks + mineWindowBlocks + 1 < blocksPerEpoch,
    { path: ['mineWindowBlocks'], message: 'the windows must end before the epoch does' },
  )

export type DeployParameters = z.output<typeof deployParametersSchema>
export type DeployParametersInput = z.input<typeof deployParametersSchema>

/** Wei per sector from a price per TiB and month, with the floors in the order that existing deployments use. */
export function pricePerSectorWei({ months, unitPrice }: { months: bigint; unitPrice: bigint }): bigint {
  return (months * unitPrice * 10n ** 18n) / 1024n / 1024n / 1024n / 12n
}

/** Names of the sets of values that a deployment starts from. */
export const presetNames = ['local', 'standard', 'turbo'] as const
export type PresetName = (typeof presetNames)[number]

/** One window nearly as long as the epoch, so that further ids of one miner earn it nothing: docs/economics.md. */
const lasting = {
  governanceDelaySeconds: 2 * secondsPerDay,
  blocksPerEpoch: 3_750,
  mineWindowBlocks: 3_600,
  mineDifficulty: 1_000_000n,
  releaseSeconds: 12 * daysPerMonth * secondsPerDay,
}

/**
 * Starting values: `local` for a development chain (short epochs, no delay, low price), `standard` and `turbo` with
 * the prices and epochs of the public networks. Accounts are never part of a preset, except that on a local chain the
 * deployer governs.
 */
export const presets: Record<PresetName, Omit<DeployParametersInput, 'governor'>> = {
  local: {
    governanceDelaySeconds: 0,
    blocksPerEpoch: 300,
    pricePerSectorWei: pricePerSectorWei({ months: 3n, unitPrice: 1n }),
    maxPricePerSectorWei: 10n ** 15n,
    // Short and small, so that a miner on one machine sees its first earnings within minutes.
    releaseSeconds: 3_600,
    poolSectors: 2 ** 16,
    mineDifficulty: 20_000n,
    mineWindowBlocks: 280,
    mineAnswersPerEpoch: 10,
  },
  standard: {
    ...lasting,
    pricePerSectorWei: pricePerSectorWei({ months: 12n, unitPrice: 24n }),
    maxPricePerSectorWei: 100n * pricePerSectorWei({ months: 12n, unitPrice: 24n }),
  },
  turbo: {
    ...lasting,
    pricePerSectorWei: pricePerSectorWei({ months: 12n, unitPrice: 33n }),
    maxPricePerSectorWei: 100n * pricePerSectorWei({ months: 12n, unitPrice: 33n }),
  },
}
