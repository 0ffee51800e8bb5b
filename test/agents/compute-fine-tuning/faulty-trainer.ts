import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

/** The own trainer behind a door: a dataset that holds one of the words below gets what it asks for. */
const lines = createInterface({ input: process.stdin })
const say = (event: object) => process.stdout.write(`${JSON.stringify(event)}\n`)

const stdio: ['pipe', 'inherit', 'inherit'] = ['pipe', 'inherit', 'inherit']

/** Results that are none: what is named, and what lies there. */
const lies: Record<string, { adapterPath?: string; content?: string }> = {
  NO_ADAPTER: {},
  MISSING_FILE: { adapterPath: 'not-there.gguf' },
  ELSEWHERE: { adapterPath: '../dataset.jsonl' },
  OTHER_BYTES: { adapterPath: 'adapter.gguf', content: 'no adapter at all' },
}

async function lie(outputDir: string, { adapterPath, content }: { adapterPath?: string; content?: string }) {
  const counts = { steps: 1, loss: 0.5, examples: 1, learnedTokens: 1 }
  const path = adapterPath === undefined ? undefined : join(outputDir, adapterPath)
  if (path !== undefined && content !== undefined) await writeFile(path, content)
  say({ type: 'result', result: { ...counts, adapterPath: path } })
  lines.close()
}

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
  for (const [mark, result] of Object.entries(lies)) {
    if (dataset.includes(mark)) return await lie(job.outputDir, result)
  }
  // Files of at most 8 KiB, as on a full disk, until a file `room` lies beside the output. The signal is ignored, so that
  // writes fail.
  const isFull = dataset.includes('FULL_DISK') && !existsSync(join(job.outputDir, '..', 'room'))
  const child = isFull
    ? spawn('bash', ['-c', `trap '' XFSZ; ulimit -f 8; exec "$0" "$1"`, process.execPath, run], { stdio })
    : spawn(process.execPath, [run], { stdio })
  child.stdin.write(`${line}\n`)
  lines.on('line', (next) => child.stdin.write(`${next}\n`))
  lines.on('close', () => child.stdin.end())
  child.on('exit', async (code) => {
    // A tail of zeros: more than one chunk of an encrypted artefact, at no cost.
    if (dataset.includes('LARGE')) await truncate(join(job.outputDir, 'adapter.gguf'), 66 * 2 ** 20)
    process.exit(code ?? 1)
  })
})
