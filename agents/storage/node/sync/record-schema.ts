import { z } from 'zod'
import type { Hex } from '#protocol/hex.ts'
import { MAX_PEER_URL_BYTES, type SignedPeerRecord } from '#protocol/storage/peer-record.ts'
import { isShard } from '#protocol/storage/shard.ts'

const hex = (bytes: number) =>
  z
    .string()
    .regex(new RegExp(`^0x[0-9a-fA-F]{${2 * bytes}}$`), `expected ${bytes} bytes as 0x and hex digits`)
    .transform((text) => text.toLowerCase() as Hex)
const count = (max: number) => z.number().int().min(0).max(max)

/** A signed record as it comes over the wire. Whether it is right is another question. */
export const signedRecordSchema: z.ZodType<SignedPeerRecord, unknown> = z.object({
  nodeId: hex(32),
  url: z.string().min(8).max(MAX_PEER_URL_BYTES),
  chainId: count(Number.MAX_SAFE_INTEGER),
  flow: hex(20),
  shard: z.object({ shardId: count(2 ** 31), numShard: count(2 ** 31) }).refine(isShard, 'not a shard'),
  issuedAtS: count(2 ** 40),
  signature: hex(64),
})
