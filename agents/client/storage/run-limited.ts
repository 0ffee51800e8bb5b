/**
 * Runs `run` for every item, at most `limit` at a time. After the first failure no more are begun; those under way are
 * waited for, then the failure is thrown.
 */
export async function runLimited<Item>({
  items,
  limit,
  run,
}: {
  items: readonly Item[]
  limit: number
  run: (item: Item) => Promise<void>
}): Promise<void> {
  let next = 0
  let failure: { reason: unknown } | undefined
  const lane = async () => {
    while (next < items.length && failure === undefined) {
      const item = items[next] as Item
      next += 1
      try {
        await run(item)
      } catch (reason) {
        failure ??= { reason }
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, lane))
  if (failure !== undefined) throw failure.reason
}
