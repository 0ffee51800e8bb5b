import type { Address, Hash, PrivateKeyAccount } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { DeployError } from './error.ts'
import { type DeployEstimate, estimateCreation, estimateDeployment, requireFunds } from './estimate.ts'
import { gitCommit } from './git-commit.ts'
import type { DeployParameters, DeployParametersInput } from './parameters.ts'
import {
  byContract,
  type ContractName,
  contractNames,
  loadArtifacts,
  type PlannedContract,
  planDeployment,
} from './plan.ts'
import {
  type DeployedContract,
  type Deployment,
  type DeploymentProgress,
  readDeployment,
  writeDeployment,
  writeProgress,
} from './record.ts'
import { checkRecord, plannedProgress, resumableProgress } from './resume.ts'
import { receiptOf, sendCreation, waitForNonce } from './send-creation.ts'
import { parametersJson, validateParameters } from './validate-parameters.ts'
import { deployedCodeHash, verifyWiring } from './wiring.ts'

/** What happens during a deployment, in the order in which it happens. */
export type DeployEvent =
  /** `outdated`: contracts whose sources are no longer what is deployed. */
  | { type: 'unchanged'; deployment: Deployment; outdated: ContractName[] }
  | { type: 'estimated'; estimate: DeployEstimate }
  | { type: 'resumed'; done: ContractName[] }
  | { type: 'restarted'; reason: string; abandoned: ContractName[] }
  | { type: 'sending'; name: ContractName; address: Address }
  | { type: 'sent'; name: ContractName; hash: Hash }
  | { type: 'created'; name: ContractName; address: Address; gasUsed: bigint | undefined }
  | { type: 'verifying' }
  | { type: 'done'; deployment: Deployment }

export interface DeployParametersOfRun {
  chain: Chain
  /** Pays, and is where the addresses follow from. */
  account: PrivateKeyAccount
  parameters: DeployParametersInput
  /** The file that holds the result; its progress lies beside it. Without it nothing is written or resumed. */
  record?: string | undefined
  /** Name of the network, for the record. */
  network?: string | undefined
  signal?: AbortSignal | undefined
  /** Told of each event. An error thrown here ends the deployment at that point. */
  onEvent?: ((event: DeployEvent) => void | Promise<void>) | undefined
}

/** A plan that lost its nonces is drawn up again at most so often. */
const maxPlans = 3

/**
 * Puts the contracts on a chain. Safe to run again at any time: a finished deployment is checked and returned as it is
 * (nothing is sent), one that was interrupted goes on with the contract it stopped at.
 *
 * @throws {DeployError} see its codes
 * @example
 * const { contracts } = await deployWeightless({ chain, account, parameters, record: 'deployments/31337.json' })
 */
export async function deployWeightless(run: DeployParametersOfRun): Promise<Deployment> {
  const { chain, account, record, network, signal, onEvent = () => {} } = run
  const parameters = validateParameters(run.parameters)
  const artifacts = loadArtifacts()

  const existing = record === undefined ? undefined : readDeployment(record)
  if (existing !== undefined) {
    const outdated = await checkRecord({ chain, deployment: existing, parameters, artifacts })
    await onEvent({ type: 'unchanged', deployment: existing, outdated })
    return existing
  }

  let progress =
    (await resumableProgress({
      chain,
      record,
      deployer: account.address,
      parameters,
      artifacts,
      onEvent,
    })) ?? (await plannedProgress({ chain, deployer: account.address, parameters }))
  for (let plan = 1; ; plan += 1) {
    const outcome = await carryOut({ chain, account, parameters, progress, record, signal, onEvent, artifacts })
    if (outcome === 'done') break
    const abandoned = contractNames.filter((name) => progress.contracts[name] !== undefined)
    if (plan === maxPlans) {
      throw new DeployError({
        code: 'DEPLOY_NONCE',
        message: `${account.address} sent other transactions during each of ${maxPlans} attempts`,
        fix: 'stop whatever else uses this account and run the deployment again',
        details: { deployer: account.address, abandoned },
      })
    }
    await onEvent({ type: 'restarted', reason: 'another transaction of this account took a planned nonce', abandoned })
    progress = await plannedProgress({ chain, deployer: account.address, parameters })
  }

  await onEvent({ type: 'verifying' })
  const details = complete(progress)
  const addresses = byContract((name) => details[name].address)
  await verifyWiring({ chain, addresses, parameters, artifacts, fresh: true })
  const deployment: Deployment = {
    version: 1,
    chainId: chain.id,
    ...(network === undefined ? {} : { network }),
    block: firstBlockOf(details),
    deployer: account.address,
    gitCommit: gitCommit(),
    contracts: addresses,
    parameters: parametersJson(parameters),
    details,
  }
  if (record !== undefined) writeDeployment({ record, deployment })
  await onEvent({ type: 'done', deployment })
  return deployment
}

/**
 * What {@link deployWeightless} would do and cost. Sends nothing and writes nothing.
 *
 * @param deployer the account whose nonces the addresses would follow from
 */
