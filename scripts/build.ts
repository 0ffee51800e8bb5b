import path from 'node:path'
import { parseArgs } from 'node:util'
import { BuildError, type BuildStep, runBuildStep } from './build/step.ts'

const steps: readonly BuildStep[] = [
  {
    name: 'kernels',
    inputs: ['agents/kernels/{assembly,codegen}/**/*', 'agents/kernels/*.ts'],
    packages: ['assemblyscript'],
    outputs: ['agents/kernels/build/**/*'],
    command: ['node', 'agents/kernels/build.ts'],
  },
  {
    name: 'contracts',
    inputs: ['contracts/**/*.sol', 'hardhat.config.ts'],
    packages: ['hardhat', 'solc', '@openzeppelin/contracts', '@nomicfoundation/hardhat-toolbox-mocha-ethers'],
    outputs: ['artifacts/contracts/**/*.json', 'types/ethers-contracts/**/*.ts'],
    command: ['hardhat', 'build', '--quiet', '--no-tests'],
  },
]

const { values } = parseArgs({ options: { force: { type: 'boolean', default: false } } })
const root = path.join(import.meta.dirname, '..')
try {
  for (const step of steps) {
    await runBuildStep({ root, step, force: values.force, say: (line) => void process.stdout.write(`${line}\n`) })
  }
} catch (error) {
  if (!(error instanceof BuildError)) throw error
  process.stderr.write(`${error.message}\n${error.fix ?? ''}\n`)
  process.exitCode = 1
}
