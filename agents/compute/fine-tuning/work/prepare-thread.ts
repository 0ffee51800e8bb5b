import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { parentPort, workerData } from 'node:worker_threads'
import { readBaseModel, readBaseTokenizer } from '#compute/trainer/base-model.ts'
import { exampleEncoder } from '#compute/trainer/chat-format.ts'
import { datasetLimits, readDataset } from '#compute/trainer/dataset.ts'
import { TrainerError } from '#compute/trainer/error.ts'
import { packRows, rowTokensFor, type TokenExample } from '#compute/trainer/packing.ts'
import { parseRecipe } from '#compute/trainer/recipe.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { EngineTokenizer } from './engine-tokenizer.ts'
import type { PrepareAnswer, PreparedDataset, PrepareRequest } from './prepare.ts'

async function prepare(request: Extract<PrepareRequest, { kind: 'prepare' }>): Promise<PreparedDataset> {
  const { basePath, from, to, maxBytes } = request
  const limits = { ...datasetLimits, maxBytes }
  // First as it came, for its limits; then in the trainer's form, for its lines.
  await rewrite({ from, to, maxLineBytes: limits.maxLineBytes })
  // Written out as conversations, lines may have grown a little.
  const { examples } = await readDataset({ path: to, limits: { ...limits, maxBytes: 2 * maxBytes + 4_096 } })
  await using base = await baseTokenizer(basePath, request.own)
  const { tokenizer, context } = base
  const encoder = exampleEncoder(tokenizer)
  // As the trainer does it; which rows they fill depends a little on the order, so it is one that quote and task share.
  const longest = Math.min(request.rowTokens ?? context, context)
  const pieces: TokenExample[] = examples.flatMap((each) =>
    encoder.encode(each, { promptWeight: 0, rowTokens: longest }),
  )
  const rowTokens = request.rowTokens ?? Math.min(context, rowTokensFor(pieces))
  const { count: rows } = packRows({ examples: pieces, rowTokens, seed: 0 })
  const tokens = pieces.reduce((sum, piece) => sum + piece.tokens.length, 0)
  return { examples: examples.length, tokens, rows }
}

/** The own reader of tokenizers, or where another trainer will do the work and it does not know this one, llama.cpp's. */
async function baseTokenizer(path: string, own: boolean): Promise<EngineTokenizer> {
  try {
    return { ...(await readBaseTokenizer(path)), [Symbol.asyncDispose]: async () => undefined }
  } catch (error) {
    if (own || !(error instanceof TrainerError) || error.code !== 'TRAINER_TOKENIZER') throw error
    // It brings native code with it: loaded when wanted.
    const { openEngineTokenizer } = await import('./engine-tokenizer.ts')
    return await openEngineTokenizer(path)
  }
}

/** One line for each line, so that errors name the user's line. */
async function rewrite(parameters: { from: string; to: string; maxLineBytes: number }): Promise<void> {
  const { from, to } = parameters
  const target = await open(to, 'w', 0o600)
  try {
    // Size and line lengths were bounded when the file was taken in: no line is longer than the file.
    for await (const line of createInterface({ input: createReadStream(from, 'utf8'), crlfDelay: 1_000 })) {
      await target.write(`${asConversation(line)}\n`)
    }
  } finally {
    await target.close()
  }
}

/** `{"instruction", "input", "output"}` as a conversation; everything else as it is. */
function asConversation(line: string): string {
  if (!line.includes('"instruction"')) return line
  try {
    const { instruction, input, output, messages } = JSON.parse(line) as Record<string, unknown>
    if (messages !== undefined || typeof instruction !== 'string' || typeof output !== 'string') return line
    const prompt = typeof input === 'string' && input !== '' ? `${instruction}\n${input}` : instruction
    return JSON.stringify({ prompt, completion: output })
  } catch {
    return line
  }
}

async function answer(): Promise<PrepareAnswer> {
  const request = workerData as PrepareRequest
  try {
    if (request.kind === 'prepare') return { ok: true, value: await prepare(request) }
    parseRecipe(request.recipe)
    // Whoever trains, tokens are counted here.
    if (request.own) await readBaseModel(request.path)
    else await (await baseTokenizer(request.path, false))[Symbol.asyncDispose]()
    return { ok: true, value: null }
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    if (!(error instanceof WeightlessError)) return { ok: false, code: 'TRAINER_BASE', message, details: {} }
    const { code, fix, details } = error
    return { ok: false, code, message, fix, details: JSON.parse(JSON.stringify(details)) as Record<string, unknown> }
  }
}

parentPort?.postMessage(await answer())