export async function dryRun({
  chain,
  deployer,
  parameters: input,
  record,
}: {
  chain: Chain
  deployer: Address
  parameters: DeployParametersInput
  record?: string | undefined
}): Promise<{ unchanged: Deployment } | { estimate: DeployEstimate; done: ContractName[] }> {
  const parameters = validateParameters(input)
  const artifacts = loadArtifacts()
  const existing = record === undefined ? undefined : readDeployment(record)
  if (existing !== undefined) {
    await checkRecord({ chain, deployment: existing, parameters, artifacts })
    return { unchanged: existing }
  }
  const resumable = await resumableProgress({ chain, record, deployer, parameters, artifacts })
  const progress = resumable ?? (await plannedProgress({ chain, deployer, parameters }))
  const plan = planDeployment({ deployer, baseNonce: progress.baseNonce, parameters, artifacts })
  const missing = plan.filter(({ name }) => progress.contracts[name]?.codeHash === undefined)
  return {
    estimate: await estimateDeployment({ chain, deployer, contracts: missing }),
    done: plan.filter(({ name }) => progress.contracts[name]?.codeHash !== undefined).map(({ name }) => name),
  }
}

async function carryOut({
  chain,
  account,
  parameters,
  progress,
  record,
  signal,
  onEvent,
  artifacts,
}: {
  chain: Chain
  account: PrivateKeyAccount
  parameters: DeployParameters
  progress: DeploymentProgress
  record: string | undefined
  signal: AbortSignal | undefined
  onEvent: NonNullable<DeployParametersOfRun['onEvent']>
  artifacts: ReturnType<typeof loadArtifacts>
}): Promise<'done' | 'nonce-taken'> {
  const plan = planDeployment({ deployer: account.address, baseNonce: progress.baseNonce, parameters, artifacts })
  const save = (name: ContractName, contract: DeployedContract) => {
    progress.contracts[name] = contract
    if (record !== undefined) writeProgress({ record, progress })
  }
  const missing = plan.filter(({ name }) => progress.contracts[name]?.codeHash === undefined)
  const estimate = await estimateDeployment({ chain, deployer: account.address, contracts: missing })
  await onEvent({ type: 'estimated', estimate })
  requireFunds(estimate)

  for (const planned of missing) {
    const { name, address, artifact, nonce } = planned
    signal?.throwIfAborted()
    const base: DeployedContract = {
      address,
      constructorArguments: [...planned.args],
      creationHash: planned.creationHash,
    }
    // Written before anything is sent: a run that is cut off in between finds the contract by its planned address.
    save(name, base)
    await onEvent({ type: 'sending', name, address })
    const sent: { hash: Hash }[] = []
    const isFree = await waitForNonce({ chain, address: account.address, nonce, signal })
    const gas = isFree ? await estimateWhileFree({ chain, deployer: account.address, planned, signal }) : undefined
    const receipt =
      gas === undefined
        ? undefined
        : await sendCreation({
            chain,
            account,
            nonce,
            data: planned.creationCode,
            gas,
            signal,
            onSent: (hash) => {
              sent.push({ hash })
              save(name, { ...base, transactionHash: hash })
            },
          })
    for (const { hash } of sent) await onEvent({ type: 'sent', name, hash })
    // The code decides, not the receipt: an earlier run may have sent the very same creation.
    const codeHash = await deployedCodeHash({ chain, address, artifact })
    if (codeHash === undefined) return 'nonce-taken'
    save(name, { ...base, ...(await receiptFacts({ chain, receipt, hash: sent.at(-1)?.hash })), codeHash })
    await onEvent({ type: 'created', name, address, gasUsed: receipt?.gasUsed })
  }
  return 'done'
}

/** The gas of a creation; undefined when its nonce went to something else, and it would land elsewhere. */
async function estimateWhileFree({
  chain,
  deployer,
  planned,
  signal,
}: {
  chain: Chain
  deployer: Address
  planned: PlannedContract
  signal: AbortSignal | undefined
}): Promise<bigint | undefined> {
  try {
    return await estimateCreation({ chain, deployer, contract: planned })
  } catch (error) {
    const used = await chain.client.getTransactionCount({ address: deployer, blockTag: 'pending' })
    const isFree = await waitForNonce({ chain, address: deployer, nonce: planned.nonce, signal })
    // What is pending has the nonce as well, and the estimate was made behind it.
    if (isFree && used <= planned.nonce) throw error
    return undefined
  }
}

async function receiptFacts({
  chain,
  receipt,
  hash,
}: {
  chain: Chain
  receipt: Awaited<ReturnType<typeof sendCreation>>
  hash: Hash | undefined
}): Promise<Partial<DeployedContract>> {
  const known = receipt ?? (hash === undefined ? undefined : await receiptOf({ chain, hash }))
  if (known === undefined) return {}
  return {
    transactionHash: known.transactionHash,
    block: Number(known.blockNumber),
    gasUsed: known.gasUsed.toString(),
  }
}

function complete({ contracts }: DeploymentProgress): Record<ContractName, DeployedContract> {
  return byContract((name) => {
    const contract = contracts[name]
    if (contract === undefined) {
      throw new DeployError({ code: 'DEPLOY_WIRING', message: `the plan's contract ${name} was not made` })
    }
    return contract
  })
}

/** Where agents begin to look for logs: no contract of the deployment is older. */
function firstBlockOf(details: Record<ContractName, DeployedContract>): number {
  const blocks = contractNames.flatMap((name) => details[name].block ?? [])
  return blocks.length === contractNames.length ? Math.min(...blocks) : 0
}
