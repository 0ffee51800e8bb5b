import path from 'node:path'
import { DeployError } from './error.ts'

/**
 * The RPC endpoints of a network: of `--rpc` where given, else `NAME_RPC_URL` of `env`, else as the network's entry in
 * `hardhat.config.ts` says.
 *
 * @throws {DeployError} `DEPLOY_NETWORK`
 */
export async function networkRpcUrls({
  network,
  rpc,
  env,
}: {
  network?: string | undefined
  rpc?: string | undefined
  env: Readonly<Record<string, string | undefined>>
}): Promise<string[]> {
  if (rpc !== undefined) return rpc.split(',').map((url) => url.trim())
  // Loaded only when it is asked for: it takes a moment. Given its configuration, because the command is run anywhere.
  const { createHardhatRuntimeEnvironment } = await import('hardhat/hre')
  const { default: hardhatConfig } = await import('../../hardhat.config.ts')
  const hardhat = await createHardhatRuntimeEnvironment(hardhatConfig, {}, path.join(import.meta.dirname, '..', '..'))
  const networks = Object.entries(hardhat.config.networks).filter(([, { type }]) => type === 'http')
  const names = networks.map(([name]) => name).join(', ')
  if (network === undefined) {
    throw new DeployError({
      code: 'DEPLOY_NETWORK',
      message: 'no network is given',
      fix: `give --network NAME (${names}) or --rpc URL`,
    })
  }
  const config = networks.find(([name]) => name === network)?.[1]
  if (config?.type !== 'http') {
    throw new DeployError({
      code: 'DEPLOY_NETWORK',
      message: `hardhat.config.ts has no network ${network} that is reached over HTTP`,
      fix: `give one of ${names}, or --rpc URL`,
      details: { network },
    })
  }
  const variable = `${network.toUpperCase()}_RPC_URL`
  const fromEnvironment = env[variable]
  if (fromEnvironment !== undefined) return [fromEnvironment]
  try {
    return [await config.url.getUrl()]
  } catch (cause) {
    throw new DeployError({
      code: 'DEPLOY_NETWORK',
      message: `the URL of network ${network} is not set`,
      fix: `set ${variable} in the environment or in .env, or give --rpc URL`,
      details: { network },
      cause,
    })
  }
}
