import type { Address } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { DeployError } from './error.ts'
import type { ContractName, PlannedContract } from './plan.ts'
import { currentFees, feeBound } from './send-creation.ts'

/** What a deployment will cost. `feeWei` is a bound: the base fee may fall below what is allowed for. */
export interface DeployEstimate {
  contracts: { name: ContractName; address: Address; gas: bigint; feeWei: bigint }[]
  gas: bigint
  feeWei: bigint
  /** The most one gas may cost now, wei. */
  gasPriceWei: bigint
  deployer: Address
  balanceWei: bigint
}

/** Gas limits leave room for what the estimate could not see, such as a warmer or colder state. */
const gasMarginPercent = 115n

/** Asks the chain what creating these contracts would take. Sends nothing. */
export async function estimateDeployment({
  chain,
  deployer,
  contracts,
}: {
  chain: Chain
  deployer: Address
  contracts: readonly PlannedContract[]
}): Promise<DeployEstimate> {
  const gasPriceWei = feeBound(await currentFees(chain))
  const estimates: DeployEstimate['contracts'] = []
  for (const { name, address, creationCode } of contracts) {
    const gas = await estimateGas({ chain, deployer, name, data: creationCode })
    estimates.push({ name, address, gas, feeWei: gas * gasPriceWei })
  }
  return {
    contracts: estimates,
    gas: estimates.reduce((sum, { gas }) => sum + gas, 0n),
    feeWei: estimates.reduce((sum, { feeWei }) => sum + feeWei, 0n),
    gasPriceWei,
    deployer,
    balanceWei: await chain.client.getBalance({ address: deployer }),
  }
}

/** Refuses to begin what the account cannot pay to the end (`DEPLOY_FUNDS`). */
export function requireFunds({ deployer, balanceWei, feeWei }: DeployEstimate): void {
  if (balanceWei >= feeWei) return
  throw new DeployError({
    code: 'DEPLOY_FUNDS',
    message: `${deployer} holds ${balanceWei} wei and the deployment may take ${feeWei} wei`,
    fix: `send at least ${feeWei - balanceWei} wei to ${deployer}`,
    details: { deployer, balanceWei, feeWei },
  })
}

async function estimateGas({
  chain,
  deployer,
  name,
  data,
}: {
  chain: Chain
  deployer: Address
  name: ContractName
  data: `0x${string}`
}): Promise<bigint> {
  try {
    const gas = await chain.client.estimateGas({ account: deployer, data, prepare: false })
    return (gas * gasMarginPercent) / 100n
  } catch (cause) {
    throw new DeployError({
      code: 'DEPLOY_REVERTED',
      message: `the chain refuses to create ${name}`,
      fix: 'check the parameters, and that the chain supports the Cancun instructions',
      details: { contract: name },
      cause,
    })
  }
}
