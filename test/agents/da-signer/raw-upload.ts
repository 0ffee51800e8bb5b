import { request } from 'node:http'
import { encodeUploadHead } from '#client/da/signer-wire.ts'
import type { EncodedBlob } from '#protocol/da/blob-codec.ts'
import { encodeSlice } from '#protocol/da/slice.ts'

/** The body of an upload of some rows. */
export function uploadBody(blob: EncodedBlob, rows: readonly number[], head: { sizeBytes?: number } = {}): Buffer {
  const { header, rowRoot, rlcRoot } = blob.commitment
  const { sizeBytes = header.sizeBytes } = head
  return Buffer.concat([
    encodeUploadHead({ sizeBytes, rowRoot, rlcRoot, rlc: blob.rlc }),
    ...rows.flatMap((row) => encodeSlice(blob.slice(row))),
  ])
}

/** Whole numbers from `first`, `count` of them. */
export function range(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i)
}

export interface RawAnswer {
  status: number
  code: string | undefined
  signature: string | undefined
  retryAfter: string | undefined
}

/** One upload as given, whatever it is. `lengthBytes` may lie. */
export function post(
  url: string,
  path: string,
  body: Uint8Array,
  { lengthBytes = body.length, end = true }: { lengthBytes?: number; end?: boolean } = {},
): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/octet-stream', 'content-length': String(lengthBytes) }
    const outgoing = request(new URL(path, url), { method: 'POST', headers }, (answer) => {
      const parts: Buffer[] = []
      answer.on('data', (part: Buffer) => parts.push(part))
      answer.on('end', () => {
        const json = JSON.parse(Buffer.concat(parts).toString('utf8')) as { code?: string; signature?: string }
        const retryAfter = answer.headers['retry-after']
        resolve({ status: answer.statusCode ?? 0, code: json.code, signature: json.signature, retryAfter })
        outgoing.destroy()
      })
      answer.on('error', reject)
    })
    outgoing.on('error', reject)
    outgoing.write(body)
    if (end) outgoing.end()
  })
}
