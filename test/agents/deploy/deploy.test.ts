import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { parseEther } from 'viem'
import { generatePrivateKey, type PrivateKeyAccount, privateKeyToAccount } from 'viem/accounts'
import { type Chain, connectChain } from '#kit/chain/client.ts'
import { type DeployEvent, deployWeightless, dryRun } from '#scripts/deploy/deploy.ts'
import { DeployError } from '#scripts/deploy/error.ts'
import { type DeployParametersInput, presets } from '#scripts/deploy/parameters.ts'
import { contractNames } from '#scripts/deploy/plan.ts'
import { progressFile } from '#scripts/deploy/record.ts'
import { type Anvil, DEV_ACCOUNTS, startAnvil } from '../../chain.ts'

let anvil: Anvil
let chain: Chain
const directory = mkdtempSync(path.join(tmpdir(), 'weightless-deploy-'))

before(async () => {
  anvil = await startAnvil()
  chain = await connectChain({ rpcUrls: [anvil.url], pollingIntervalMs: 50 })
})
after(async () => {
  chain?.close()
  await anvil?.stop()
  rmSync(directory, { recursive: true, force: true })
})

let recordNumber = 0
const newRecord = () => path.join(directory, `${++recordNumber}.json`)

async function newDeployer({ ether = '10' }: { ether?: string } = {}): Promise<PrivateKeyAccount> {
  const account = privateKeyToAccount(generatePrivateKey())
  await anvil.rpc('anvil_setBalance', [account.address, `0x${parseEther(ether).toString(16)}`])
  return account
}

function parametersFor(account: PrivateKeyAccount, changes: Partial<DeployParametersInput> = {}) {
  return { ...presets.local, governor: account.address, ...changes }
}

const nonceOf = (account: PrivateKeyAccount) => chain.client.getTransactionCount({ address: account.address })
const balanceOf = (account: PrivateKeyAccount) => chain.client.getBalance({ address: account.address })

class InjectedFailure extends Error {}

