/** 32 bytes, or any bytes, as lower-case hex. */
export type Hash = `0x${string}`

/** A block by number and hash. */
export interface BlockRef {
  readonly number: number
  readonly hash: Hash
}

/** What the follower uses of a block header. */
export interface BlockHeader extends BlockRef {
  readonly parentHash: Hash
  /** 256 bytes; some chains fill it with zeros. */
  readonly logsBloom: Hash | undefined
  /** How many transactions it holds, where the endpoint lists them. */
  readonly transactionCount: number | undefined
}

/** A log as the chain told it, checked for shape and turned into numbers. Hex is lower case. */
export interface RawLog {
  readonly address: Hash
  readonly topics: readonly Hash[]
  readonly data: Hash
  readonly blockNumber: number
  readonly blockHash: Hash
  readonly transactionHash: Hash
  readonly transactionIndex: number
  /** Position in the block. */
  readonly logIndex: number
}
