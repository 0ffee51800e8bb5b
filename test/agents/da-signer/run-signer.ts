import { readFileSync } from 'node:fs'
import { blsSecret } from '#da/signer/account.ts'
import { signerConfigSchema, startSigner } from '#da/signer/main.ts'
import { agentAccount } from '#kit/keys/agent-account.ts'
import { silentLog } from '#kit/log.ts'

// A signer in a process of its own, to be killed: run-signer.ts CONFIG.json. Prints its address when it runs.
const config = signerConfigSchema.parse(JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')))
const keys = { config, env: {} }
const account = await agentAccount({ ...config, env: {} })
const signer = await startSigner(config, { log: silentLog(), account, blsSecret: await blsSecret(keys) })
process.stdout.write(`${signer.url}\n`)
