import path from 'node:path'
import { parseArgs } from 'node:util'
import { countsLine, type StageCounts, sumCounts } from './test/counts.ts'
import { checkStage, hardhatStage, nodeStage, type Stage, type StageResult } from './test/stages.ts'

/**
 * The one test command: build, style, types, contract tests, agent tests, other people's clients, whole systems.
 * The last line is `N passed, N failed` (with `, N skipped` where there are any); the exit code is 0 only without
 * failures. Names of stages as arguments run just those; `build` always runs.
 */
const stages: readonly Stage[] = [
  checkStage({ name: 'style', command: ['biome', 'check', '--error-on-warnings', '--diagnostic-level=warn', '.'] }),
  checkStage({ name: 'solidity-style', command: ['solhint', '--max-warnings', '0', 'contracts/**/*.sol'] }),
  checkStage({ name: 'types', command: ['tsc', '-p', '.'] }),
  checkStage({ name: 'docs', command: ['node', 'scripts/docs.ts', '--check'] }),
  hardhatStage({
    name: 'contracts-solidity',
    command: ['hardhat', 'test', 'solidity'],
    files: ['test/contracts/**/*.t.sol', 'contracts/**/*.t.sol'],
  }),
  hardhatStage({
    name: 'contracts-mocha',
    command: ['hardhat', 'test', 'mocha', '--no-compile'],
    files: ['test/contracts/**/*.ts'],
  }),
  nodeStage({ name: 'agents', files: ['test/agents/**/*.test.ts'] }),
  nodeStage({ name: 'compat', files: ['test/compat/**/*.test.ts'], fileLimitMs: 600_000 }),
  // Whole systems start six processes each: one at a time, so that their waits mean something on two cores.
  nodeStage({ name: 'e2e', files: ['test/e2e/**/*.test.ts'], concurrency: 1 }),
]
const build = checkStage({ name: 'build', command: ['node', 'scripts/build.ts'] })

const root = path.join(import.meta.dirname, '..')
const say = (text: string) => void process.stdout.write(text)

async function main(): Promise<StageCounts> {
  const { positionals } = parseArgs({ allowPositionals: true })
  const unknown = positionals.filter((name) => !stages.some((stage) => stage.name === name))
  if (unknown.length > 0) {
    say(`no stage is called ${unknown.join(', ')}; there are ${stages.map(({ name }) => name).join(', ')}\n`)
    return { passed: 0, failed: 1, skipped: 0 }
  }
  const chosen = stages.filter(({ name }) => positionals.length === 0 || positionals.includes(name))

  const results = [await runStage(build)]
  if (results[0]?.counts.failed === 0) {
    // Checks are short and share no files that they write: they run side by side, and are shown one after the other.
    results.push(...(await runTogether(chosen.filter(({ kind }) => kind === 'check'))))
    for (const stage of chosen.filter(({ kind }) => kind === 'tests')) results.push(await runStage(stage))
  }
  say('\n')
  for (const { name, result } of summaries) say(`${name.padEnd(20)} ${countsLine(result.counts)}\n`)
  return sumCounts(results.map(({ counts }) => counts))
}

const summaries: { name: string; result: StageResult }[] = []

async function runStage(stage: Stage): Promise<StageResult> {
  say(`\n== ${stage.name}\n`)
  return finish({ stage, result: await stage.run({ root, echo: say }) })
}

async function runTogether(checks: readonly Stage[]): Promise<StageResult[]> {
  const pending = checks.map((stage) => ({ stage, running: stage.run({ root }) }))
  const results: StageResult[] = []
  for (const { stage, running } of pending) {
    const result = await running
    say(`\n== ${stage.name}\n`)
    if (result.counts.failed > 0) say(result.output)
    results.push(finish({ stage, result }))
  }
  return results
}

function finish({ stage, result }: { stage: Stage; result: StageResult }): StageResult {
  summaries.push({ name: stage.name, result })
  const seconds = (result.durationMs / 1000).toFixed(1)
  const problem = result.problem === undefined ? '' : ` (${result.problem})`
  say(`-- ${stage.name}: ${result.counts.failed > 0 ? 'FAILED' : 'passed'}${problem} in ${seconds} s\n`)
  return result
}

const counts = await main()
process.exitCode = counts.failed > 0 ? 1 : 0
// Nothing may follow this line: it is what a caller reads.
say(`\n${countsLine(counts)}\n`)
