import type { Address } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import type { Artifact } from './artifact.ts'
import type { DeployEvent } from './deploy.ts'
import { DeployError } from './error.ts'
import type { DeployParameters } from './parameters.ts'
import { type ContractName, contractNames, planDeployment } from './plan.ts'
import {
  type DeployedContract,
  type Deployment,
  type DeploymentProgress,
  progressFile,
  readProgress,
} from './record.ts'
import { receiptOf } from './send-creation.ts'
import { parametersJson, sameParameters, validateParameters } from './validate-parameters.ts'
import { deployedCodeHash, recordedCodeMissing, verifyWiring } from './wiring.ts'

/**
 * Checks that a recorded deployment is what this run asks for and what the chain holds.
 *
 * @returns contracts whose sources have changed since they were deployed; how those are wired is not looked at
 * @throws {DeployError} `DEPLOY_RECORD` (another chain, other parameters), `DEPLOY_CODE`, `DEPLOY_WIRING`
 */
export async function checkRecord({
  chain,
  deployment,
  parameters,
  artifacts,
}: {
  chain: Chain
  deployment: Deployment
  parameters: DeployParameters
  artifacts: Record<ContractName, Artifact>
}): Promise<ContractName[]> {
  if (deployment.chainId !== chain.id) {
    throw new DeployError({
      code: 'DEPLOY_RECORD',
      message: `the record is of chain ${deployment.chainId}, this is chain ${chain.id}`,
      fix: 'give the record of this chain, or none',
      details: { recorded: deployment.chainId, found: chain.id },
    })
  }
  const recorded = validateParameters(deployment.parameters)
  if (!sameParameters(recorded, parameters)) {
    const before = parametersJson(recorded)
    const changed = Object.entries(parametersJson(parameters)).filter(
      ([key, value]) => String(before[key]).toLowerCase() !== String(value).toLowerCase(),
    )
    throw new DeployError({
      code: 'DEPLOY_RECORD',
      message: `chain ${chain.id} has a deployment with other parameters: ${changed.map(([key]) => key).join(', ')}`,
      fix: 'change parameters through governance, or move the record away to deploy a second set of contracts',
      details: { changed: Object.fromEntries(changed) },
    })
  }
  const missing = await recordedCodeMissing({ chain, details: deployment.details })
  if (missing !== undefined) {
    throw new DeployError({
      code: 'DEPLOY_CODE',
      message: `${missing} at ${deployment.contracts[missing]} is not the code that was recorded`,
      fix: 'check the RPC endpoint; if this is another chain with the same id, move the record away to deploy anew',
      details: { contract: missing, address: deployment.contracts[missing] },
    })
  }
  const outdated: ContractName[] = []
  for (const name of contractNames) {
    const address = deployment.contracts[name]
    if ((await deployedCodeHash({ chain, address, artifact: artifacts[name] })) === undefined) outdated.push(name)
  }
  if (outdated.length === 0) {
    await verifyWiring({ chain, addresses: deployment.contracts, parameters, artifacts, fresh: false })
  }
  return outdated
}

/** A plan from the account's next nonce on. Transactions it has pending are counted: they will take theirs first. */
export async function plannedProgress({
  chain,
  deployer,
  parameters,
}: {
  chain: Chain
  deployer: Address
  parameters: DeployParameters
}): Promise<DeploymentProgress> {
  const baseNonce = await chain.client.getTransactionCount({ address: deployer, blockTag: 'pending' })
  return {
    version: 1,
    chainId: chain.id,
    deployer,
    baseNonce,
    parameters: parametersJson(parameters),
    contracts: {},
  }
}

/**
 * What an earlier run left to go on from, checked against the chain: contracts whose code is there count as made,
 * whatever the record says. Undefined when there is nothing to go on from: other parameters, other contracts, another
 * chain, or a nonce gone to something else.
 */
export async function resumableProgress({
  chain,
  record,
  deployer,
  parameters,
  artifacts,
  onEvent = () => {},
}: {
  chain: Chain
  record: string | undefined
  deployer: Address
  parameters: DeployParameters
  artifacts: Record<ContractName, Artifact>
  onEvent?: (event: DeployEvent) => void | Promise<void>
}): Promise<DeploymentProgress | undefined> {
  const left = record === undefined ? undefined : readProgress(record)
  if (record === undefined || left === undefined) return undefined
  if (left.chainId !== chain.id) {
    throw new DeployError({
      code: 'DEPLOY_RECORD',
      message: `${progressFile(record)} is of chain ${left.chainId}, this is chain ${chain.id}`,
      fix: 'give the record of this chain, or none',
      details: { recorded: left.chainId, found: chain.id },
    })
  }
  const plan = planDeployment({ deployer, baseNonce: left.baseNonce, parameters, artifacts })
  const abandoned = plan.filter(({ name }) => left.contracts[name] !== undefined).map(({ name }) => name)
  const restart = async (reason: string) => {
    await onEvent({ type: 'restarted', reason, abandoned })
    return undefined
  }
  if (left.deployer.toLowerCase() !== deployer.toLowerCase()) return restart('another account deploys')
  const changed = plan.find(({ name, creationHash }) => {
    const recorded = left.contracts[name]
    return recorded !== undefined && recorded.creationHash !== creationHash
  })
  if (changed !== undefined) return restart(`${changed.name} or its parameters changed`)

  const contracts: Partial<Record<ContractName, DeployedContract>> = {}
  const used = await chain.client.getTransactionCount({ address: deployer, blockTag: 'latest' })
  for (const { name, address, artifact, args, creationHash, nonce } of plan) {
    const codeHash = await deployedCodeHash({ chain, address, artifact })
    const recorded = left.contracts[name]
    if (codeHash === undefined && nonce < used)
      return restart(`nonce ${nonce}, planned for ${name}, was used otherwise`)
    if (codeHash === undefined) continue
    const hash = recorded?.transactionHash
    const receipt = hash === undefined ? undefined : await receiptOf({ chain, hash })
    contracts[name] = {
      address,
      constructorArguments: [...args],
      creationHash,
      codeHash,
      ...(receipt === undefined
        ? {}
        : {
            transactionHash: receipt.transactionHash,
            block: Number(receipt.blockNumber),
            gasUsed: receipt.gasUsed.toString(),
          }),
    }
  }
  const done = plan.filter(({ name }) => contracts[name] !== undefined).map(({ name }) => name)
  await onEvent({ type: 'resumed', done })
  return { ...left, contracts }
}
