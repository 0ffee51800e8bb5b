import { EPOCH, MACHINES, type Machine } from './assumptions.ts'
import { type EpochRecord, seededRandom, simulateDifficulty } from './difficulty.ts'
import { type PlotParameters, plot } from './plot.ts'
import { activeTime, honest, manyIds, partial, sealOnDemand, yieldOf } from './strategies.ts'

const FRACTIONS = [1, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02]
const IDS = [1, 2, 3, 4, 6, 8, 12, 16]
const EPOCHS = 240
const STEP_UP_AT = 40
const STEP_DOWN_AT = 150
const BASE_HASHES = 1e8
const SEED = 20_26

/** Yield of a strategy against the honest one on the same machine. */
function against(machine: Machine, strategy: typeof honest): number {
  const setting = { machine, flowTb: machine.capacityTb }
  return yieldOf(strategy(setting)) / yieldOf(honest(setting))
}

/** What keeping only a fraction gains or costs, by machine. */
export function partialStorage(): PlotParameters {
  return {
    title: 'Declaring everything, keeping a fraction',
    xLabel: 'fraction kept',
    yLabel: 'hashes per dollar against keeping all',
    logX: true,
    series: MACHINES.map((machine) => ({
      name: machine.name,
      points: FRACTIONS.map((fraction) => [fraction, against(machine, (at) => partial({ ...at, fraction }))] as const),
    })),
  }
}

/** What several ids on one machine gain: with a sealed copy for each, or one plain copy sealed on demand. */
export function identities(): PlotParameters {
  return {
    title: `Several ids on one machine, ${EPOCH.windows} windows an epoch`,
    xLabel: 'ids',
    yLabel: 'hashes per dollar against one id',
    series: MACHINES.flatMap((machine) => [
      {
        name: `${machine.name}, on demand`,
        points: IDS.map((ids) => [ids, against(machine, (at) => sealOnDemand({ ...at, ids }))] as const),
      },
      {
        name: `${machine.name}, copies`,
        points: IDS.map((ids) => [ids, against(machine, (at) => manyIds({ ...at, ids }))] as const),
      },
    ]),
  }
}

/** Hash power times ten, later back again. */
function steps(epoch: number): number {
  return epoch >= STEP_UP_AT && epoch < STEP_DOWN_AT ? 10 * BASE_HASHES : BASE_HASHES
}

/** A history of the difficulty under steps of the hash power. */
export function difficultyHistory({ ratio }: { ratio: number }): EpochRecord[] {
  return simulateDifficulty({
    epochs: EPOCHS,
    hashesPerEpoch: steps,
    difficulty: BASE_HASHES / EPOCH.wanted,
    random: seededRandom(SEED),
    easeWhenSilent: true,
    ratio,
  })
}

export function difficultySteps(ratios: readonly number[]): PlotParameters {
  return {
    title: 'Difficulty after ten times the power (epoch 40) and back (epoch 150)',
    xLabel: 'epoch',
    yLabel: 'difficulty',
    logY: true,
    series: [
      { name: 'right difficulty', points: rightDifficulty() },
      ...ratios.map((ratio) => ({
        name: `ratio ${ratio}`,
        points: difficultyHistory({ ratio }).map(({ epoch, difficulty }) => [epoch, difficulty] as const),
      })),
    ],
  }
}

function rightDifficulty(): (readonly [number, number])[] {
  return Array.from({ length: EPOCHS }, (_, epoch) => [epoch, steps(epoch) / EPOCH.wanted] as const)
}

/** After nearly all miners leave: with and without easing in silent epochs. */
export function exodus({ easeWhenSilent }: { easeWhenSilent: boolean }): EpochRecord[] {
  return simulateDifficulty({
    epochs: 120,
    hashesPerEpoch: (epoch) => (epoch < 20 ? BASE_HASHES : BASE_HASHES / 1e5),
    difficulty: BASE_HASHES / EPOCH.wanted,
    random: seededRandom(SEED),
    easeWhenSilent,
  })
}

/** Epochs over which silence is judged: a multiple of every period. */
const SILENCE_EPOCHS = 2_400

/** Answers of miners who are all silent in every `period`-th epoch, against those of miners who never are. */
export function silence({ period, takeBack }: { period: number; takeBack: boolean }): number {
  const answersWith = (hashesPerEpoch: (epoch: number) => number): number =>
    simulateDifficulty({
      ...{ epochs: SILENCE_EPOCHS, hashesPerEpoch, difficulty: BASE_HASHES / EPOCH.wanted },
      ...{ random: seededRandom(SEED), easeWhenSilent: true, takeBack, ratio: 8 },
    }).reduce((sum, { answers }) => sum + answers, 0)
  return answersWith((epoch) => (epoch % period === period - 1 ? 0 : BASE_HASHES)) / answersWith(() => BASE_HASHES)
}

export function exodusPlot(): PlotParameters {
  return {
    title: 'One hundred-thousandth of the power stays (epoch 20)',
    xLabel: 'epoch',
    yLabel: 'difficulty',
    logY: true,
    series: [true, false].map((easeWhenSilent) => ({
      name: easeWhenSilent ? 'silent epochs ease' : 'reference',
      points: exodus({ easeWhenSilent }).map(({ epoch, difficulty }) => [epoch, difficulty] as const),
    })),
  }
}

/** Epochs from a step of the power until the difficulty is within a fifth of the right one. */
export function epochsToSettle(history: readonly EpochRecord[], from: number): number {
  const found = history.find(
    ({ epoch, difficulty }) => epoch >= from && Math.abs(difficulty / (steps(epoch) / EPOCH.wanted) - 1) < 0.2,
  )
  return found === undefined ? Number.POSITIVE_INFINITY : found.epoch - from
}

/** Relative spread of the difficulty while the power stands still. */
export function spread(history: readonly EpochRecord[]): number {
  const calm = history.filter(({ epoch }) => epoch < STEP_UP_AT).map(({ difficulty }) => difficulty)
  const mean = calm.reduce((sum, value) => sum + value, 0) / calm.length
  return Math.sqrt(calm.reduce((sum, value) => sum + (value - mean) ** 2, 0) / calm.length) / mean
}

export const STEPS = { up: STEP_UP_AT, down: STEP_DOWN_AT }

/** Every plot of the report by file name. */
export function plots(ratios: readonly number[]): Record<string, string> {
  return {
    'partial-storage.svg': plot(partialStorage()),
    'identities.svg': plot(identities()),
    'difficulty-steps.svg': plot(difficultySteps(ratios)),
    'difficulty-exodus.svg': plot(exodusPlot()),
  }
}

/** Time in which a miner with so many ids may answer. */
export const activeShare = activeTime
