import { DeployError } from './error.ts'
import { type DeployParameters, deployParametersSchema } from './parameters.ts'

/**
 * Checks parameters against their bounds.
 *
 * @throws {DeployError} `DEPLOY_PARAMETERS` naming everything that is wrong at once
 */
export function validateParameters(input: unknown): DeployParameters {
  const checked = deployParametersSchema.safeParse(input)
  if (checked.success) return checked.data
  const problems = checked.error.issues.map(({ path, message }) => `${path.join('.') || 'parameters'}: ${message}`)
  throw new DeployError({
    code: 'DEPLOY_PARAMETERS',
    message: `the deployment parameters cannot be used: ${problems.join('; ')}`,
    fix: 'correct these values',
    details: { problems },
  })
}

/** Parameters as they are written to a record: amounts as decimal strings, keys in the schema's order. */
export function parametersJson(parameters: DeployParameters): Record<string, string | number> {
  return Object.fromEntries(
    Object.entries(parameters).map(([key, value]) => [key, typeof value === 'bigint' ? value.toString() : value]),
  )
}

/** True when two sets of parameters make the same contracts. Addresses are compared without their checksum. */
export function sameParameters(a: DeployParameters, b: DeployParameters): boolean {
  return canonical(a) === canonical(b)
}

function canonical(parameters: DeployParameters): string {
  return JSON.stringify(Object.entries(parametersJson(parameters)).sort()).toLowerCase()
}
