import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { decodeFunctionResult, encodeFunctionData, parseEventLogs } from 'viem'
import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import {
  decodePackedStatuses,
  decodeVoucherPayments,
  type PackedVoucher,
  packableVoucher,
  packVouchers,
} from '#protocol/compute/packed-vouchers.ts'
import { signVoucher, type Voucher } from '#protocol/compute/voucher.ts'
import type { Hex } from '#protocol/hex.ts'
import { type Market, openMarket, type User } from './market.ts'

let market: Market
let users: [User, User, User]

before(async () => {
  market = await openMarket()
  await market.register(market.config())
  users = [market.user(3), market.user(4), market.user(5)]
  for (const user of users) await user.fund('1')
})
after(async () => {
  await market?.close()
})

const COIN = 10n ** 18n

async function item(user: User, claimWei: bigint, overrides: Partial<Voucher> = {}): Promise<PackedVoucher> {
  const expiresAtS = Math.floor(Date.now() / 1000) + 86_400
  const terms = { user: user.address, provider: market.provider.address, cumulativeFeeWei: 9n * COIN, generation: 0 }
  const voucher = { ...terms, expiresAtS, ...overrides }
  const domain = { chainId: 31_337, contract: market.contracts.inference, voucher }
  const packed = packableVoucher({
    ...{ ...domain, claimWei, signature: await signVoucher({ ...domain, signer: user.account }) },
  })
  assert.ok(packed)
  return packed
}

/** What the contract would say, and the data of the call. */
async function ask(items: readonly PackedVoucher[]): Promise<{ statuses: number[]; data: Hex }> {
  const functionName = 'settlePackedVouchers'
  const data = encodeFunctionData({ abi: inferenceServingAbi, functionName, args: [packVouchers(items)] })
  const account = market.provider.address
  const answer = await market.client.call({ account, to: market.contracts.inference, data })
  const statuses = decodeFunctionResult({ abi: inferenceServingAbi, functionName, data: answer.data ?? '0x' })
  return { statuses: decodePackedStatuses(statuses, items.length), data }
}

// The contract reads each field where the packing puts it: it judges every item by what is in it, pays the claim or the
// balance, and says in its event who paid what.
test('the contract reads packed vouchers as they were meant', async () => {
  const [first, second, third] = users
  const good = await item(first, 3n * 10n ** 17n)
  const items = [
    good,
    await item(second, 2n * COIN),
    await item(market.user(6), 1n),
    await item(third, 1n, { expiresAtS: 1_000_000_000 }),
    await item(third, 1n, { generation: 7 }),
    { ...(await item(third, 1n)), signature: good.signature },
    await item(third, 2n, { cumulativeFeeWei: 1n }),
  ]
  const { statuses, data } = await ask(items)
  assert.deepEqual(statuses, [0, 1, 2, 3, 4, 5, 6])
  const hash = await market.client.sendTransaction({
    ...{ account: market.provider.account, chain: null, to: market.contracts.inference, data },
  })
  const receipt = await market.client.waitForTransactionReceipt({ hash, pollingInterval: 20 })
  const [event] = parseEventLogs({ abi: inferenceServingAbi, eventName: 'VouchersSettled', logs: receipt.logs })
  assert.deepEqual(decodeVoucherPayments(event?.args.payments ?? '0x'), [
    { user: first.address, paidWei: 3n * 10n ** 17n },
    { user: second.address, paidWei: COIN },
  ])
  assert.deepEqual(await Promise.all(users.map((user) => user.balance())), [7n * 10n ** 17n, 0n, COIN])
})
