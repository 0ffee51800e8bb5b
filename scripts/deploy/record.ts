import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { Address, Hash, Hex } from 'viem'
import { z } from 'zod'
import { DeployError } from './error.ts'
import { type ContractName, contractNames } from './plan.ts'

/** What is known about one deployed contract. */
export interface DeployedContract {
  address: Address
  transactionHash?: Hash | undefined
  block?: number | undefined
  gasUsed?: string | undefined
  /** Constructor arguments; amounts as decimal strings. */
  constructorArguments: unknown[]
  /** keccak256 of the creation code with its arguments. */
  creationHash: Hex
  /** keccak256 of the code on the chain. */
  codeHash?: Hex | undefined
}

/** A deployment, as it is kept in `deployments/<chainId>.json`. */
export interface Deployment {
  version: 1
  chainId: number
  network?: string | undefined
  /** The block from which on logs of these contracts can appear. */
  block: number
  deployer: Address
  /** Commit of the sources; with `-dirty` when the contracts had uncommitted changes. */
  gitCommit?: string | undefined
  contracts: Record<ContractName, Address>
  parameters: Record<string, string | number>
  details: Record<ContractName, DeployedContract>
}

/** A deployment under way: which contracts are where, so that a later run goes on instead of starting over. */
export interface DeploymentProgress {
  version: 1
  chainId: number
  deployer: Address
  baseNonce: number
  parameters: Record<string, string | number>
  contracts: Partial<Record<ContractName, DeployedContract>>
}

const hex = z.string().regex(/^0x[0-9a-fA-F]*$/) as unknown as z.ZodType<Hex>
const deployedContract = z.object({
  address: hex,
  transactionHash: hex.optional(),
  block: z.int().optional(),
  gasUsed: z.string().optional(),
  constructorArguments: z.array(z.unknown()),
  creationHash: hex,
  codeHash: hex.optional(),
})
const parameters = z.record(z.string(), z.union([z.string(), z.number()]))
const common = { version: z.literal(1), chainId: z.int(), deployer: hex, parameters }

const deploymentSchema = z.object({
  ...common,
  network: z.string().optional(),
  block: z.int(),
  gitCommit: z.string().optional(),
  contracts: z.record(z.enum(contractNames), hex),
  details: z.record(z.enum(contractNames), deployedContract),
})
const progressSchema = z.object({
  ...common,
  baseNonce: z.int(),
  contracts: z.partialRecord(z.enum(contractNames), deployedContract),
})

/** Where the progress towards `record` is kept. */
export function progressFile(record: string): string {
  return record.replace(/(\.json)?$/, '.partial.json')
}

/** Reads a finished deployment; undefined when there is none. Throws {@link DeployError} `DEPLOY_RECORD`. */
export function readDeployment(record: string): Deployment | undefined {
  return readRecord({ file: record, schema: deploymentSchema })
}

/** Reads a deployment under way; undefined when there is none. Throws {@link DeployError} `DEPLOY_RECORD`. */
export function readProgress(record: string): DeploymentProgress | undefined {
  return readRecord({ file: progressFile(record), schema: progressSchema })
}

/** Replaces the record and drops the progress. */
export function writeDeployment({ record, deployment }: { record: string; deployment: Deployment }): void {
  writeAtomically({ file: record, value: deployment })
  rmSync(progressFile(record), { force: true })
}

export function writeProgress({ record, progress }: { record: string; progress: DeploymentProgress }): void {
  writeAtomically({ file: progressFile(record), value: progress })
}

function readRecord<T>({ file, schema }: { file: string; schema: z.ZodType<T> }): T | undefined {
  if (!existsSync(file)) return undefined
  try {
    return schema.parse(JSON.parse(readFileSync(file, 'utf8')))
  } catch (cause) {
    throw new DeployError({
      code: 'DEPLOY_RECORD',
      message: `the deployment record ${file} cannot be understood`,
      fix: 'restore it from version control, or move it away to deploy anew',
      details: { file },
      cause,
    })
  }
}

function writeAtomically({ file, value }: { file: string; value: unknown }): void {
  mkdirSync(path.dirname(file), { recursive: true })
  const aside = `${file}.${process.pid}.tmp`
  writeFileSync(aside, `${JSON.stringify(value, jsonValue, 2)}\n`)
  renameSync(aside, file)
}

function jsonValue(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value
}
