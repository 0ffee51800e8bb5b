import { type Address, isAddress, zeroAddress } from 'viem'
import { z } from 'zod'
import { computeFields, computePresets } from './contracts/compute.ts'
import { daFields, daPresets } from './contracts/da.ts'
import { storageFields, storagePresets } from './contracts/storage.ts'
import { secondsPerDay } from './contracts/subsystem.ts'

const address = z
  .string()
  .refine((text) => isAddress(text, { strict: true }), 'must be an address (with a right checksum, or all lower case)')
  .meta({ type: 'address' }) as unknown as z.ZodType<Address, string>

/** The fields of a deployment. Every value is bounded; amounts in wei, times in seconds, lengths in blocks. */
export const deployParameterFields = z.strictObject({
  governor: address.describe('who may change parameters, after the delay; a multisignature contract on a public chain'),
  guardian: address.default(zeroAddress).describe('who may halt new intake at once; the zero address for none'),
  governanceDelaySeconds: z
    .int()
    .min(0)
    .max(365 * secondsPerDay)
    .describe('seconds between announcing and executing a change'),
  ...storageFields,
  ...daFields,
  ...computeFields,
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
    ({ daPricePerByteEpochWei, daMaxPricePerByteEpochWei }) => daPricePerByteEpochWei <= daMaxPricePerByteEpochWei,
    {
      path: ['daPricePerByteEpochWei'],
      message: 'must not be above daMaxPricePerByteEpochWei',
    },
  )
  .refine(({ daMinRetentionEpochs, daMaxRetentionEpochs }) => daMinRetentionEpochs <= daMaxRetentionEpochs, {
    path: ['daMinRetentionEpochs'],
    message: 'must not be above daMaxRetentionEpochs',
  })
  .refine(
    ({ mineWindows, mineWindowIntervalBlocks, mineWindowBlocks, blocksPerEpoch }) =>
      (mineWindows - 1) * mineWindowIntervalBlocks + mineWindowBlocks + 1 < blocksPerEpoch,
    { path: ['mineWindowBlocks'], message: 'the windows must end before the epoch does' },
  )

export type DeployParameters = z.output<typeof deployParametersSchema>
export type DeployParametersInput = z.input<typeof deployParametersSchema>

/** Names of the sets of values that a deployment starts from. */
export const presetNames = ['local', 'standard', 'turbo'] as const
export type PresetName = (typeof presetNames)[number]

/**
 * Starting values: `local` for a development chain (short epochs, no delay, low price), `standard` and `turbo` with
 * the prices and epochs of the public networks. Accounts are never part of a preset, except that on a local chain the
 * deployer governs.
 */
export const presets: Record<PresetName, Omit<DeployParametersInput, 'governor'>> = {
  local: { governanceDelaySeconds: 0, ...storagePresets.local, ...daPresets.local, ...computePresets.local },
  standard: {
    governanceDelaySeconds: 2 * secondsPerDay,
    ...storagePresets.standard,
    ...daPresets.standard,
    ...computePresets.standard,
  },
  turbo: {
    governanceDelaySeconds: 2 * secondsPerDay,
    ...storagePresets.turbo,
    ...daPresets.turbo,
    ...computePresets.turbo,
  },
}
