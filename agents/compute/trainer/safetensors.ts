import { z } from 'zod'
import type { Weights } from '#protocol/gguf/llama.ts'
import { TrainerError } from './error.ts'

const size = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const headerSchema = z.object({
  metadata: z.record(z.string(), z.string()),
  entries: z.record(
    z.string(),
    z.object({ dtype: z.literal('F32'), shape: z.array(size).max(8), data_offsets: z.tuple([size, size]) }),
  ),
})

const MAX_HEADER_BYTES = 100 * 1024 * 1024

/**
 * A safetensors file of f32 tensors: u64 header length ‖ JSON header padded with spaces to 8 bytes ‖ data. Metadata
 * values are strings, as the format wants it (huggingface/safetensors, "Format").
 */
export function writeSafetensors({
  tensors,
  metadata = {},
}: {
  tensors: Weights
  metadata?: Readonly<Record<string, string>>
}): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: metadata }
  let offset = 0
  for (const [name, { shape, data }] of Object.entries(tensors)) {
    const end = offset + data.byteLength
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, end] }
    offset = end
  }
  const json = Buffer.from(JSON.stringify(header))
  const headerBytes = Math.ceil(json.length / 8) * 8
  const file = new Uint8Array(8 + headerBytes + offset).fill(0x20, 8, 8 + headerBytes)
  new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes), true)
  file.set(json, 8)
  let at = 8 + headerBytes
  for (const { data } of Object.values(tensors)) {
    file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at)
    at += data.byteLength
  }
  return file
}

/**
 * Reads what `writeSafetensors` writes; other element types are refused.
 *
 * @throws TrainerError `TRAINER_CHECKPOINT` when the file is damaged.
 */
export function readSafetensors(file: Uint8Array): { tensors: Weights; metadata: Record<string, string> } {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  if (file.length < 8) throw damaged('it is shorter than its header')
  const headerBytes = Number(view.getBigUint64(0, true))
  if (headerBytes > MAX_HEADER_BYTES || 8 + headerBytes > file.length) throw damaged('its header is cut off')
  let header: Record<string, unknown>
  try {
    header = JSON.parse(Buffer.from(file.subarray(8, 8 + headerBytes)).toString()) as Record<string, unknown>
  } catch (cause) {
    throw damaged('its header is not JSON', cause)
  }
  const { __metadata__: metadata = {}, ...entries } = header
  const parsed = headerSchema.safeParse({ metadata, entries })
  if (!parsed.success) throw damaged(`${parsed.error.issues[0]?.path.join('.')} in its header is wrong`)
  const tensors: Weights = {}
  for (const [name, { shape, data_offsets: range }] of Object.entries(parsed.data.entries)) {
    const [start, end] = range
    const count = shape.reduce((a, b) => a * b, 1)
    if (end - start !== 4 * count) throw damaged(`tensor ${name} does not fill [${shape.join(', ')}]`)
    if (8 + headerBytes + end > file.length) throw damaged(`tensor ${name} is cut off`)
    // Copied: the data need not be aligned in the file.
    const data = new Float32Array(count)
    new Uint8Array(data.buffer).set(file.subarray(8 + headerBytes + start, 8 + headerBytes + end))
    tensors[name] = { shape, data }
  }
  return { tensors, metadata: parsed.data.metadata }
}

function damaged(why: string, cause?: unknown): TrainerError {
  return new TrainerError({
    code: 'TRAINER_CHECKPOINT',
    message: `the safetensors file is damaged: ${why}`,
    fix: 'delete it; the job then starts anew',
    cause,
  })
}
