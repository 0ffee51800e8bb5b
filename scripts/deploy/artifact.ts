import { readFileSync } from 'node:fs'
import path from 'node:path'
import { type Abi, encodeDeployData, type Hex, hexToBytes, keccak256 } from 'viem'
import { DeployError } from './error.ts'

/** A compiled contract as the build leaves it. */
export interface Artifact {
  contractName: string
  /** Path of the source below the repository's root. */
  sourceName: string
  abi: Abi
  /** Creation code, without constructor arguments. */
  bytecode: Hex
  /** Runtime code with zeros where immutables go. */
  deployedBytecode: Hex
  immutableReferences: Record<string, readonly { start: number; length: number }[]>
}

const artifactsDirectory = path.join(import.meta.dirname, '..', '..', 'artifacts')

/**
 * Reads `artifacts/<source>/<name>.json`.
 *
 * @param source path of the Solidity file below the repository's root, `contracts/storage/Flow.sol`
 * @throws {DeployError} `DEPLOY_ARTIFACT` when the contracts are not built
 */
export function loadArtifact({ source, name }: { source: string; name: string }): Artifact {
  const file = path.join(artifactsDirectory, source, `${name}.json`)
  try {
    const artifact: Artifact = JSON.parse(readFileSync(file, 'utf8'))
    return { ...artifact, immutableReferences: artifact.immutableReferences ?? {} }
  } catch (cause) {
    throw new DeployError({
      code: 'DEPLOY_ARTIFACT',
      message: `the compiled contract ${name} cannot be read`,
      fix: 'run `npm run build`',
      details: { file },
      cause,
    })
  }
}

/** Creation code with the constructor's arguments: what a deployment sends. */
export function creationCode({ artifact, args }: { artifact: Artifact; args: readonly unknown[] }): Hex {
  return encodeDeployData({ abi: artifact.abi, bytecode: artifact.bytecode, args: [...args] })
}

/** True when `code` is the artifact's runtime code, whatever its immutables hold. */
export function isRuntimeOf({ artifact, code }: { artifact: Artifact; code: Hex }): boolean {
  return runtimeHash({ artifact, code }) === runtimeHash({ artifact, code: artifact.deployedBytecode })
}

function runtimeHash({ artifact, code }: { artifact: Artifact; code: Hex }): Hex {
  const bytes = hexToBytes(code)
  for (const { start, length } of Object.values(artifact.immutableReferences).flat())
    bytes.fill(0, start, start + length)
  return keccak256(bytes)
}
