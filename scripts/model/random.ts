import { open } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { WeightlessError } from '#protocol/error.ts'
import { parameterCount } from '#protocol/gguf/llama.ts'
import { type GgufContent, ggufChunks, ggufSizeBytes } from '#protocol/gguf/write.ts'
import { randomModel } from './random-model.ts'

const usage = `usage: node scripts/model/random.ts PATH [--seed N] [--type F32|F16|Q8_0]

Writes a small Llama model with random weights. It answers with nonsense; its metadata say that it is random.`

/** Writes a GGUF file piece by piece. */
export async function writeGgufFile({ path, content }: { path: string; content: GgufContent }): Promise<void> {
  const file = await open(path, 'w')
  try {
    for (const piece of ggufChunks(content)) await file.write(piece)
  } finally {
    await file.close()
  }
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seed: { type: 'string', default: '1' },
      type: { type: 'string', default: 'Q8_0' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  const [path] = positionals
  const { type } = values
  const isType = type === 'F32' || type === 'F16' || type === 'Q8_0'
  if (values.help || path === undefined || !isType || !/^\d{1,20}$/.test(values.seed)) {
    process.stdout.write(`${usage}\n`)
    process.exitCode = values.help ? 0 : 2
    return
  }
  const model = randomModel({ seed: BigInt(values.seed), type })
  await writeGgufFile({ path, content: model })
  process.stdout.write(`${path}: ${parameterCount(model.config)} random parameters, ${ggufSizeBytes(model)} bytes\n`)
}

if (import.meta.main) {
  try {
    await main()
  } catch (error) {
    process.stderr.write(`random model: ${error instanceof WeightlessError ? error.message : String(error)}\n`)
    process.exitCode = 1
  }
}
