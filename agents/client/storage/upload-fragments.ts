import type { Hash } from '#protocol/hex.ts'
import type { StorageConnection } from './connection.ts'
import { sourceSlice } from './source-slice.ts'
import { type UploadParameters, type UploadReturnType, upload } from './upload.ts'

/** Files above this are split: what the field's other clients use. */
export const DEFAULT_FRAGMENT_BYTES = 4 * 2 ** 30

export interface UploadFragmentsParameters extends Omit<UploadParameters, 'tree'> {
  /** Bytes of a fragment. Default 4 GiB. */
  fragmentBytes?: number | undefined
}

export interface UploadFragmentsReturnType {
  /** Roots in order; one for a file that fits a fragment. `download` takes the list. */
  roots: Hash[]
  sizeBytes: number
  feeWei: bigint
  fragments: UploadReturnType[]
}

/**
 * Store a file of any size: in one piece up to `fragmentBytes`, else in fragments, one after the other, each with its
 * own root. What is stored of an interrupted upload is found again.
 *
 * @throws as {@link upload}
 * @example
 * const { roots } = await uploadFragments(connection, { source: await fileSource('disk.img') })
 */
export async function uploadFragments(
  connection: StorageConnection,
  { fragmentBytes = DEFAULT_FRAGMENT_BYTES, ...parameters }: UploadFragmentsParameters,
): Promise<UploadFragmentsReturnType> {
  const { source, onEvent } = parameters
  const count = Math.max(1, Math.ceil(source.sizeBytes / fragmentBytes))
  const fragments: UploadReturnType[] = []
  for (let index = 0; index < count; index++) {
    const slice = count === 1 ? source : sourceSlice({ source, offset: index * fragmentBytes, length: fragmentBytes })
    if (count > 1) onEvent?.({ type: 'item', name: `fragment ${index + 1}`, index, count, sizeBytes: slice.sizeBytes })
    fragments.push(await upload(connection, { ...parameters, source: slice }))
  }
  return {
    roots: fragments.map(({ root }) => root),
    sizeBytes: source.sizeBytes,
    feeWei: fragments.reduce((sum, { feeWei }) => sum + feeWei, 0n),
    fragments,
  }
}
