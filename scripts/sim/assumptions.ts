/**
 * What the simulation assumes. Rates of kernels are those that `npm run bench -- pora seal` measures on one core of a
 * current server CPU; prices are round figures of mid-2026 retail and hosting, meant to be replaced by the reader's own.
 */
export interface Machine {
  name: string
  /** Random reads of 256 KiB per second that the disks give together. */
  loadsPerSecond: number
  cores: number
  capacityTb: number
  /** Purchase of disks and their share of the machine, spread over their life, per month. */
  diskUsdPerTbMonth: number
  /** One core, purchase and electricity, per month. */
  coreUsdPerMonth: number
}

/** Seconds of one core. */
export const COST = {
  /** Scratchpad and recall position of one nonce: paid before anyone knows which chunk is asked for. */
  scratchpadSeconds: 95e-6,
  /** Mixing and hashing the 64 seals of one load. */
  hashSeconds: 158e-6,
  /** Sealing one load of 256 KiB: the keccak chain inside each 4 KiB piece. */
  sealSeconds: 262_144 / 170e6,
} as const

/** Seals, each a chance to win, in one load. */
export const SEALS_PER_LOAD = 64

export const MACHINES: readonly Machine[] = [
  { name: 'hard disk', loadsPerSecond: 110, cores: 4, capacityTb: 20, diskUsdPerTbMonth: 0.35, coreUsdPerMonth: 4 },
  { name: 'SATA SSD', loadsPerSecond: 2_000, cores: 4, capacityTb: 4, diskUsdPerTbMonth: 1.2, coreUsdPerMonth: 4 },
  { name: 'NVMe SSD', loadsPerSecond: 12_000, cores: 16, capacityTb: 8, diskUsdPerTbMonth: 1.5, coreUsdPerMonth: 4 },
]

/** Mining windows of the public presets, in blocks: a miner's id answers in one of `windows` in each epoch. */
export const EPOCH = { blocks: 3_750, windowBlocks: 750, windows: 4, wanted: 100, ratio: 20 } as const
