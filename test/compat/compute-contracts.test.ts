import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import * as current from '@0gfoundation/0g-compute-ts-sdk'
import * as legacy from '@0glabs/0g-serving-broker'
import { ethers } from 'ethers'
import { fineTuningServingAbi } from '#protocol/abi/fine-tuning-serving.ts'
import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import { type Anvil, DEV_ACCOUNTS, startAnvil } from '../chain.ts'
import { type ComputeContracts, deployComputeContracts } from '../compute-contracts.ts'
import { releaseLongTimers } from './compute-packages.ts'
import { silenceConsole } from './sdk.ts'

/** Where the packages look for the contracts on chain 31337. */
const INFERENCE_AT = '0x0165878A594ca255338adfa4d48449f69242Eb8F'
const FINE_TUNING_AT = '0xA51c1fc2f0D1a1b8494Ed1FE312d7C3a78Ed91C0'

const COIN = 10n ** 18n
const DAY = 86_400

const PACKAGES = [
  { name: '@0gfoundation/0g-compute-ts-sdk 0.9.0', module: current, first: 1 },
  { name: '@0glabs/0g-serving-broker 0.7.4', module: legacy, first: 5 },
] as const

let anvil: Anvil
let contracts: ComputeContracts
let rpc: ethers.JsonRpcProvider
let speak: () => void

before(async () => {
  releaseLongTimers()
  speak = silenceConsole()
  anvil = await startAnvil()
  contracts = await deployComputeContracts({ url: anvil.url })
  rpc = new ethers.JsonRpcProvider(anvil.url, undefined, { cacheTimeout: -1, pollingInterval: 50 })
})
after(async () => {
  rpc?.destroy()
  await anvil?.stop()
  speak()
})

const wallet = (account: number) => new ethers.Wallet(DEV_ACCOUNTS[account]?.privateKey ?? '', rpc)

async function wait(seconds: number): Promise<void> {
  await anvil.rpc('evm_increaseTime', [seconds])
  await anvil.rpc('anvil_mine', ['0x1'])
}

