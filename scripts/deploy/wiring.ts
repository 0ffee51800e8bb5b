import type { Address, Hex } from 'viem'
import { keccak256, toFunctionSelector, zeroAddress } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { type Artifact, isRuntimeOf } from './artifact.ts'
import { computeWiring } from './contracts/compute.ts'
import { daWiring } from './contracts/da.ts'
import { storageWiring } from './contracts/storage.ts'
import type { WiringCheck } from './contracts/subsystem.ts'
import { DeployError } from './error.ts'
import type { DeployParameters } from './parameters.ts'
import { type ContractAddresses, type ContractName, contractNames, pausable } from './plan.ts'

/** Code at an address; `0x` where there is none. */
export async function codeAt({ chain, address }: { chain: Chain; address: Address }): Promise<Hex> {
  return (await chain.client.getCode({ address })) ?? '0x'
}

/** keccak256 of the code at an address when it is the artifact's; undefined when there is none or another. */
export async function deployedCodeHash({
  chain,
  address,
  artifact,
}: {
  chain: Chain
  address: Address
  artifact: Artifact
}): Promise<Hex | undefined> {
  const code = await codeAt({ chain, address })
  return code !== '0x' && isRuntimeOf({ artifact, code }) ? keccak256(code) : undefined
}

/** Contracts that nobody can change anything of, and governance itself. */
const ownerless: readonly ContractName[] = ['Governance', 'TaskBook', 'DispersalAccounts']

/** What must hold between deployed contracts, read from the chain. */
function wiringChecks({
  addresses,
  parameters,
}: {
  addresses: ContractAddresses
  parameters: DeployParameters
}): WiringCheck<ContractName>[] {
  const governed = contractNames.filter((name) => !ownerless.includes(name))
  const guardianRole = 1n
  return [
    ...governed.map((contract) => ({ contract, read: 'authority', want: addresses.Governance })),
    ...storageWiring({ addresses, parameters }),
    ...daWiring({ addresses, parameters }),
    ...computeWiring({ addresses, parameters }),
    ...pausable.map((contract) => ({
      contract: 'Governance' as const,
      read: 'getTargetFunctionRole',
      args: [addresses[contract], toFunctionSelector('pause()')],
      want: guardianRole,
    })),
  ]
}

/** What governance may have changed since: checked for a new deployment only. */
function initialChecks({ parameters }: { parameters: DeployParameters }): WiringCheck<ContractName>[] {
  const hasGuardian = parameters.guardian !== zeroAddress
  return [
    { contract: 'FixedPriceMarket', read: 'pricePerSector', want: parameters.pricePerSectorWei },
    {
      contract: 'Governance',
      read: 'hasRole',
      args: [0n, parameters.governor],
      want: [true, parameters.governanceDelaySeconds],
    },
    { contract: 'Governance', read: 'hasRole', args: [1n, parameters.guardian], want: [hasGuardian, 0] },
  ]
}

/**
 * Reads the deployed contracts and checks that they point at each other as planned.
 *
 * @param fresh also check what governance may change later
 * @throws {DeployError} `DEPLOY_WIRING` with every difference
 */
export async function verifyWiring({
  chain,
  addresses,
  parameters,
  artifacts,
  fresh,
}: {
  chain: Chain
  addresses: ContractAddresses
  parameters: DeployParameters
  artifacts: Record<ContractName, Artifact>
  fresh: boolean
}): Promise<void> {
  const checks = [...wiringChecks({ addresses, parameters }), ...(fresh ? initialChecks({ parameters }) : [])]
  const differences: string[] = []
  for (const { contract, read, args = [], want } of checks) {
    const have = await chain.client.readContract({
      address: addresses[contract],
      abi: artifacts[contract].abi,
      functionName: read,
      args: [...args],
    })
    if (plain(have) !== plain(want)) differences.push(`${contract}.${read} is ${plain(have)}, not ${plain(want)}`)
  }
  if (differences.length > 0) {
    throw new DeployError({
      code: 'DEPLOY_WIRING',
      message: `the deployed contracts are not wired as planned: ${differences.join('; ')}`,
      fix: 'do not use this deployment; move its record away and deploy anew',
      details: { differences },
    })
  }
}

/** True when every contract of the record has the code that was recorded for it. Names the first that has not. */
export async function recordedCodeMissing({
  chain,
  details,
}: {
  chain: Chain
  details: Record<ContractName, { address: Address; codeHash?: Hex | undefined }>
}): Promise<ContractName | undefined> {
  for (const name of contractNames) {
    const code = await codeAt({ chain, address: details[name].address })
    if (code === '0x' || keccak256(code) !== details[name].codeHash) return name
  }
  return undefined
}

function plain(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) => (typeof item === 'bigint' ? item.toString() : item)).toLowerCase()
}
