import { pricePerSectorWei } from '#scripts/deploy/contracts/storage.ts'
import { COST, EPOCH, MACHINES } from './assumptions.ts'
import { activeShare, difficultyHistory, epochsToSettle, exodus, plots, STEPS, silence, spread } from './figures.ts'
import { honest, partial, sealOnDemand, sharded, yieldOf } from './strategies.ts'

/** The ratio of the reference, and the one chosen here. */
export const RATIOS = [EPOCH.ratio, 8] as const

/** Epochs of which one is silent, for the table of silence. */
const PERIODS = [2, 4, 8, 12, 24] as const

const SECTORS_PER_TIB = 2 ** 32
const STANDARD = { months: 12n, unitPrice: 24n }

/** The files of the report: the page and its plots, by path below `docs/`. */
export function reportFiles(): Record<string, string> {
  const images = Object.fromEntries(Object.entries(plots(RATIOS)).map(([name, svg]) => [`economics/${name}`, svg]))
  return { 'economics.md': page(), ...images }
}

function page(): string {
  return `<!-- biome-ignore-all format: padded tables are hard to change -->

# Economics of mining

What a miner earns, what cheating gains, and which parameters follow. Everything here is computed by
\`npm run sim\` from the assumptions in \`scripts/sim/assumptions.ts\`; change them there and run it again.
It is a model of costs and rates, not of a market.

## What an attempt costs

| step | seconds of one core |
|---|---|
| scratchpad of a nonce, before the chunk is known | ${micro(COST.scratchpadSeconds)} |
| mixing and hashing the 64 seals of the chunk | ${micro(COST.hashSeconds)} |
| sealing a chunk of 256 KiB | ${micro(COST.sealSeconds)} |

Besides, one random read of 256 KiB. A core makes ${Math.round(1 / (COST.scratchpadSeconds + COST.hashSeconds))} attempts a second, so most
machines are bound by their disks:

| machine | reads/s | attempts/s | cores busy | stored | cost a month |
|---|---|---|---|---|---|
${MACHINES.map((machine) => {
  const { cores, usdPerMonth, activeTime } = honest({ machine, flowTb: machine.capacityTb })
  const rate = Math.min(machine.loadsPerSecond, machine.cores / (COST.scratchpadSeconds + COST.hashSeconds))
  return `| ${machine.name} | ${machine.loadsPerSecond} | ${Math.round(rate)} | ${(cores / activeTime).toFixed(2)} | ${machine.capacityTb} TB | $${usdPerMonth.toFixed(2)} |`
}).join('\n')}

## Revenue against cost

At the standard price a user pays ${coinsPerTibMonth().toFixed(2)} coins for a TiB and month, before the service fee; all
replicas together earn that, in proportion to hits. A TB costs a miner
${MACHINES.map((machine) => `$${(honest({ machine, flowTb: machine.capacityTb }).usdPerMonth / machine.capacityTb).toFixed(2)} (${machine.name})`).join(', ')} a month. The coin price at which R full
replicas pay for themselves is cost · R / revenue:

| replicas | ${MACHINES.map(({ name }) => name).join(' | ')} |
|---|${MACHINES.map(() => '---|').join('')}
${[1, 3, 10].map((replicas) => `| ${replicas} | ${MACHINES.map((machine) => breakEven(machine, replicas)).join(' | ')} |`).join('\n')}

## Keeping a fraction

![Declaring everything, keeping a fraction](economics/partial-storage.svg)

A miner may declare the whole flow and keep a fraction f of it. A nonce that lands elsewhere costs its scratchpad and no
read. Where the disk is the limit, the reads saved go to chunks it has: it earns as before, for 1/f scratchpads an
attempt and f of the disks. Best fraction and gain:

| machine | best fraction | hashes per dollar against keeping all | of an honest shard 1/8 |
|---|---|---|---|
${MACHINES.map(bestFraction).join('\n')}

**Random access is proved; full storage is not.** What bounds the cheat is the scratchpad: it makes a miner of a fraction
buy cores instead of disks, and on fast disks, or with data in memory, where cores are the limit, keeping all is best by
far (a core makes ${ratio(coreRate(1), coreRate(0.1))} times the attempts with everything at hand than with a tenth). No parameter of the contracts moves
this; the scratchpad's length would, and it is fixed by the protocol that public miners speak. A file's availability
therefore rests on replicas at distinct operators and on nodes that repair, not on mining alone.

An honest shard earns less per dollar than a false full range. Operators of slow disks lose by honesty; this is the
weakest point of the protocol's incentives and is stated here rather than hidden.

## Many ids, one disk

![Several ids on one machine](economics/identities.svg)

Ids are free. With ${EPOCH.windows} windows of ${EPOCH.windowBlocks} blocks in an epoch of ${EPOCH.blocks}, one id may answer in ${percent(activeShare(1))} of the time and eight in
${percent(activeShare(8))}. Sealed copies for each id cost as much disk as they earn. One plain copy sealed on demand costs
${ratio(COST.sealSeconds + COST.scratchpadSeconds + COST.hashSeconds, COST.scratchpadSeconds + COST.hashSeconds)} times the work of an attempt: a loss on fast disks, but on a hard disk, whose cores idle, eight ids earn
${demandGain('hard disk', 8)} times as much for a dollar.

**Chosen: one window as long as the epoch allows** (\`nSubtasks\` 1, \`targetMineBlocks\` = \`blocksPerEpoch\` − 150 for
the public presets). An id may then answer nearly always, further ids add nothing, and sealing on demand is a loss on
every machine (${MACHINES.map(({ name }) => `${demandGain(name, 1)} on the ${name}`).join(', ')}).

## Difficulty

![Difficulty after steps of the hash power](economics/difficulty-steps.svg)

| ratio | epochs to follow ten times the power | and back | spread at rest |
|---|---|---|---|
${RATIOS.map((ratioValue) => {
  const history = difficultyHistory({ ratio: ratioValue })
  return `| ${ratioValue} | ${epochsToSettle(history, STEPS.up)} | ${epochsToSettle(history, STEPS.down)} | ${percent(spread(history))} |`
}).join('\n')}

**Chosen: ratio ${RATIOS[1]}.** While difficulty lags behind, twice the wanted answers are paid in each epoch, so slowness upwards
is money: the reference's ${RATIOS[0]} takes ${epochsToSettle(difficultyHistory({ ratio: RATIOS[0] }), STEPS.up)} epochs. The noise that a faster rule lets in is small against that of the answers
themselves (10 % at ${EPOCH.wanted} an epoch).

![Difficulty when nearly all miners leave](economics/difficulty-exodus.svg)

When nearly all power leaves, the reference never moves again, because it adjusts only when an answer is accepted. Here
every silent epoch doubles the target: with a hundred-thousandth of the power left, the first answer comes after
${firstAnswer()} epochs, and the reference saw ${exodus({ easeWhenSilent: false }).filter(({ epoch, answers }) => epoch > 20 && answers > 0).length} answers in the hundred simulated.

### Silence as a strategy

A doubling is a guess, and miners with most of the power can cause one by keeping silent for an epoch. By the rule of the
reference alone the target would then come back by a sixteenth an epoch, with up to twice the wanted answers paid in
each. Answers of miners who are silent in every n-th epoch, against those who never are:

| silent in every | doublings taken back as any easing | doublings taken back at once |
|---|---|---|
${PERIODS.map((period) => `| ${period}. epoch | ${ratio(silence({ period, takeBack: false }), 1)} | ${ratio(silence({ period, takeBack: true }), 1)} |`).join('\n')}

**Chosen: at once.** After a doubling, an epoch with more answers than wanted moves the target all the way that they
justify, by half at most and once for each doubling; so it never passes where it came from, and silence no longer pays.
An epoch with the answers wanted, or down to half of them, proves one doubling right. Without doublings every step is that
of the specification.

## What is not modelled

Prices that move, pooled disks, electricity by region, heat, memory-resident data beyond the bound above, collusion of
operators, and users who pay more for storage they know to be replicated.
`
}

