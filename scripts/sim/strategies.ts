import { COST, EPOCH, type Machine, SEALS_PER_LOAD } from './assumptions.ts'

/** How a miner works. Rates are averages over time; `share` is of the data that its range declares. */
export interface Strategy {
  /** Seals hashed per second that could win at the full target: hits are in proportion to it. */
  hashesPerSecond: number
  /** Cores kept busy. */
  cores: number
  /** Sealed or plain bytes kept. */
  storedTb: number
  usdPerMonth: number
  /** Part of the time in which one of its ids may answer, 0 to 1. */
  activeTime: number
}

interface Setting {
  machine: Machine
  /** Data in the flow, all of it declared as range. */
  flowTb: number
}

/** Part of all blocks in which an id may answer. */
const WINDOW_SHARE = EPOCH.windowBlocks / EPOCH.blocks

/** Keeps everything, sealed once for one id. */
export function honest({ machine, flowTb }: Setting): Strategy {
  const perLoad = COST.scratchpadSeconds + COST.hashSeconds
  return finish({ machine, loads: machine.loadsPerSecond, perLoad, storedTb: flowTb, ids: 1 })
}

/** Keeps the shard `1 / shards` and declares it: every nonce lands in it, the target is `shards` times harder. */
export function sharded({ machine, flowTb, shards }: Setting & { shards: number }): Strategy {
  const perLoad = COST.scratchpadSeconds + COST.hashSeconds
  const all = finish({ machine, loads: machine.loadsPerSecond, perLoad, storedTb: flowTb / shards, ids: 1 })
  return { ...all, hashesPerSecond: all.hashesPerSecond / shards }
}

/** Declares everything but keeps only `fraction` of it: nonces that land elsewhere cost their scratchpad and no read. */
export function partial({ machine, flowTb, fraction }: Setting & { fraction: number }): Strategy {
  const perLoad = COST.scratchpadSeconds / fraction + COST.hashSeconds
  return finish({ machine, loads: machine.loadsPerSecond, perLoad, storedTb: fraction * flowTb, ids: 1 })
}

/** Keeps the data plain and seals each load anew for whichever of its ids may answer: one copy for all ids. */
export function sealOnDemand({ machine, flowTb, ids }: Setting & { ids: number }): Strategy {
  const perLoad = COST.scratchpadSeconds + COST.sealSeconds + COST.hashSeconds
  return finish({ machine, loads: machine.loadsPerSecond, perLoad, storedTb: flowTb, ids })
}

/** Keeps one sealed copy for each of its ids on the same machine. */
export function manyIds({ machine, flowTb, ids }: Setting & { ids: number }): Strategy {
  const perLoad = COST.scratchpadSeconds + COST.hashSeconds
  return finish({ machine, loads: machine.loadsPerSecond, perLoad, storedTb: ids * flowTb, ids })
}

/** Windows are drawn anew each epoch; several ids of one miner cover distinct windows only by chance. */
export function activeTime(ids: number): number {
  return EPOCH.windows * WINDOW_SHARE * (1 - (1 - 1 / EPOCH.windows) ** ids)
}

interface Work {
  machine: Machine
  /** Reads the disks allow per second. */
  loads: number
  /** Seconds of one core for each load that is read. */
  perLoad: number
  storedTb: number
  ids: number
}

function finish({ machine, loads, perLoad, storedTb, ids }: Work): Strategy {
  const rate = Math.min(loads, machine.cores / perLoad)
  const cores = rate * perLoad
  const active = activeTime(ids)
  return {
    hashesPerSecond: rate * SEALS_PER_LOAD * active,
    cores: cores * active,
    storedTb,
    // A core that idles between windows can be used for something else; a disk that is full cannot.
    usdPerMonth: storedTb * machine.diskUsdPerTbMonth + cores * active * machine.coreUsdPerMonth,
    activeTime: active,
  }
}

/** Hashes per second for a dollar a month: what a miner earns for its money, up to a factor common to all. */
export function yieldOf({ hashesPerSecond, usdPerMonth }: Strategy): number {
  return hashesPerSecond / usdPerMonth
}