/** What the public packages say to our contracts, at the addresses that they know for chain 31337. */
for (const { name, module, first } of PACKAGES) {
  describe(`contracts through ${name}`, { concurrency: false }, () => {
    const open = (account: number) => module.createZGComputeNetworkBroker(wallet(account) as never)
    let provider: ethers.Wallet
    let signer: ethers.Wallet
    let service: ethers.Contract

    before(() => {
      provider = wallet(first)
      signer = wallet(first + 1)
      service = new ethers.Contract(INFERENCE_AT, inferenceServingAbi, provider)
    })

    test('a new user has no ledger, opens one once, and adds to it and to others', async () => {
      const broker = await open(first + 2)
      await assert.rejects(broker.ledger.getLedger(), /Account does not exist/)
      await assert.rejects(broker.ledger.addLedger(2))
      await broker.ledger.addLedger(3)
      await assert.rejects(broker.ledger.addLedger(3), /already exists/)
      await broker.ledger.depositFund(10)
      await broker.ledger.depositFundFor(wallet(first + 3).address, 3)
      const { availableBalance, totalBalance } = await broker.ledger.getLedger()
      assert.deepEqual([availableBalance, totalBalance], [13n * COIN, 13n * COIN])
      const other = await open(first + 3)
      assert.equal((await other.ledger.getLedger()).totalBalance, 3n * COIN)
    })

    test('a provider registers with its stake and is listed once governance approves its signer', async () => {
      const broker = await open(first + 2)
      const offer = ['chatbot', 'http://127.0.0.1:1', 'demo', 'TeeML', 1n, 2n, '', signer.address]
      const register = service.getFunction('addOrUpdateService')
      await assert.rejects(register(offer, { value: 99n * COIN }), /InsufficientStake|reverted/)
      await (await register(offer, { value: 100n * COIN })).wait()
      await assert.rejects(register(offer, { value: 1n }), /CannotAddStakeWhenUpdating|reverted/)
      const mine = (list: unknown[]) => list.filter((entry) => Reflect.get(Object(entry), 0) === provider.address)
      assert.equal(mine(await broker.inference.listService()).length, 0)
      assert.equal(mine(await broker.inference.listService(0, 50, true)).length, 1)
      const governor = await open(0)
      await governor.inference.acknowledgeProviderTEESigner(provider.address)
      const [listed] = mine(await broker.inference.listService())
      assert.equal(Reflect.get(Object(listed), 'length'), 11)

      const asProvider = await open(first)
      await asProvider.inference.updateService({ inputPrice: 5n })
      assert.equal(mine(await broker.inference.listService()).length, 1)
    })

    test('acknowledging funds a sub-account; too small a first transfer is told', async () => {
      const broker = await open(first + 2)
      await assert.rejects(broker.ledger.transferFund(signer.address, 'inference', COIN / 2n), /MinimumDepositRequired/)
      await assert.rejects(broker.ledger.transferFund(signer.address, 'inference', 0n))
      await broker.inference.acknowledgeProviderSigner(provider.address)
      const fresh = await open(first + 2)
      const account = await fresh.inference.getAccount(provider.address)
      assert.deepEqual([account.balance, account.acknowledged], [COIN, true])
      const status = await fresh.inference.checkProviderSignerStatus(provider.address)
      assert.deepEqual([status.isAcknowledged, status.teeSignerAddress], [true, signer.address])
      const metadata = await fresh.inference.getServiceMetadata(provider.address)
      assert.deepEqual(metadata, { endpoint: 'http://127.0.0.1:1/v1/proxy', model: 'demo' })
      const headers = await fresh.inference.getRequestHeaders(provider.address)
      assert.match(String(Reflect.get(headers, 'Authorization')), /^Bearer app-sk-/)
      // The package keeps two coins ahead of what is unsettled.
      assert.equal((await (await open(first + 2)).inference.getAccount(provider.address)).balance, 2n * COIN)
    })

    test('tokens are revoked on chain', async () => {
      const broker = await open(first + 2)
      const key = await broker.inference.requestProcessor.createApiKey(provider.address, { expiresIn: 0 })
      await broker.inference.revokeApiKey(provider.address, key.tokenId)
      const user = wallet(first + 2).address
      assert.equal(await service.getFunction('isTokenRevoked')(user, provider.address, key.tokenId), true)
      await broker.inference.revokeAllTokens(provider.address)
      assert.equal((await (await open(first + 2)).inference.getAccount(provider.address)).generation, 1n)
    })

    test('money set aside comes back after the lock time, and the ledger goes with the last of it', async () => {
      const user = wallet(first + 2).address
      const detail = await (await open(first + 2)).ledger.ledger.getLedgerWithDetail()
      assert.deepEqual(detail.ledgerInfo, [13n * COIN, 2n * COIN, 11n * COIN])
      assert.deepEqual(
        detail.infers?.map((entry) => entry.slice(0, 3)),
        [[provider.address, 2n * COIN, 0n]],
      )
      await (await open(first + 2)).ledger.retrieveFund('inference')
      const pending = await (await open(first + 2)).inference.getAccount(provider.address)
      assert.equal(pending.pendingRefund, 2n * COIN)
      const [, refunds] = await (await open(first + 2)).inference.getAccountWithDetail(provider.address)
      assert.equal(refunds.length, 1)
      // A transfer takes the pending refund back first: no new money moves.
      await (await open(first + 2)).ledger.transferFund(provider.address, 'inference', COIN)
      assert.equal((await (await open(first + 2)).ledger.getLedger()).availableBalance, 11n * COIN)
      await (await open(first + 2)).ledger.retrieveFund('inference')
      await wait(DAY + 1)
      await (await open(first + 2)).ledger.retrieveFund('inference')
      const broker = await open(first + 2)
      assert.equal((await broker.ledger.getLedger()).availableBalance, 13n * COIN)
      await assert.rejects(broker.ledger.refund(11), /MinimumDepositRequired/)
      await assert.rejects(broker.ledger.deleteLedger(), /MustWithdrawAllFundsFirst/)
      await broker.ledger.refund(13)
      await assert.rejects(broker.ledger.getLedger(), /Account does not exist/)
      assert.equal(await service.getFunction('accountExists')(user, provider.address), false)
    })

    test('fine-tuning: funded, delivered, acknowledged, listed', async () => {
      const tuning = new ethers.Contract(FINE_TUNING_AT, fineTuningServingAbi, provider)
      const quota = [1n, 2n, 0n, 3n, 'none']
      const offer = ['http://127.0.0.1:1', quota, 7n, false, ['demo'], signer.address]
      await (await tuning.getFunction('addOrUpdateService')(...offer, { value: 100n * COIN })).wait()
      const governor = await open(0)
      await governor.fineTuning?.acknowledgeTEESignerByOwner(provider.address)
      const user = wallet(first + 3)
      const broker = await open(first + 3)
      const services = await broker.fineTuning?.listService()
      assert.ok(services?.some((entry) => entry.provider === provider.address && entry.pricePerToken === 7n))
      assert.equal(await broker.fineTuning?.getLockedTime(), BigInt(DAY))
      await broker.ledger.transferFund(provider.address, 'fine-tuning', COIN)
      await (await tuning.getFunction('addDeliverable')(user.address, 'task 1', `0x${'22'.repeat(32)}`)).wait()
      // Only the newer package has a call of its own for this.
      const asUser = tuning.connect(user) as ethers.Contract
      await (await asUser.getFunction('acknowledgeDeliverable')(provider.address, 'task 1')).wait()
      const account = await (await open(first + 3)).fineTuning?.getAccount(provider.address)
      assert.deepEqual(
        account?.deliverables.map(({ id, acknowledged, settled }) => ({ id, acknowledged, settled })),
        [{ id: 'task 1', acknowledged: true, settled: false }],
      )
      const detail = await (await open(first + 3)).ledger.ledger.getLedgerWithDetail()
      assert.deepEqual(
        detail.fines?.map((entry) => entry.slice(0, 3)),
        [[provider.address, COIN, 0n]],
      )
    })

    test('read-only brokers list at the known addresses, and others can be named', async () => {
      // The package's own constructor opens a connection that it never closes; its parts take ours.
      const known = module.CONTRACT_ADDRESSES.hardhat
      assert.deepEqual(
        [known.ledger, known.inference, known.fineTuning].map((address) => address.toLowerCase()),
        [contracts.ledger, contracts.inference, contracts.fineTuning].map((address) => address.toLowerCase()),
      )
      const services = await new module.ReadOnlyInferenceBroker(rpc as never, known.inference).listService()
      assert.ok(services.some((entry) => entry.provider === provider.address))
      const tunings = await new module.ReadOnlyFineTuningBroker(rpc as never, known.fineTuning).listService()
      assert.ok(tunings.some((entry) => entry.provider === provider.address))
      const named = await module.createZGComputeNetworkBroker(
        wallet(first + 3) as never,
        contracts.ledger,
        contracts.inference,
        contracts.fineTuning,
      )
      assert.equal((await named.ledger.getLedger()).user, wallet(first + 3).address)
    })
  })
}
