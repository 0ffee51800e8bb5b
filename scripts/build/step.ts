import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { WeightlessError } from '#protocol/error.ts'
import { runCommand } from '../process/run-command.ts'
import { contentHash, outputSizes } from './content-hash.ts'

/** A part of the build failed (code `BUILD_FAILED`); `details.output` ends with what the tool said. */
export class BuildError extends WeightlessError {}

/** One thing that is built from files into files. */
export interface BuildStep {
  name: string
  /** Globs of everything the result depends on, from the repository's root. */
  inputs: readonly string[]
  /** Packages whose version the result depends on. */
  packages: readonly string[]
  /** Globs of what is made; at least one file must exist afterwards. */
  outputs: readonly string[]
  command: readonly [string, ...string[]]
}

interface Stamp {
  inputs: string
  outputs: Record<string, number>
}

const stampFile = 'cache/weightless-build.json'

/**
 * Runs `step` unless its inputs hash to what the last successful run saw and every output is still there.
 * Says in one line what it did.
 *
 * @throws {BuildError} the tool failed or made nothing
 */
export async function runBuildStep({
  root,
  step,
  force = false,
  say,
}: {
  root: string
  step: BuildStep
  force?: boolean
  say: (line: string) => void
}): Promise<void> {
  const started = performance.now()
  const inputs = contentHash({
    root,
    patterns: step.inputs,
    extra: [process.version, ...step.packages.map((name) => `${name}@${packageVersion({ root, name })}`)],
  })
  const stamp = readStamps(root)[step.name]
  if (!force && stamp !== undefined && stamp.inputs === inputs && outputsPresent({ root, outputs: stamp.outputs })) {
    say(`${step.name}: up to date`)
    return
  }
  say(`${step.name}: building`)
  const result = await runCommand({ command: step.command, cwd: root, timeoutMs: 600_000 })
  if (result.code !== 0) {
    throw new BuildError({
      code: 'BUILD_FAILED',
      message: `building the ${step.name} failed with exit code ${result.code}:\n${result.output.trimEnd()}`,
      fix: `run \`${step.command.join(' ')}\` to see it alone`,
      details: { step: step.name, code: result.code },
    })
  }
  const outputs = outputSizes({ root, patterns: step.outputs })
  if (Object.keys(outputs).length === 0) {
    throw new BuildError({
      code: 'BUILD_FAILED',
      message: `building the ${step.name} reported success but made none of ${step.outputs.join(', ')}`,
      details: { step: step.name },
    })
  }
  writeStamps({ root, stamps: { ...readStamps(root), [step.name]: { inputs, outputs } } })
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  say(`${step.name}: built ${Object.keys(outputs).length} files in ${seconds} s`)
}

function outputsPresent({ root, outputs }: { root: string; outputs: Record<string, number> }): boolean {
  return Object.entries(outputs).every(([name, size]) => {
    const stat = statSync(path.join(root, name), { throwIfNoEntry: false })
    return stat?.size === size
  })
}

function packageVersion({ root, name }: { root: string; name: string }): string {
  const file = path.join(root, 'node_modules', name, 'package.json')
  if (!existsSync(file)) return 'absent'
  const { version }: { version?: unknown } = JSON.parse(readFileSync(file, 'utf8'))
  return String(version)
}

/** A stamp file that cannot be read only costs a rebuild. */
function readStamps(root: string): Partial<Record<string, Stamp>> {
  try {
    return JSON.parse(readFileSync(path.join(root, stampFile), 'utf8'))
  } catch {
    return {}
  }
}

function writeStamps({ root, stamps }: { root: string; stamps: Partial<Record<string, Stamp>> }): void {
  mkdirSync(path.join(root, 'cache'), { recursive: true })
  writeFileSync(path.join(root, stampFile), `${JSON.stringify(stamps, null, 1)}\n`)
}
