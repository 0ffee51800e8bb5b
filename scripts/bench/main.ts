import { parseArgs } from 'node:util'
import { WeightlessError } from '#protocol/error.ts'
import type { BenchModule } from './context.ts'
import { checkFigure, figureJson, figureLine } from './figure-text.ts'

/** Every bench by name, imported only when it is asked for. */
const benches: Record<string, { about: string; load: () => Promise<BenchModule> }> = {
  merkle: { about: 'Merkle root of a file, against 0g-ts-sdk', load: () => import('./merkle.ts') },
  upload: { about: 'upload to two storage nodes', load: () => import('./upload.ts') },
  download: { about: 'verified download, against plain HTTP', load: () => import('./download.ts') },
  sync: { about: 'a fresh replica that catches up', load: () => import('./sync.ts') },
  pora: { about: 'PoRA attempts of one core, against native hashes', load: () => import('./pora.ts') },
  seal: { about: 'sealing on one core, against hash-wasm', load: () => import('./seal.ts') },
  kv: { about: 'replay of 100,000 keys of the key-value layer', load: () => import('./kv.ts') },
  'da-encode': {
    about: 'coding blobs on one core, against KZG cells and proofs',
    load: () => import('./da-encode.ts'),
  },
  'da-produce': { about: 'coding, hashing and combining blobs on two cores', load: () => import('./da-produce.ts') },
  'da-decode': { about: 'decoding blobs from random rows on one core', load: () => import('./da-decode.ts') },
  'da-verify': { about: 'verifying rows of blobs on one core', load: () => import('./da-verify.ts') },
  'da-e2e': { about: 'blobs from a disperser to confirmed, with four signers', load: () => import('./da-e2e.ts') },
  proxy: { about: 'the inference provider against its upstream', load: () => import('./proxy.ts') },
  engine: { about: 'the engine layer against node-llama-cpp', load: () => import('./engine.ts') },
  train: { about: 'training on the demo model', load: () => import('./train.ts') },
  gas: { about: 'gas of the contract calls users pay for', load: () => import('./gas.ts') },
}

const usage = `usage: npm run bench -- NAME [--json] [--quick]

${Object.entries(benches)
  .map(([name, { about }]) => `  ${name.padEnd(10)} ${about}`)
  .join('\n')}

  --json   one JSON object per figure and line: name, value, unit, peer, peerValue, ratio, detail
  --quick  the shortest run that still gives a figure`

/** The command line asked for something that does not exist (code `BENCH_UNKNOWN`). */
export class BenchUnknownError extends WeightlessError {}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help || positionals.length === 0) {
    process.stdout.write(`${usage}\n`)
    process.exitCode = values.help ? 0 : 2
    return
  }
  const unknown = positionals.filter((name) => !Object.hasOwn(benches, name))
  if (unknown.length > 0) {
    throw new BenchUnknownError({
      code: 'BENCH_UNKNOWN',
      message: `no bench is called ${unknown.join(', ')}`,
      fix: `give one or more of ${Object.keys(benches).join(', ')}`,
    })
  }

  const abort = new AbortController()
  process.once('SIGINT', () => abort.abort())
  process.once('SIGTERM', () => abort.abort())
  for (const name of positionals) {
    const entry = benches[name]
    if (entry === undefined) continue
    let figures = 0
    const { bench } = await entry.load()
    await bench({
      quick: values.quick,
      signal: abort.signal,
      report(figure) {
        checkFigure(figure)
        figures += 1
        process.stdout.write(`${values.json ? figureJson(figure) : figureLine(figure)}\n`)
      },
      // Notes go to stderr, so that stdout under --json holds figures and nothing else.
      note: (text) => void process.stderr.write(`${name}: ${text}\n`),
    })
    if (figures === 0) throw new BenchUnknownError({ code: 'BENCH_EMPTY', message: `bench ${name} reported no figure` })
  }
}

try {
  await main()
} catch (error) {
  const fix = error instanceof WeightlessError && error.fix !== undefined ? `\n  ${error.fix}` : ''
  const text = error instanceof WeightlessError ? error.message : error instanceof Error ? error.stack : String(error)
  process.stderr.write(`bench: ${text}${fix}\n`)
  process.exitCode = 1
}