describe('deployWeightless', () => {
  it('puts every contract on the chain, wired to the others, and records it', async () => {
    const account = await newDeployer()
    const record = newRecord()
    const deployment = await deployWeightless({ chain, account, parameters: parametersFor(account), record })

    assert.equal(await nonceOf(account), contractNames.length)
    for (const name of contractNames) {
      assert.notEqual(await chain.client.getCode({ address: deployment.contracts[name] }), undefined, name)
    }
    const written = JSON.parse(readFileSync(record, 'utf8'))
    assert.deepEqual(written.contracts, deployment.contracts)
    assert.equal(written.chainId, 31337)
    assert.equal(written.block, deployment.details.Governance.block)
    assert.equal(written.details.Flow.constructorArguments[1], deployment.contracts.FixedPriceMarket)
    assert.equal(written.parameters.blocksPerEpoch, presets.local.blocksPerEpoch)
    assert.equal(existsSync(progressFile(record)), false, 'no progress is left')
  })

  it('does nothing when run again', async () => {
    const account = await newDeployer()
    const record = newRecord()
    const parameters = parametersFor(account)
    const first = await deployWeightless({ chain, account, parameters, record })
    const [nonce, balance] = [await nonceOf(account), await balanceOf(account)]
    const bytes = readFileSync(record)

    const events: DeployEvent['type'][] = []
    const second = await deployWeightless({
      chain,
      account,
      parameters,
      record,
      onEvent: ({ type }) => void events.push(type),
    })
    assert.deepEqual(second.contracts, first.contracts)
    assert.deepEqual(events, ['unchanged'])
    assert.equal(await nonceOf(account), nonce)
    assert.equal(await balanceOf(account), balance)
    assert.deepEqual(readFileSync(record), bytes)
  })

  // A failure at any point costs nothing twice: the next run makes only what is missing, at the planned addresses.
  for (const stop of ['sending', 'sent', 'created'] as const) {
    for (const name of contractNames) {
      it(`goes on after a failure at: ${stop} ${name}`, async () => {
        const account = await newDeployer()
        const record = newRecord()
        const parameters = parametersFor(account)
        const failing = deployWeightless({
          chain,
          account,
          parameters,
          record,
          onEvent: (event) => {
            if (event.type === stop && event.name === name) throw new InjectedFailure()
          },
        })
        await assert.rejects(failing, InjectedFailure)
        const made = contractNames.indexOf(name) + (stop === 'sending' ? 0 : 1)
        assert.equal(await nonceOf(account), made, 'transactions before the failure')

        const created: string[] = []
        const deployment = await deployWeightless({
          chain,
          account,
          parameters,
          record,
          onEvent: (event) => void (event.type === 'created' && created.push(event.name)),
        })
        assert.deepEqual(created, contractNames.slice(made), 'only what was missing is made')
        assert.equal(await nonceOf(account), contractNames.length, 'no transaction is sent twice')
        assert.equal(deployment.block, deployment.details.Governance.block)
      })
    }
  }

  it('goes on after a failure while verifying', async () => {
    const account = await newDeployer()
    const record = newRecord()
    const parameters = parametersFor(account)
    const run = (fail: boolean) =>
      deployWeightless({
        chain,
        account,
        parameters,
        record,
        onEvent: ({ type }) => {
          if (fail && type === 'verifying') throw new InjectedFailure()
        },
      })
    await assert.rejects(run(true), InjectedFailure)
    await run(false)
    assert.equal(await nonceOf(account), contractNames.length)
  })

  it('draws up a new plan when another transaction of the account took a planned nonce', async () => {
    const account = await newDeployer()
    const record = newRecord()
    let interfered = false
    const restarts: string[][] = []
    const deployment = await deployWeightless({
      chain,
      account,
      parameters: parametersFor(account),
      record,
      onEvent: async (event) => {
        if (event.type === 'restarted') restarts.push(event.abandoned)
        if (event.type !== 'sending' || event.name !== 'FixedPriceMarket' || interfered) return
        interfered = true
        const fees = await chain.client.estimateFeesPerGas()
        const serializedTransaction = await account.signTransaction({
          chainId: chain.id,
          nonce: contractNames.indexOf('FixedPriceMarket'),
          to: account.address,
          gas: 21_000n,
          ...fees,
        })
        await chain.client.sendRawTransaction({ serializedTransaction })
      },
    })
    const made = contractNames.indexOf('FixedPriceMarket')
    assert.deepEqual(restarts, [contractNames.slice(0, made + 1)])
    assert.equal(await nonceOf(account), made + 1 + contractNames.length)
    assert.notEqual(await chain.client.getCode({ address: deployment.contracts.Flow }), undefined)
  })

  it('starts over when the parameters changed half way', async () => {
    const account = await newDeployer()
    const record = newRecord()
    const first = deployWeightless({
      chain,
      account,
      parameters: parametersFor(account),
      record,
      onEvent: (event) => {
        if (event.type === 'created' && event.name === 'Flow') throw new InjectedFailure()
      },
    })
    await assert.rejects(first, InjectedFailure)
    const parameters = parametersFor(account, { blocksPerEpoch: 777 })
    const deployment = await deployWeightless({ chain, account, parameters, record })
    assert.equal(deployment.parameters.blocksPerEpoch, 777)
    assert.equal(await nonceOf(account), contractNames.indexOf('Flow') + 1 + contractNames.length)
  })

  it('refuses to begin what the account cannot pay for, and says how much is missing', async () => {
    const account = await newDeployer({ ether: '0.0001' })
    await assert.rejects(
      deployWeightless({ chain, account, parameters: parametersFor(account) }),
      (error: unknown) =>
        error instanceof DeployError && error.code === 'DEPLOY_FUNDS' && /send at least \d+ wei/.test(error.fix ?? ''),
    )
    assert.equal(await nonceOf(account), 0)
  })

  it('refuses a record of other parameters, of another chain, and of code that is gone', async () => {
    const account = await newDeployer()
    const record = newRecord()
    const parameters = parametersFor(account)
    const deployment = await deployWeightless({ chain, account, parameters, record })
    const refused = (code: string) => (error: unknown) => error instanceof DeployError && error.code === code

    const others = parametersFor(account, { blocksPerEpoch: 999 })
    await assert.rejects(deployWeightless({ chain, account, parameters: others, record }), refused('DEPLOY_RECORD'))

    const code = await chain.client.getCode({ address: deployment.contracts.FixedPriceMarket })
    await anvil.rpc('anvil_setCode', [deployment.contracts.FixedPriceMarket, '0x00'])
    await assert.rejects(deployWeightless({ chain, account, parameters, record }), refused('DEPLOY_CODE'))
    await anvil.rpc('anvil_setCode', [deployment.contracts.FixedPriceMarket, code])

    const otherAnvil = await startAnvil({ chainId: 31338 })
    const otherChain = await connectChain({ rpcUrls: [otherAnvil.url] })
    try {
      const onOther = deployWeightless({ chain: otherChain, account, parameters, record })
      await assert.rejects(onOther, refused('DEPLOY_RECORD'))
    } finally {
      otherChain.close()
      await otherAnvil.stop()
    }
  })

  it('names every parameter that is out of bounds at once', async () => {
    const [{ address }] = DEV_ACCOUNTS as [(typeof DEV_ACCOUNTS)[number]]
    const parameters = { ...presets.local, governor: address, blocksPerEpoch: 0, releaseSeconds: 1, poolSectors: 3 }
    await assert.rejects(
      deployWeightless({ chain, account: await newDeployer(), parameters }),
      (error: unknown) =>
        error instanceof DeployError &&
        error.code === 'DEPLOY_PARAMETERS' &&
        ['blocksPerEpoch', 'releaseSeconds', 'poolSectors'].every((key) => error.message.includes(key)),
    )
  })
})

