import { privateKeyToAccount } from 'viem/accounts'
import { connectChain } from '#kit/chain/client.ts'
import { DEV_ACCOUNTS } from '#kit/chain/dev-accounts.ts'
import { LOCAL_CHAIN_ID } from '#kit/chain/local-chain.ts'
import { type DeployEvent, deployWeightless } from '../deploy/deploy.ts'
import { DeployError } from '../deploy/error.ts'
import { type DeployParametersInput, presets } from '../deploy/parameters.ts'
import { type Deployment, readDeployment } from '../deploy/record.ts'
import { DevnetError } from './error.ts'

/** Puts the contracts on the devnet's chain, or finds those of an earlier run there. */
export async function deployContracts({
  rpcUrl,
  record,
  contracts,
  say,
  signal,
}: {
  rpcUrl: string
  record: string
  /** Parameters other than those of the local preset. */
  contracts: Partial<DeployParametersInput>
  say: (line: string) => void
  signal: AbortSignal
}): Promise<Deployment> {
  const chain = await connectChain({ rpcUrls: [rpcUrl], chainId: LOCAL_CHAIN_ID, pollingIntervalMs: 100, signal })
  try {
    const [developer] = DEV_ACCOUNTS
    if (developer === undefined) throw new DevnetError({ code: 'DEVNET_SHAPE', message: 'no development account' })
    const account = privateKeyToAccount(developer.privateKey)
    // An existing devnet keeps its parameters, whatever the preset has become since.
    const parameters = readDeployment(record)?.parameters ?? {
      ...presets.local,
      governor: account.address,
      ...contracts,
    }
    return await deployWeightless({
      chain,
      account,
      parameters: parameters as Parameters<typeof deployWeightless>[0]['parameters'],
      record,
      network: 'devnet',
      signal,
      onEvent: (event) => sayEvent({ event, say }),
    })
  } catch (cause) {
    if (!(cause instanceof DeployError) || cause.code !== 'DEPLOY_CODE') throw cause
    throw new DevnetError({
      code: 'DEVNET_DIRECTORY',
      message: `the chain of this devnet has lost its contracts: ${cause.message}`,
      fix: 'start over with --fresh',
      cause,
    })
  } finally {
    chain.close()
  }
}

function sayEvent({ event, say }: { event: DeployEvent; say: (line: string) => void }): void {
  if (event.type === 'done') say('contracts deployed')
  if (event.type === 'resumed') say('going on with an interrupted deployment')
  if (event.type === 'unchanged' && event.outdated.length > 0) {
    const names = event.outdated.join(', ')
    say(`note: the sources of ${names} have changed since they were deployed here; --fresh deploys them anew`)
  }
}
