import { z } from 'zod'
import { rpcHash, rpcUint } from '#kit/http/rpc-method.ts'
import type { Hash } from '#protocol/hex.ts'
import { segmentProofSchema } from '../wire.ts'
import { GatewayError } from './envelope.ts'

/** What a file is named by: its root or the sequence number of its transaction. */
export type FileId = { root: Hash } | { txSeq: number }

const MAX_NAME = 1024
const MAX_PATH = 8192
const MAX_CIDS = 100

const fileQuery = z.object({
  root: rpcHash().optional(),
  txSeq: rpcUint().optional(),
  name: z.string().max(MAX_NAME).optional(),
})

/** `?root=…&name=…` or `?txSeq=…&name=…`. @throws GatewayError invalid parameter */
export function readFileQuery(query: unknown): { id: FileId; name: string | undefined } {
  const { root, txSeq, name } = check(fileQuery, query)
  if (root !== undefined) return { id: { root }, name }
  if (txSeq !== undefined) return { id: { txSeq }, name }
  throw new GatewayError({ kind: 'invalidParameter', data: 'either root or txSeq is needed' })
}

/** A content id in a path: digits are a sequence number, all else must be a root. @throws GatewayError */
export function readCid(cid: string): FileId {
  if (/^\d+$/.test(cid)) return { txSeq: check(rpcUint(), cid) }
  return { root: check(rpcHash(), cid) }
}

/** `?cid=a&cid=b`, at most 100. Those that are no ids come as errors, so that the others can be answered. */
export function readCids(query: unknown): (FileId | GatewayError)[] {
  const { cid } = check(z.object({ cid: z.union([z.string(), z.array(z.string())]) }), query)
  const cids = typeof cid === 'string' ? [cid] : cid
  if (cids.length > MAX_CIDS) {
    throw new GatewayError({ kind: 'invalidParameter', data: `${cids.length} ids, the limit is ${MAX_CIDS}` })
  }
  return cids.map((text) => {
    try {
      return readCid(text)
    } catch (error) {
      if (error instanceof GatewayError) return error
      throw error
    }
  })
}

/** The names along a path inside a directory; empty ones and `.` fall away. @throws GatewayError for `..` */
export function readPath(path: string): string[] {
  if (path.length > MAX_PATH) throw new GatewayError({ kind: 'invalidParameter', data: 'the path is too long' })
  const names = path.split('/').filter((name) => name !== '' && name !== '.')
  if (names.includes('..')) throw new GatewayError({ kind: 'invalidParameter', data: 'the path must not contain ..' })
  return names
}

const segmentUpload = z.object({
  root: rpcHash().nullish(),
  txSeq: rpcUint().nullish(),
  data: z.string().min(1).max(349_528),
  index: rpcUint(),
  proof: segmentProofSchema,
  expectedReplica: rpcUint({ max: 64 }).nullish(),
})
export type SegmentUpload = z.output<typeof segmentUpload>

/** The body of `POST /file/segment`. @throws GatewayError invalid parameter */
export function readSegmentUpload(body: unknown): SegmentUpload {
  const upload = check(segmentUpload, body)
  if (upload.root == null && upload.txSeq == null) {
    throw new GatewayError({ kind: 'invalidParameter', data: 'either root or txSeq is needed' })
  }
  return upload
}

function check<S extends z.ZodType>(schema: S, given: unknown): z.output<S> {
  const checked = schema.safeParse(given)
  if (checked.success) return checked.data
  const issue = checked.error.issues[0]
  const field = issue?.path.join('.')
  throw new GatewayError({
    kind: 'invalidParameter',
    data: `${field ? `${field}: ` : ''}${issue?.message ?? 'the request is not valid'}`,
  })
}
