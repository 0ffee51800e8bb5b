import type { Address } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { MAX_SIGNERS, type Quorum, type QuorumSigner } from '#protocol/da/quorum.ts'
import { signersAbi } from './abi.ts'
import type { DaConnection } from './connection.ts'

/** Signers asked for in one call: sockets make the answer long. */
const PAGE = 64

/**
 * The signers of an epoch: their keys, stakes, rows and where they are reached. The table of an epoch never changes once
 * it began, so it is read once per connection.
 */
export function readQuorum(connection: DaConnection, { epoch }: { epoch: number }): Promise<Quorum> {
  return connection.cached('quorum', String(epoch), async () => {
    return fetchQuorum({ chain: await connection.chain(), signers: connection.contracts.signers, epoch })
  })
}

/** The signers of an epoch, from the chain. Of an epoch without signers the list is empty. */
export async function fetchQuorum({
  chain,
  signers: address,
  epoch,
}: {
  chain: Chain
  signers: Address
  epoch: number
}): Promise<Quorum> {
  const signers: QuorumSigner[] = []
  while (signers.length < MAX_SIGNERS) {
    const page = await chain.client.readContract({
      address,
      abi: signersAbi,
      functionName: 'signersAt',
      args: [BigInt(epoch), BigInt(signers.length), BigInt(PAGE)],
    })
    for (const { signer, index, stakeWei, firstRow, rowCount, pkG1, pkG2, socket } of page) {
      signers.push({
        address: signer.toLowerCase() as Address,
        index: Number(index),
        ...{ stakeWei, socket, firstRow, rowCount },
        pk1: pkG1,
        pk2: { X: [pkG2.X[0], pkG2.X[1]], Y: [pkG2.Y[0], pkG2.Y[1]] },
      })
    }
    if (page.length < PAGE) break
  }
  return { epoch, signers, totalStakeWei: signers.reduce((sum, { stakeWei }) => sum + stakeWei, 0n) }
}
