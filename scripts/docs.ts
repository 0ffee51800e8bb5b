import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { fineTuningConfigSchema } from '#compute/fine-tuning/config.ts'
import { gatewayConfigSchema } from '#compute/gateway/config.ts'
import { providerConfigSchema } from '#compute/provider/config.ts'
import { ALT_DA_ENV_PREFIX, altDaConfigSchema } from '#da/alt-da/config.ts'
import { DISPERSER_ENV_PREFIX, disperserConfigSchema } from '#da/disperser/config.ts'
import { SIGNER_ENV_PREFIX, signerConfigSchema } from '#da/signer/config.ts'
import { configMarkdown, describeConfig } from '#kit/config/describe.ts'
import { indexerConfigSchema } from '#storage/indexer/main.ts'
import { KV_ENV_PREFIX, kvConfigSchema } from '#storage/kv/config.ts'
import { MINER_ENV_PREFIX, minerConfigSchema } from '#storage/miner/config.ts'
import { NODE_ENV_PREFIX, nodeConfigSchema } from '#storage/node/config.ts'
import { matchingFiles } from './build/content-hash.ts'
import { deployParameterFields } from './deploy/parameters.ts'
import { cliHelpMarkdown } from './docs/cli-help.ts'
import { collectErrorUses, errorCodesMarkdown } from './docs/error-codes.ts'
import { checkLinks } from './docs/links.ts'
import { fillSections } from './docs/sections.ts'

/**
 * Writes the generated sections of README.md and docs/, or with `--check` says which are out of date. Also finds links to
 * files and headings that do not exist.
 */
const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } })
const root = path.join(import.meta.dirname, '..')
const generate = {
  'node-config': () => configMarkdown(describeConfig(nodeConfigSchema, { envPrefix: NODE_ENV_PREFIX })),
  'indexer-config': () => configMarkdown(describeConfig(indexerConfigSchema, { envPrefix: 'WEIGHTLESS_INDEXER' })),
  'miner-config': () => configMarkdown(describeConfig(minerConfigSchema, { envPrefix: MINER_ENV_PREFIX })),
  'kv-config': () => configMarkdown(describeConfig(kvConfigSchema, { envPrefix: KV_ENV_PREFIX })),
  'da-signer-config': () => configMarkdown(describeConfig(signerConfigSchema, { envPrefix: SIGNER_ENV_PREFIX })),
  'disperser-config': () => configMarkdown(describeConfig(disperserConfigSchema, { envPrefix: DISPERSER_ENV_PREFIX })),
  'alt-da-config': () => configMarkdown(describeConfig(altDaConfigSchema, { envPrefix: ALT_DA_ENV_PREFIX })),
  'provider-config': () => configMarkdown(describeConfig(providerConfigSchema, { envPrefix: 'WEIGHTLESS_PROVIDER' })),
  'fine-tuning-config': () =>
    configMarkdown(describeConfig(fineTuningConfigSchema, { envPrefix: 'WEIGHTLESS_FINE_TUNING' })),
  'gateway-config': () => configMarkdown(describeConfig(gatewayConfigSchema, { envPrefix: 'WEIGHTLESS_GATEWAY' })),
  'deploy-parameters': () => configMarkdown(describeConfig(deployParameterFields, { envPrefix: 'WEIGHTLESS_DEPLOY' })),
  'error-codes': () => errorCodesMarkdown(collectErrorUses(root)),
  'cli-help': () => cliHelpMarkdown(root),
}

const problems: string[] = []
const documents = matchingFiles({ root, patterns: ['README.md', 'docs/**/*.md'] })
for (const name of documents) {
  const file = path.join(root, name)
  const text = readFileSync(file, 'utf8')
  const fresh = await fillSections({ text, generate })
  if (fresh === text) continue
  if (values.check) problems.push(`${name} is out of date: run \`node scripts/docs.ts\``)
  else {
    writeFileSync(file, fresh)
    process.stdout.write(`${name}: written\n`)
  }
}
problems.push(...checkLinks({ root, documents }))
for (const problem of problems) process.stderr.write(`${problem}\n`)
if (problems.length > 0) process.exitCode = 1
else process.stdout.write(`${documents.length} documents, all current\n`)
