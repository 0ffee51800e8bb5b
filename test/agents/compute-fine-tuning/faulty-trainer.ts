import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

/** The own trainer behind a door: a dataset that holds NAN_LOSS, CRASH or SLOW gets what it asks for. */
const lines = createInterface({ input: process.stdin })
const say = (event: object) => process.stdout.write(`${JSON.stringify(event)}\n`)

lines.once('line', async (line) => {
  const { job } = JSON.parse(line) as { job: { datasetPath: string; outputDir: string } }
  const dataset = await readFile(job.datasetPath, 'utf8')
  if (dataset.includes('NAN_LOSS')) {
    say({ type: 'error', code: 'TRAINER_LOSS', message: 'the loss at step 3 is NaN', details: { step: 3 } })
    process.exit(1)
  }
  if (dataset.includes('CRASH')) process.exit(3)
  if (dataset.includes('SLOW')) {
    say({ type: 'started', protocol: 1, steps: 1, resumedAt: 0, examples: 1, heldOutExamples: 0, learnedTokens: 1 })
    lines.once('line', () => process.exit(1))
    // It goes on until a file `go` lies beside its output.
    const go = join(job.outputDir, '..', 'go')
    while (!existsSync(go)) await delay(50)
    say({ type: 'error', code: 'TRAINER_LOSS', message: 'it was slow for nothing' })
    process.exit(1)
  }
  const run = fileURLToPath(new URL('../../../agents/compute/trainer/run.ts', import.meta.url))
  const child = spawn(process.execPath, [run], { stdio: ['pipe', 'inherit', 'inherit'] })
  child.stdin.write(`${line}\n`)
  lines.on('line', (next) => child.stdin.write(`${next}\n`))
  lines.on('close', () => child.stdin.end())
  child.on('exit', (code) => process.exit(code ?? 1))
})
