import { expect } from 'chai'
import { type DaGasFigures, measureDaGas } from '#scripts/bench/gas-da.ts'

describe('gas of data availability', () => {
  let figures: DaGasFigures

  before(async function () {
    this.timeout(180_000)
    figures = await measureDaGas()
  })

  // What a disperser pays for each blob, everything included.
  it('confirms a blob of 100 signers with 10 absent for 250,000', () => {
    expect(figures['confirm a blob, 100 signers, 10 absent']).to.be.at.most(250_000)
  })

  // Absent signers cost, present ones do not: 4,000 each where they share nothing, and less where they share a page.
  it('grows with the absent signers only', () => {
    const none = figures['confirm a blob, 100 signers, none absent']
    // Mapping the digest to the curve takes a different number of tries for each blob.
    const chance = 10_000
    expect(figures['confirm a blob, 100 signers, 10 absent'] - none).to.be.at.most(10 * 4_000 + chance)
    expect(figures['confirm a blob, 100 signers, 30 absent'] - none).to.be.at.most(30 * 2_000 + chance)
  })

  // Whoever changes pays for it: the turn of an epoch costs the same whether nobody or many changed.
  it('turns epochs at a fixed cost', () => {
    const idle = figures['turn of an epoch without changes']
    expect(idle).to.be.at.most(50_000)
    expect(figures['turn of an epoch after 10 joined']).to.be.at.most(idle + 100)
  })
})