describe('dryRun', () => {
  it('spends nothing, writes nothing, and bounds what the deployment then costs', async () => {
    const account = await newDeployer()
    const record = newRecord()
    const parameters = parametersFor(account)
    const before = await balanceOf(account)
    const result = await dryRun({ chain, deployer: account.address, parameters, record })
    assert.ok('estimate' in result)
    assert.equal(await balanceOf(account), before)
    assert.equal(await nonceOf(account), 0)
    assert.equal(existsSync(record) || existsSync(progressFile(record)), false)
    assert.deepEqual(
      result.estimate.contracts.map(({ name }) => name),
      [...contractNames],
    )

    const deployment = await deployWeightless({ chain, account, parameters, record })
    assert.deepEqual(
      result.estimate.contracts.map(({ address }) => address),
      contractNames.map((name) => deployment.contracts[name]),
      'the addresses are the ones foretold',
    )
    const spent = before - (await balanceOf(account))
    assert.ok(spent > 0n && spent <= result.estimate.feeWei, `spent ${spent}, estimated ${result.estimate.feeWei}`)
    const again = await dryRun({ chain, deployer: account.address, parameters, record })
    assert.ok('unchanged' in again)
  })

  it('counts only what is missing after an interrupted deployment', async () => {
    const account = await newDeployer()
    const record = newRecord()
    const parameters = parametersFor(account)
    const failing = deployWeightless({
      chain,
      account,
      parameters,
      record,
      onEvent: (event) => {
        if (event.type === 'created' && event.name === 'Flow') throw new InjectedFailure()
      },
    })
    await assert.rejects(failing, InjectedFailure)
    const result = await dryRun({ chain, deployer: account.address, parameters, record })
    assert.ok('estimate' in result)
    const made = contractNames.indexOf('Flow') + 1
    assert.deepEqual(result.done, contractNames.slice(0, made))
    assert.deepEqual(
      result.estimate.contracts.map(({ name }) => name),
      contractNames.slice(made),
    )
  })
})
