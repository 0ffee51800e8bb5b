import { randomFillSync } from 'node:crypto'
import { privateKeyToAccount } from 'viem/accounts'
import { connect } from '#client/connect.ts'
import { connectChain } from '#kit/chain/client.ts'
import { DEV_ACCOUNTS } from '#kit/chain/local-chain.ts'
import { flowAbi } from '#protocol/abi/flow.ts'
import { SECTOR_BYTES } from '#protocol/storage/constants.ts'
import { memorySource } from '#protocol/storage/file-tree.ts'
import { DevnetError } from './error.ts'

/**
 * Stores random data until the first reward pool is full: before that no proof earns anything, because a pool pays only
 * once the flow has passed its end. Does nothing where there is enough already.
 */
export async function fillFirstPool({
  rpcUrl,
  indexerUrl,
  flow,
  poolSectors,
  say,
  signal,
}: {
  rpcUrl: string
  indexerUrl: string
  flow: `0x${string}`
  poolSectors: number
  say: (line: string) => void
  signal: AbortSignal
}): Promise<void> {
  const [developer] = DEV_ACCOUNTS
  if (developer === undefined) throw new DevnetError({ code: 'DEVNET_SHAPE', message: 'no development account' })
  const chain = await connectChain({ rpcUrls: [rpcUrl], signal })
  const [lengthSectors] = await chain.client
    .readContract({ address: flow, abi: flowAbi, functionName: 'tree' })
    .finally(() => chain.close())
  if (Number(lengthSectors) > poolSectors) return
  // One and a half pools, so that the file ends past the first, wherever it starts.
  const bytes = new Uint8Array(1.5 * poolSectors * SECTOR_BYTES)
  randomFillSync(bytes)
  say(`storing ${bytes.length / 2 ** 20} MiB of random data, so that there is something to mine`)
  await using client = await connect({ rpcUrl, indexerUrl, account: privateKeyToAccount(developer.privateKey) })
  await client.storage.upload({ source: memorySource(bytes), signal })
}
