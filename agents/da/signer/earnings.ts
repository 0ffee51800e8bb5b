import { type Address, encodeFunctionData } from 'viem'
import { custodyAbi, entranceAbi } from '#client/da/abi.ts'
import type { Chain } from '#kit/chain/client.ts'
import type { TransactionSender } from '#kit/chain/sender.ts'

/** Where earnings lie: samples are paid by the entrance, custody answers by the custody contract. */
export interface Earnings {
  samplesWei: bigint
  custodyWei: bigint
}

interface Contracts {
  chain: Chain
  entrance: Address
  custody: Address
}

/** What an account can draw. */
export async function claimable({
  chain,
  entrance,
  custody,
  payee,
}: Contracts & { payee: Address }): Promise<Earnings> {
  const [samplesWei, custodyWei] = await Promise.all([
    chain.client.readContract({ address: entrance, abi: entranceAbi, functionName: 'payments', args: [payee] }),
    chain.client.readContract({ address: custody, abi: custodyAbi, functionName: 'payments', args: [payee] }),
  ])
  return { samplesWei, custodyWei }
}

/**
 * Pays an account all that is due to it; anyone may send this. Nothing is sent for what is zero.
 *
 * @throws ContractRevertError when the account refuses the money; chain errors
 */
export async function drawEarnings(
  parameters: Contracts & { payee: Address; sender: TransactionSender; signal?: AbortSignal | undefined },
): Promise<Earnings> {
  const { entrance, custody, payee, sender, signal } = parameters
  const due = await claimable(parameters)
  const data = encodeFunctionData({ abi: entranceAbi, functionName: 'withdrawPayments', args: [payee] })
  if (due.samplesWei > 0n) await sender.send({ to: entrance, data, abi: entranceAbi }, { signal })
  if (due.custodyWei > 0n) await sender.send({ to: custody, data, abi: custodyAbi }, { signal })
  return due
}
