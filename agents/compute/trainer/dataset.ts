import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { z } from 'zod'
import type { Example } from './chat-format.ts'
import { TrainerError } from './error.ts'

/** Limits of a dataset; a file beyond one is refused before anything is paid or computed. */
export interface DatasetLimits {
  maxBytes: number
  maxLineBytes: number
  maxExamples: number
}

export const datasetLimits: DatasetLimits = {
  maxBytes: 256 * 1024 * 1024,
  maxLineBytes: 1024 * 1024,
  maxExamples: 1_000_000,
}

/** A dataset that passed every check. */
export interface Dataset {
  examples: readonly Example[]
  sizeBytes: number
  /** SHA-256 of the file. */
  sha256: string
}

const messageSchema = z.object({
  role: z.enum(['system', 'user', 'assistant']),
  content: z.string(),
})

const chatSchema = z.object({
  messages: z
    .array(messageSchema)
    .min(1)
    .max(1000)
    .refine((messages) => messages.some(({ role, content }) => role === 'assistant' && content.length > 0), {
      message: 'no message of the assistant to learn from',
    }),
})
const promptSchema = z.object({ prompt: z.string(), completion: z.string().min(1) })
const textSchema = z.object({ text: z.string().min(1) })

/**
 * One line of a dataset: `{"messages": [{"role", "content"}…]}`, `{"prompt", "completion"}` or `{"text"}`. Further fields
 * are ignored.
 *
 * @throws TrainerError `TRAINER_DATASET_LINE` with `details.line` (from 1) and the field that is wrong.
 */
export function parseExample(line: string, number: number): Example {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch (cause) {
    throw lineError(number, 'is not JSON', cause)
  }
  if (typeof value !== 'object' || value === null) throw lineError(number, 'is not an object')
  if ('messages' in value) return { kind: 'chat', messages: check(chatSchema, value, number).messages }
  if ('prompt' in value || 'completion' in value) {
    const { prompt, completion } = check(promptSchema, value, number)
    const messages = [{ role: 'user', content: prompt } as const, { role: 'assistant', content: completion } as const]
    return { kind: 'chat', messages }
  }
  if ('text' in value) return { kind: 'text', text: check(textSchema, value, number).text }
  throw lineError(number, 'has none of the fields messages, prompt and text')
}

/**
 * Reads and checks a JSON-lines dataset as a stream; empty lines are skipped.
 *
 * @throws TrainerError `TRAINER_DATASET_LINE`, `TRAINER_DATASET_EMPTY`, `TRAINER_DATASET_SIZE`
 * @example
 * const { examples } = await readDataset({ path: 'models/examples/tickets.jsonl' })
 */
export async function readDataset({
  path,
  limits = datasetLimits,
}: {
  path: string
  limits?: DatasetLimits
}): Promise<Dataset> {
  const examples: Example[] = []
  const hash = createHash('sha256')
  let number = 0
  const sizeBytes = await eachLine({ path, limits, hash }, (line) => {
    number += 1
    if (line.trim() === '') return
    if (examples.length === limits.maxExamples) throw tooLarge('examples', limits.maxExamples)
    examples.push(parseExample(line, number))
  })
  if (examples.length === 0) {
    throw new TrainerError({
      code: 'TRAINER_DATASET_EMPTY',
      message: `${path} has no examples`,
      fix: 'give one JSON object per line, see docs/training.md',
      details: { path },
    })
  }
  return { examples, sizeBytes, sha256: hash.digest('hex') }
}

async function eachLine(
  { path, limits, hash }: { path: string; limits: DatasetLimits; hash: Hash },
  onLine: (line: string) => void,
): Promise<number> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let sizeBytes = 0
  let held: Uint8Array[] = []
  let heldBytes = 0
  const line = (last: Uint8Array): void => {
    if (heldBytes + last.length > limits.maxLineBytes) throw tooLarge('bytes in a line', limits.maxLineBytes)
    const bytes = held.length === 0 ? last : Buffer.concat([...held, last])
    held = []
    heldBytes = 0
    let text: string
    try {
      text = decoder.decode(bytes)
    } catch (cause) {
      throw new TrainerError({ code: 'TRAINER_DATASET_LINE', message: 'the dataset is not UTF-8', cause })
    }
    onLine(text)
  }
  try {
    for await (const chunk of createReadStream(path)) {
      const bytes = chunk as Uint8Array
      hash.update(bytes)
      sizeBytes += bytes.length
      if (sizeBytes > limits.maxBytes) throw tooLarge('bytes', limits.maxBytes)
      let from = 0
      for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, from)) {
        line(bytes.subarray(from, end))
        from = end + 1
      }
      held.push(bytes.slice(from))
      heldBytes += bytes.length - from
      if (heldBytes > limits.maxLineBytes) throw tooLarge('bytes in a line', limits.maxLineBytes)
    }
  } catch (cause) {
    if (cause instanceof TrainerError) throw cause
    throw new TrainerError({
      code: 'TRAINER_DATASET_EMPTY',
      message: `${path} cannot be read`,
      fix: 'give the path of a readable file',
      details: { path },
      cause,
    })
  }
  if (heldBytes > 0) line(new Uint8Array(0))
  return sizeBytes
}

function check<T>(schema: z.ZodType<T>, value: unknown, number: number): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw lineError(number, `${issue?.path.join('.') || 'the object'}: ${issue?.message ?? 'wrong'}`)
}

function lineError(number: number, why: string, cause?: unknown): TrainerError {
  return new TrainerError({
    code: 'TRAINER_DATASET_LINE',
    message: `line ${number} of the dataset ${why.startsWith('is') || why.startsWith('has') ? why : `is wrong: ${why}`}`,
    fix: 'one JSON object per line: {"messages": […]}, {"prompt", "completion"} or {"text"}',
    details: { line: number },
    cause,
  })
}

function tooLarge(what: string, limit: number): TrainerError {
  return new TrainerError({
    code: 'TRAINER_DATASET_SIZE',
    message: `the dataset has more than ${limit} ${what}`,
    fix: 'split the dataset',
    details: { what, limit },
  })
}
