import { entranceAbi } from './abi.ts'
import { currentEpoch } from './blob-record.ts'
import type { DaConnection } from './connection.ts'
import { entranceError } from './entrance-error.ts'

export interface QuoteParameters {
  sizeBytes: number
  /** Epochs after the current one for which the blob is kept. Default: the shortest the contract takes. */
  retentionEpochs?: number | undefined
}

export interface QuoteReturnType {
  sizeBytes: number
  retentionEpochs: number
  feeWei: bigint
  /** Now. */
  epoch: number
}

/**
 * What dispersing a blob costs at this moment, gas aside.
 *
 * @throws EntranceRefusedError for a size or retention out of bounds
 * @example
 * const { feeWei } = await quoteBlob(connection, { sizeBytes: 131_072 })
 */
export async function quoteBlob(connection: DaConnection, parameters: QuoteParameters): Promise<QuoteReturnType> {
  const { client } = await connection.chain()
  const { entrance: address } = connection.contracts
  const { sizeBytes, retentionEpochs = await shortestRetention(connection) } = parameters
  try {
    const [feeWei, epoch] = await Promise.all([
      client.readContract({
        address,
        abi: entranceAbi,
        functionName: 'quote',
        args: [BigInt(sizeBytes), BigInt(retentionEpochs)],
      }),
      currentEpoch(connection),
    ])
    return { sizeBytes, retentionEpochs, feeWei, epoch }
  } catch (error) {
    throw entranceError(error, address)
  }
}

/** The shortest retention that is taken, in epochs. */
export async function shortestRetention(connection: DaConnection): Promise<number> {
  const { client } = await connection.chain()
  const { entrance: address } = connection.contracts
  try {
    const [min] = await client.readContract({ address, abi: entranceAbi, functionName: 'retentionBounds' })
    return Number(min)
  } catch (error) {
    throw entranceError(error, address)
  }
}
