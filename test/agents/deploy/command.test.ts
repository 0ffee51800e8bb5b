import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { contractNames } from '#scripts/deploy/plan.ts'
import { type Anvil, DEV_ACCOUNTS, headNumber, startAnvil } from '../../chain.ts'
import { weightless } from '../../e2e/devnet-process.ts'

/** `weightless deploy` as it is typed, on a chain whose id is not a development chain's. */
describe('weightless deploy', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'weightless-deploy-command-'))
  const record = path.join(directory, 'record.json')
  const [developer] = DEV_ACCOUNTS
  assert.ok(developer !== undefined)
  const governor = developer.address
  let anvil: Anvil

  before(async () => {
    anvil = await startAnvil({ chainId: 424242 })
    writeFileSync(path.join(directory, '.env'), `WEIGHTLESS_PRIVATE_KEY=${developer.privateKey}\n`)
  })
  after(async () => {
    await anvil.stop()
    rmSync(directory, { recursive: true, force: true })
  })

  const deploy = (...args: string[]) =>
    weightless(['deploy', '--rpc', anvil.url, '--record', record, ...args], { cwd: directory })
  const complete = ['--preset', 'turbo', '--governor', governor]

  it('asks for what a public chain must be told: a preset and a governor', async () => {
    const noPreset = await deploy('--yes')
    assert.notEqual(noPreset.code, 0)
    assert.match(noPreset.stderr, /--preset local \| standard \| turbo/)
    const noGovernor = await deploy('--yes', '--preset', 'turbo')
    assert.notEqual(noGovernor.code, 0)
    assert.match(noGovernor.stderr, /governor/)
    assert.equal(await headNumber(anvil), 0)
  })

  it('shows with --dry-run what it would cost, and sends nothing', async () => {
    const { code, stdout, stderr } = await deploy('--dry-run', ...complete)
    assert.equal(code, 0, stderr)
    for (const name of contractNames) assert.match(stdout, new RegExp(`${name} +\\d+ gas`))
    assert.match(stdout, /together at most/)
    assert.equal(await headNumber(anvil), 0)
    assert.equal(existsSync(record), false)
  })

  it('spends nothing without a yes', async () => {
    const { code, stderr } = await deploy(...complete)
    assert.equal(code, 2)
    assert.match(stderr, /--yes/)
    assert.equal(await headNumber(anvil), 0)
  })

  it('deploys, and does nothing the second time', async () => {
    const first = await deploy('--yes', '--json', ...complete)
    assert.equal(first.code, 0, first.stdout)
    const answer = JSON.parse(first.stdout)
    assert.equal(answer.changed, true)
    assert.equal(await headNumber(anvil), contractNames.length)
    assert.deepEqual(JSON.parse(readFileSync(record, 'utf8')).contracts, answer.deployment.contracts)

    const second = JSON.parse((await deploy('--yes', '--json', ...complete)).stdout)
    assert.equal(second.changed, false)
    assert.deepEqual(second.deployment.contracts, answer.deployment.contracts)
    assert.equal(await headNumber(anvil), contractNames.length)
  })

  it('never shows the key', async () => {
    const { stdout, stderr } = await deploy('--dry-run', '--verbose', ...complete)
    assert.doesNotMatch(stdout + stderr, new RegExp(developer.privateKey.slice(2), 'i'))
  })

  it('names the networks there are', async () => {
    const { code, stderr } = await weightless(['deploy', '--network', 'nowhere'], { cwd: directory })
    assert.equal(code, 1)
    assert.match(stderr, /localhost, galileo, sepolia/)
  })
})
