// Runs a disperser that kills itself at a step: `node killed-disperser.ts <configuration as JSON> <account> <step>`.
import { disperserConfigSchema, startDisperser } from '#da/disperser/main.ts'
import { silentLog } from '#kit/log.ts'
import { accountOf } from '../da-signer/harness.ts'

const [, , config = '{}', account = '0', killAt = ''] = process.argv

await startDisperser(disperserConfigSchema.parse(JSON.parse(config)), {
  log: silentLog(),
  account: accountOf(Number(account)),
  onStep: (step) => {
    // As a power cut: nothing is tidied up, no promise goes on.
    if (step === killAt) process.kill(process.pid, 'SIGKILL')
  },
})
process.send?.('serves')
