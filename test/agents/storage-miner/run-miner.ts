import { readFileSync } from 'node:fs'
import { privateKeyToAccount } from 'viem/accounts'
import { createLog } from '#kit/log.ts'
import { minerConfigSchema, startMiner } from '#storage/miner/main.ts'

// A miner in a process of its own, to be killed: run-miner.ts CONFIG.json with its key in MINER_TEST_KEY.

const [, , file = ''] = process.argv
const config = minerConfigSchema.parse(JSON.parse(readFileSync(file, 'utf8')))
const account = privateKeyToAccount(process.env.MINER_TEST_KEY as `0x${string}`)
const miner = await startMiner(config, { log: createLog({ name: 'miner', level: 'error' }), account })
process.stdout.write(`${miner.url}\n`)
