import { join } from 'node:path'
import {
  type DisperserConfigInput,
  disperserConfigSchema,
  type RunningDisperser,
  startDisperser,
} from '#da/disperser/main.ts'
import { createLog, silentLog } from '#kit/log.ts'
import { accountOf, type DaNet } from '../da-signer/harness.ts'

/** Account of the disperser: away from the signers' and the clients'. */
export const DISPERSER_ACCOUNT = 9

/** Starts a disperser on a test network; `name` is its folder. */
export async function openDisperser(
  net: DaNet,
  {
    name = 'disperser',
    jobs,
    data,
    fees,
    accountIndex = DISPERSER_ACCOUNT,
    confirmations = 3,
    retentionEpochs,
  }: { name?: string; accountIndex?: number; confirmations?: number } & Pick<
    DisperserConfigInput,
    'jobs' | 'data' | 'fees' | 'retentionEpochs'
  > = {},
): Promise<RunningDisperser> {
  const config = disperserConfigSchema.parse({
    data: { dir: join(net.folder, name), minFreeBytes: 0, ...data },
    chain: {
      rpcUrls: [net.anvil.url],
      id: 31337,
      signers: net.contracts.signers,
      entrance: net.contracts.entrance,
      startBlock: net.contracts.block,
      confirmations,
      pollIntervalMs: 100,
    },
    jobs: { batchMs: 50, ...jobs },
    fees: { claimIntervalMs: 200, ...fees },
    retentionEpochs,
    listen: '127.0.0.1:0',
    listenGrpc: '127.0.0.1:0',
  })
  const log = process.env.DA_TEST_LOG ? createLog({ name, level: 'debug' }) : silentLog()
  return startDisperser(config, { log, account: accountOf(accountIndex) })
}
