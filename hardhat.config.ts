import { createRequire } from 'node:module'
import hardhatToolboxMochaEthers from '@nomicfoundation/hardhat-toolbox-mocha-ethers'
import { configVariable, defineConfig } from 'hardhat/config'

const require = createRequire(import.meta.url)

/** The compiler is the npm package `solc`, so that a build needs nothing but the npm registry. */
const compiler = {
  version: '0.8.37',
  path: require.resolve('solc/soljson.js'),
  settings: { viaIR: true, evmVersion: 'cancun', optimizer: { enabled: true, runs: 10_000 } },
}

/** How deep property tests go: `FUZZ_RUNS=10000` for a long one. */
const fuzzRuns = Number(process.env.FUZZ_RUNS ?? 64)

export default defineConfig({
  plugins: [hardhatToolboxMochaEthers],
  solidity: { profiles: { default: compiler, production: compiler } },
  paths: { sources: 'contracts', tests: { mocha: 'test/contracts', solidity: 'test/contracts' } },
  test: {
    solidity: {
      fuzz: { runs: fuzzRuns },
      invariant: { runs: Math.max(8, Math.floor(fuzzRuns / 8)), depth: 32, failOnRevert: true },
    },
  },
  networks: {
    hardhat: { type: 'edr-simulated', chainType: 'l1', hardfork: 'prague' },
    localhost: { type: 'http', chainType: 'l1', url: 'http://127.0.0.1:8545' },
    galileo: { type: 'http', chainType: 'generic', url: configVariable('GALILEO_RPC_URL') },
    sepolia: { type: 'http', chainType: 'l1', url: configVariable('SEPOLIA_RPC_URL') },
  },
})
