import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { MACHINES } from '#scripts/sim/assumptions.ts'
import { seededRandom, simulateDifficulty } from '#scripts/sim/difficulty.ts'
import { difficultyHistory, epochsToSettle, exodus, STEPS, silence } from '#scripts/sim/figures.ts'
import { reportFiles } from '#scripts/sim/report.ts'
import { activeTime, honest, manyIds, partial, sealOnDemand, yieldOf } from '#scripts/sim/strategies.ts'

describe('the economics report', () => {
  it('is what the simulation gives', async () => {
    for (const [name, contents] of Object.entries(reportFiles())) {
      const committed = await readFile(new URL(`../../../docs/${name}`, import.meta.url), 'utf8')
      assert.equal(committed, contents, `docs/${name}: run npm run sim`)
    }
  })
})

describe('the model', () => {
  // A miner of a fraction never hashes more than one that keeps all: it can only pay less.
  it('never lets a fraction hash more than everything', () => {
    for (const machine of MACHINES) {
      const setting = { machine, flowTb: machine.capacityTb }
      for (const fraction of [0.9, 0.5, 0.1, 0.01]) {
        const { hashesPerSecond } = partial({ ...setting, fraction })
        assert.ok(hashesPerSecond <= honest(setting).hashesPerSecond * (1 + 1e-12))
      }
      assert.equal(partial({ ...setting, fraction: 1 }).usdPerMonth, honest(setting).usdPerMonth)
    }
  })

  it('makes more sealed copies cost what they earn, and sealing on demand a loss for a single id', () => {
    for (const machine of MACHINES) {
      const setting = { machine, flowTb: machine.capacityTb }
      assert.ok(yieldOf(manyIds({ ...setting, ids: 4 })) < yieldOf(honest(setting)))
      assert.ok(yieldOf(sealOnDemand({ ...setting, ids: 1 })) < yieldOf(honest(setting)))
    }
  })

  it('keeps the time in which ids may answer between one window and all', () => {
    assert.ok(Math.abs(activeTime(1) - 0.2) < 1e-12)
    for (let ids = 1; ids < 20; ids++) assert.ok(activeTime(ids) < activeTime(ids + 1) && activeTime(ids + 1) <= 0.8)
  })

  it('lets difficulty follow the power in both directions, faster with a smaller ratio', () => {
    const slow = difficultyHistory({ ratio: 20 })
    const fast = difficultyHistory({ ratio: 8 })
    for (const step of [STEPS.up, STEPS.down]) {
      assert.ok(epochsToSettle(fast, step) < epochsToSettle(slow, step))
      assert.ok(Number.isFinite(epochsToSettle(slow, step)))
    }
  })

  // Whoever keeps silent for an epoch gains nothing by the easier target it causes.
  it('lets silence earn nothing, which the rule of the specification alone does not', () => {
    for (const period of [2, 4, 8, 12, 24]) assert.ok(silence({ period, takeBack: true }) < 1.02)
    assert.ok(silence({ period: 12, takeBack: false }) > 1.3)
  })

  // Epochs in which machines have no time to answer must not drag the difficulty down for good.
  it('keeps its level although epochs fail at random', () => {
    const wanted = 10
    const level = ({ takeBack }: { takeBack: boolean }) => {
      const random = seededRandom(7)
      const epochs = simulateDifficulty({
        ...{ epochs: 500, difficulty: 1_000, random, easeWhenSilent: true, takeBack, wanted, ratio: 8 },
        hashesPerEpoch: () => (random() < 0.1 ? 0 : 1_000 * wanted),
      })
      return { lowest: Math.min(...epochs.map(({ difficulty }) => difficulty)), epochs }
    }
    const { lowest, epochs } = level({ takeBack: true })
    const mean = epochs.reduce((sum, { answers }) => sum + answers, 0) / epochs.length
    assert.ok(lowest > 150, `fell to ${lowest}`)
    assert.ok(mean > 0.7 * wanted && mean < 1.3 * wanted, `${mean} answers an epoch`)
    assert.ok(level({ takeBack: false }).lowest < lowest)
  })

  it('finds its way back when nearly all miners leave, which the reference does not', () => {
    const answers = (easeWhenSilent: boolean) =>
      exodus({ easeWhenSilent }).filter((record) => record.epoch > 20 && record.answers > 0).length
    assert.ok(answers(true) > 50)
    assert.equal(answers(false), 0)
  })
})
