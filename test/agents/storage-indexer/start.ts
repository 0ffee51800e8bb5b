import { silentLog } from '#kit/log.ts'
import { indexerConfigSchema, type RunningIndexer, startIndexer } from '#storage/indexer/main.ts'

type Settings = Parameters<typeof indexerConfigSchema.parse>[0] & object

/** An indexer on a free port, with short limits so that failures show quickly. */
export async function startTestIndexer(settings: Settings): Promise<RunningIndexer> {
  const config = indexerConfigSchema.parse({
    port: 0,
    updateIntervalMs: 200,
    requestTimeoutMs: 1_000,
    segmentTimeoutMs: 1_000,
    hedgeMs: 150,
    ...settings,
  })
  return await startIndexer(config, { log: silentLog() })
}

/** One JSON-RPC call, its whole answer. */
export async function rpc(
  url: string,
  method: string,
  params: unknown[] = [],
): Promise<{ result?: unknown; error?: { code: number; message: string; data?: string } }> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  })
  return (await response.json()) as { result?: unknown }
}

/** Waits until `condition` holds; fails with `what` after `limitMs`. */
export async function eventually(
  what: string,
  condition: () => boolean | Promise<boolean>,
  limitMs = 10_000,
): Promise<void> {
  const deadline = performance.now() + limitMs
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${limitMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}
