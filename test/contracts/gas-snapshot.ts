import { readFileSync, writeFileSync } from 'node:fs'
import { expect } from 'chai'
import { type GasFigures, measurePoraGas, measureSubmitGas } from '#scripts/bench/gas.ts'
import { measureDispersalGas } from '#scripts/bench/gas-dispersal.ts'

const SNAPSHOT = new URL('../../snapshots/gas.json', import.meta.url)

/** What a figure may rise by before the snapshot must be looked at. */
const TOLERANCE = 0.01

// Gas is part of the interface: a rise is a decision, made by committing a new snapshot (`UPDATE_GAS=1`).
describe('gas snapshot', () => {
  it('is not exceeded by more than 1 %', async function () {
    this.timeout(120_000)
    const figures = { ...(await measureSubmitGas()), ...(await measurePoraGas()), ...(await measureDispersalGas()) }
    if (process.env.UPDATE_GAS !== undefined) {
      writeFileSync(SNAPSHOT, `${JSON.stringify(figures, null, 2)}\n`)
    }
    const snapshot = JSON.parse(readFileSync(SNAPSHOT, 'utf8')) as GasFigures
    expect(Object.keys(figures)).to.deep.equal(Object.keys(snapshot))
    for (const [name, gas] of Object.entries(figures)) {
      expect(gas, name).to.be.at.most((snapshot[name] ?? 0) * (1 + TOLERANCE))
    }
  })

  it('keeps a 256-byte submission below 110,000', () => {
    const snapshot = JSON.parse(readFileSync(SNAPSHOT, 'utf8')) as GasFigures
    expect(snapshot['submit 256 B, flow of 16 KiB']).to.be.below(110_000)
  })
})
