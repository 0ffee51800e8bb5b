// Run as a process of its own, to be killed: a provider with the configuration in the file named.
import { readFileSync } from 'node:fs'
import { privateKeyToAccount } from 'viem/accounts'
import { providerConfigSchema, startProvider } from '#compute/provider/main.ts'
import { DEV_ACCOUNTS } from '#kit/chain/local-chain.ts'
import { silentLog } from '#kit/log.ts'

const [path = ''] = process.argv.slice(2)
const config = providerConfigSchema.parse(JSON.parse(readFileSync(path, 'utf8')))
const account = privateKeyToAccount(DEV_ACCOUNTS[1]?.privateKey ?? '0x')
const provider = await startProvider(config, { log: silentLog(), account, env: {} })
process.stdout.write(`${provider.url}\n`)