function coinsPerTibMonth(): number {
  return (Number(pricePerSectorWei(STANDARD)) * SECTORS_PER_TIB) / 1e18 / Number(STANDARD.months)
}

function breakEven(machine: (typeof MACHINES)[number], replicas: number): string {
  const costPerTb = honest({ machine, flowTb: machine.capacityTb }).usdPerMonth / machine.capacityTb
  return `$${((replicas * costPerTb * 1.0995) / coinsPerTibMonth()).toFixed(3)}`
}

function bestFraction(machine: (typeof MACHINES)[number]): string {
  const setting = { machine, flowTb: machine.capacityTb }
  const full = yieldOf(honest(setting))
  const fractions = Array.from({ length: 99 }, (_, i) => (i + 1) / 100)
  const gains = fractions.map((fraction) => yieldOf(partial({ ...setting, fraction })) / full)
  const best = Math.max(...gains)
  const shard = yieldOf(sharded({ ...setting, shards: 8 })) / full
  return `| ${machine.name} | ${fractions[gains.indexOf(best)]} | ${best.toFixed(2)} | ${shard.toFixed(2)} |`
}

function coreRate(fraction: number): number {
  return 1 / (COST.scratchpadSeconds / fraction + COST.hashSeconds)
}

function demandGain(name: string, ids: number): string {
  const machine = MACHINES.find((one) => one.name === name)
  if (machine === undefined) throw new RangeError(`no machine is called ${name}`)
  const setting = { machine, flowTb: machine.capacityTb }
  return (yieldOf(sealOnDemand({ ...setting, ids })) / yieldOf(honest(setting))).toFixed(2)
}

function firstAnswer(): number {
  const found = exodus({ easeWhenSilent: true }).find(({ epoch, answers }) => epoch > 20 && answers > 0)
  return (found?.epoch ?? Number.POSITIVE_INFINITY) - 20
}

function micro(seconds: number): string {
  return `${Math.round(seconds * 1e6)} µs`
}

function percent(part: number): string {
  return `${(100 * part).toFixed(1)} %`
}

function ratio(a: number, b: number): string {
  return (a / b).toFixed(1)
}
