import path from 'node:path'
import type { PrivateKeyAccount } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { DEV_ACCOUNTS, LOCAL_CHAIN_ID } from '#kit/chain/local-chain.ts'
import { loadConfig } from '#kit/config/load.ts'
import { resolveSigner } from '#kit/keys/keystore.ts'
import { DeployError } from './error.ts'
import {
  type DeployParameters,
  type DeployParametersInput,
  deployParameterFields,
  type PresetName,
  presetNames,
  presets,
} from './parameters.ts'
import { validateParameters } from './validate-parameters.ts'

/** Where the result of a deployment to a chain is kept. */
export function defaultRecord(chainId: number): string {
  return path.join(import.meta.dirname, '..', '..', 'deployments', `${chainId}.json`)
}

/**
 * The account that deploys: as `resolveSigner` finds it, and on a development chain where none is named, the first of
 * its well-known accounts.
 */
export async function deploySigner({
  chainId,
  env,
  keystorePath,
  passwordFile,
  promptPassword,
}: {
  chainId: number
  env: Readonly<Record<string, string | undefined>>
  keystorePath?: string | undefined
  passwordFile?: string | undefined
  promptPassword?: ((question: string) => Promise<string | undefined>) | undefined
}): Promise<PrivateKeyAccount> {
  const none = keystorePath === undefined && !env.WEIGHTLESS_KEYSTORE && !env.WEIGHTLESS_PRIVATE_KEY
  const [first] = DEV_ACCOUNTS
  if (none && chainId === LOCAL_CHAIN_ID && first !== undefined) return privateKeyToAccount(first.privateKey)
  return resolveSigner({ env, keystorePath, passwordFile, promptPassword })
}

/**
 * The parameters of a run: a preset (`local` on a development chain, which the deployer then governs), over it a file
 * (TOML or JSON), `WEIGHTLESS_DEPLOY_*` in the environment, and flags.
 *
 * @throws {DeployError} `DEPLOY_PARAMETERS`
 */
export function deployParameters({
  chainId,
  deployer,
  preset,
  file,
  env,
  cwd,
  flags,
  onWarning,
}: {
  chainId: number
  deployer: string | undefined
  preset: string | undefined
  file: string | undefined
  env: Readonly<Record<string, string | undefined>>
  cwd: string
  flags: Partial<Record<keyof DeployParametersInput, string | undefined>>
  onWarning: (warning: string) => void
}): DeployParameters {
  const isLocal = chainId === LOCAL_CHAIN_ID
  const given = loadConfig({
    schema: deployParameterFields.partial(),
    envPrefix: 'WEIGHTLESS_DEPLOY',
    file,
    env,
    cwd,
    flags,
    onWarning,
  })
  const chosen = { ...presets[presetName(preset ?? (isLocal ? 'local' : undefined))], ...given }
  if (isLocal) chosen.governor ??= deployer as typeof chosen.governor
  return validateParameters(chosen)
}

function presetName(name: string | undefined): PresetName {
  const found = presetNames.find((known) => known === name)
  if (found !== undefined) return found
  throw new DeployError({
    code: 'DEPLOY_PARAMETERS',
    message: name === undefined ? 'no preset of parameters is given' : `there is no preset ${name}`,
    fix: `give --preset ${presetNames.join(' | ')}`,
  })
}
