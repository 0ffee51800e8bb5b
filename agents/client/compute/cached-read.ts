import { type ComputeConnection, isChainDown } from './connection.ts'

/** Something read from the chain, and when. */
export interface Known<T> {
  readonly value: T
  readonly readMs: number
}

/** A chain that answers later than this is not waited for where older knowledge will do. */
const PATIENCE_MS = 2_000
/** After trouble the chain is left alone for so long. */
const PAUSE_MS = 5_000

const troubled = new WeakMap<ComputeConnection, number>()

/**
 * Reads from the chain unless `known` is younger than `maxAgeMs` (default: the connection's `cacheMs`). While the chain
 * is down or slow, what is known does for up to `staleMs`: a provider can be asked without it.
 *
 * @throws ComputeChainError
 */
export async function readCached<T>(
  connection: ComputeConnection,
  {
    known,
    read,
    maxAgeMs = connection.limits.cacheMs,
  }: { known: Known<T> | undefined; read: () => Promise<T>; maxAgeMs?: number | undefined },
): Promise<Known<T>> {
  const ageMs = known === undefined ? Number.POSITIVE_INFINITY : Date.now() - known.readMs
  if (known !== undefined && ageMs < maxAgeMs) return known
  const usable = ageMs < connection.limits.staleMs ? known : undefined
  if (usable !== undefined && Date.now() - (troubled.get(connection) ?? 0) < PAUSE_MS) return usable
  const work = read().then((value): Known<T> => ({ value, readMs: Date.now() }))
  if (usable === undefined) return await work
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), PATIENCE_MS)
  })
  try {
    const fresh = await Promise.race([work, late])
    if (fresh !== undefined) return fresh
    work.catch(() => undefined)
  } catch (error) {
    if (!isChainDown(error)) throw error
  } finally {
    clearTimeout(timer)
  }
  troubled.set(connection, Date.now())
  return usable
}
