import type { ContractTransactionReceipt, ContractTransactionResponse } from 'ethers'
import {
  type ComputeFixture,
  deployCompute,
  ETHER,
  fund,
  fundedWallet,
  INFERENCE,
  packVouchers,
  registerInference,
  signSettlement,
  signVoucher,
} from '../../test/contracts/compute/compute-fixture.ts'
import type { BenchContext } from './context.ts'

/** Gas from nothing to the first paid answer on the public 0G contracts: deposit, transfer, acknowledge. */
const REFERENCE_FIRST_ANSWER_GAS = 573_000

/** Users of one batch. */
const USERS = 50

/** Gas by name of what was done; the same on every machine. */
export type ComputeGasFigures = Record<string, number>

/**
 * Measures what settling and joining cost, everything included: transaction, calldata, storage, payment to the
 * provider. Batches are of 50 users who have been charged before. Runs on a simulated chain inside this process.
 */
export async function measureComputeGas(): Promise<ComputeGasFigures> {
  const f = await deployCompute()
  const provider = await fundedWallet(f.connection, 'provider')
  const signer = await fundedWallet(f.connection, 'signer')
  await registerInference(f, provider, signer.address)
  const inference = f.inference.connect(provider) as typeof f.inference
  const figures: ComputeGasFigures = {}

  // The provider has had users before, as any but the first of its users finds it.
  const earlier = await fundedWallet(f.connection, 'earlier user')
  await fund(f, earlier, provider.address, ETHER)
  const users: Awaited<ReturnType<typeof fundedWallet>>[] = []
  for (let i = 0; i < USERS; i++) users.push(await fundedWallet(f.connection, `user ${i}`))
  const [newcomer, ...others] = users
  if (newcomer === undefined) throw new Error('no users')
  Object.assign(figures, await joining(f, newcomer, provider.address))
  for (const user of others) await fund(f, user, provider.address, ETHER)

  // Amounts of ordinary length: most of their 8 bytes are not zero.
  const fee = (round: number, index: number) => 1_234_567_890_123_456n * BigInt(round) + BigInt(index) * 7_919n
  const vouchers = async (round: number, packed: boolean) => {
    const items = []
    for (const [i, user] of users.entries()) {
      const cumulativeFee = fee(round, i)
      items.push(await signVoucher(f, { user, provider: provider.address, cumulativeFee, claim: cumulativeFee - 321n }))
    }
    return each(
      packed ? await inference.settlePackedVouchers(packVouchers(f, items)) : await inference.settleVouchers(items),
    )
  }
  const settlements = async (round: number) => {
    const items = []
    for (const [i, user] of users.entries()) {
      const nonce = 17_000_000_000_000_000n + BigInt(round)
      const totalFee = fee(1, i)
      items.push(await signSettlement(f, { user: user.address, provider: provider.address, totalFee, nonce, signer }))
    }
    return each(await inference.settleFeesWithTEE(items))
  }
  figures['50 vouchers, first, each'] = await vouchers(1, true)
  figures['50 vouchers, repeated, each'] = await vouchers(2, true)
  figures['50 vouchers, not packed, each'] = await vouchers(3, false)
  figures['50 signed fees, first, each'] = await settlements(1)
  figures['50 signed fees, repeated, each'] = await settlements(2)
  const single = await signVoucher(f, { user: newcomer, provider: provider.address, cumulativeFee: fee(4, 0) })
  figures['one voucher alone'] = await gasOf(await inference.settleVouchers([single]))
  return figures
}

/** Reports `gas.voucher-settle-50`, `gas.tee-settle-50` and `gas.first-answer`. */
export async function bench({ report }: Pick<BenchContext, 'report'>): Promise<void> {
  const figures = await measureComputeGas()
  const figure = (name: string) => figures[name] ?? Number.NaN
  report({ name: 'gas.voucher-settle-50', value: figure('50 vouchers, repeated, each'), unit: 'gas', detail: figures })
  report({ name: 'gas.tee-settle-50', value: figure('50 signed fees, repeated, each'), unit: 'gas', detail: figures })
  const value = figure('first answer: deposit, transfer, acknowledge')
  report({
    name: 'gas.first-answer',
    value,
    unit: 'gas',
    peer: '0G reference (specification)',
    peerValue: REFERENCE_FIRST_ANSWER_GAS,
    ratio: REFERENCE_FIRST_ANSWER_GAS / value,
    detail: figures,
  })
}

/** What a user pays who has nothing yet: a ledger, a sub-account, the acknowledgement of the signer. */
async function joining(f: ComputeFixture, user: Awaited<ReturnType<typeof fundedWallet>>, provider: string) {
  const ledger = f.ledger.connect(user) as typeof f.ledger
  const inference = f.inference.connect(user) as typeof f.inference
  const deposit = await gasOf(await ledger.depositFund({ value: 3n * ETHER }))
  const transfer = await gasOf(await ledger.transferFund(provider, INFERENCE, ETHER))
  const acknowledge = await gasOf(await inference.acknowledgeTEESigner(provider, true))
  return {
    'first answer: deposit, transfer, acknowledge': deposit + transfer + acknowledge,
    'of which deposit': deposit,
    'of which transfer': transfer,
    'of which acknowledge': acknowledge,
  }
}

async function each(response: ContractTransactionResponse): Promise<number> {
  return Math.round((await gasOf(response)) / USERS)
}

async function gasOf(response: ContractTransactionResponse): Promise<number> {
  const receipt: ContractTransactionReceipt | null = await response.wait()
  if (receipt?.status !== 1) throw new Error(`transaction ${response.hash} failed`)
  return Number(receipt.gasUsed)
}
