import { connectChain } from '#kit/chain/client.ts'
import { daSignersAbi } from '#protocol/abi/da-signers.ts'
import { type DevnetAgent, devnetHost, localUrl } from './agent.ts'
import type { AgentSetting } from './storage-agents.ts'

const SIGNERS = 4
/** Accounts after those of users and miners. */
const FIRST_SIGNER_ACCOUNT = 10
const DISPERSER_ACCOUNT = 14
const ALT_DA_ACCOUNT = 15

const signerNames = Array.from({ length: SIGNERS }, (_, index) => `signer-${index}`)

/** Everything of data availability that listens. */
export const daPortNames = [...signerNames, 'disperser', 'disperser grpc', 'alt-da']

/** Four signers of equal stake, a disperser, and a server for op-stack chains. */
export function daAgents({
  setting: { layout, rpcUrl, deployment },
  port,
}: {
  setting: AgentSetting
  port: (name: string) => number
}): DevnetAgent[] {
  const { DASigners, DAEntrance, DispersalAccounts } = deployment.contracts
  const chain = {
    ...{ rpcUrls: [rpcUrl], id: deployment.chainId, signers: DASigners, entrance: DAEntrance },
    startBlock: deployment.block,
  }
  const dataOf = (name: string) => ({ dir: `${layout.agentDirectory(name)}/data`, minFreeBytes: '256 MiB' })
  const signers = signerNames.map((name, index): DevnetAgent => {
    const devAccount = FIRST_SIGNER_ACCOUNT + index
    return {
      ...{ name, command: 'da-signer', port: port(name) },
      config: {
        data: dataOf(name),
        chain: { ...chain, confirmations: 0, pollIntervalMs: 300 },
        key: { devAccount },
        bls: { devAccount },
        listen: `${devnetHost}:${port(name)}`,
        publicUrl: localUrl(port(name)),
      },
    }
  })
  const disperser: DevnetAgent = {
    ...{ name: 'disperser', command: 'disperser', port: port('disperser') },
    config: {
      data: dataOf('disperser'),
      chain: { ...chain, confirmations: 2, pollIntervalMs: 500 },
      key: { devAccount: DISPERSER_ACCOUNT },
      // Clients of 0G's protocol cannot sign: here their blobs are free, and who sends a voucher pays.
      fees: { accounts: DispersalAccounts, mode: 'optional', claimIntervalMs: 5_000 },
      listen: `${devnetHost}:${port('disperser')}`,
      listenGrpc: `${devnetHost}:${port('disperser grpc')}`,
    },
  }
  const altDa: DevnetAgent = {
    ...{ name: 'alt-da', command: 'alt-da', port: port('alt-da') },
    config: {
      data: dataOf('alt-da'),
      chain: { ...chain, confirmations: 2, pollIntervalMs: 300 },
      key: { devAccount: ALT_DA_ACCOUNT },
      listen: `${devnetHost}:${port('alt-da')}`,
    },
  }
  return [...signers, disperser, altDa]
}

/**
 * Signers that join sign from the next epoch on. On a chain of one's own nobody has to wait for it: its blocks are mined
 * at once. Does nothing where the present epoch has signers.
 */
export async function enterEpochOfSigners({
  rpcUrl,
  signers,
  say,
  signal,
}: {
  rpcUrl: string
  signers: `0x${string}`
  say: (line: string) => void
  signal: AbortSignal
}): Promise<void> {
  const chain = await connectChain({ rpcUrls: [rpcUrl], signal })
  try {
    const { client } = chain
    const read = { address: signers, abi: daSignersAbi } as const
    const epoch = await client.readContract({ ...read, functionName: 'epochNumber' })
    if ((await client.readContract({ ...read, functionName: 'quorumCount', args: [epoch] })) > 0n) return
    const next = await client.readContract({ ...read, functionName: 'nextEpochBlock' })
    const blocks = next - (await client.getBlockNumber())
    if (blocks > 0n) await chain.request('anvil_mine', [`0x${blocks.toString(16)}`, '0x1'])
    say(`${SIGNERS} signers of data availability are in their epoch`)
  } finally {
    chain.close()
  }
}
