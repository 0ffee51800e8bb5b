import { type Address, BaseError, decodeErrorResult, type Hex, hexToBytes, RawContractError } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { DeployError } from './error.ts'
import type { ContractName, PlannedContract } from './plan.ts'
import { currentFees, feeBound } from './send-creation.ts'

/** What making one contract will cost. */
export interface ContractEstimate {
  name: ContractName
  address: Address
  gas: bigint
  /** At the highest price that one gas may have now, wei. */
  feeWei: bigint
  /** `chain`: estimated by the chain. `bound`: worked out from the code, because contracts it calls are not there yet. */
  source: 'chain' | 'bound'
}

/** What a deployment will cost at most. */
export interface DeployEstimate {
  contracts: ContractEstimate[]
  gas: bigint
  feeWei: bigint
  /** The most one gas may cost now, wei. */
  gasPriceWei: bigint
  deployer: Address
  balanceWei: bigint
}

/** Gas limits leave room for what the estimate could not see, such as a colder state. */
const gasMarginPercent = 115n
/** What a constructor of ours may use beside storing its code: about a dozen new storage words and a few calls. */
const constructorGas = 400_000n

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
  const nextNonce = await chain.client.getTransactionCount({ address: deployer, blockTag: 'pending' })
  const estimates: ContractEstimate[] = []
  for (const contract of contracts) {
    const isNext = contract.nonce === nextNonce
    const { gas, source } = isNext
      ? { gas: await estimateCreation({ chain, deployer, contract }), source: 'chain' as const }
      : { gas: creationGasBound(contract), source: 'bound' as const }
    estimates.push({ name: contract.name, address: contract.address, gas, feeWei: gas * gasPriceWei, source })
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

/**
 * Gas limit for the creation that is next in line: the chain's estimate and a margin.
 *
 * @throws {DeployError} `DEPLOY_REVERTED` with the constructor's reason
 */
export async function estimateCreation({
  chain,
  deployer,
  contract,
}: {
  chain: Chain
  deployer: Address
  contract: PlannedContract
}): Promise<bigint> {
  try {
    const { creationCode: data, nonce } = contract
    // With the nonce, because the address that the others name this contract by follows from it.
    const gas = await chain.client.estimateGas({ account: deployer, data, nonce, prepare: false })
    return (gas * gasMarginPercent) / 100n
  } catch (cause) {
    const reason = revertReason({ error: cause, contract })
    throw new DeployError({
      code: 'DEPLOY_REVERTED',
      message: `the chain refuses to create ${contract.name}${reason === undefined ? '' : `: ${reason}`}`,
      fix: 'check the parameters, and that the chain supports the Cancun instructions',
      details: { contract: contract.name, reason },
      cause,
    })
  }
}

/** Gas of a creation at most: the yellow paper's costs (EIP-2028, EIP-3860) and an allowance for the constructor. */
function creationGasBound({ creationCode, artifact }: PlannedContract): bigint {
  const code = hexToBytes(creationCode)
  const calldata = code.reduce((gas, byte) => gas + (byte === 0 ? 4 : 16), 0)
  const initCodeWords = Math.ceil(code.length / 32)
  const storedBytes = (artifact.deployedBytecode.length - 2) / 2
  return BigInt(21_000 + 32_000 + calldata + 2 * initCodeWords + 200 * storedBytes) + constructorGas
}

function revertReason({ error, contract }: { error: unknown; contract: PlannedContract }): string | undefined {
  const raw = error instanceof BaseError ? error.walk((one) => revertData(one) !== undefined) : error
  const data = revertData(raw)
  if (data === undefined) return undefined
  try {
    const { errorName, args = [] } = decodeErrorResult({ abi: contract.artifact.abi, data })
    return `${errorName}(${args.map(String).join(', ')})`
  } catch {
    return data.slice(0, 74)
  }
}

function revertData(error: unknown): Hex | undefined {
  const data: unknown =
    error instanceof RawContractError ? error.data : error instanceof Error && Reflect.get(error, 'data')
  return typeof data === 'string' && /^0x([0-9a-f]{2}){4,}$/i.test(data) ? (data as Hex) : undefined
}
