import { setTimeout as delay } from 'node:timers/promises'
import { DevnetError } from './error.ts'

/** Something that must be well before the devnet is ready. */
export interface HealthTarget {
  name: string
  /** Resolves when all is well; rejects with what is not. */
  check(signal: AbortSignal): Promise<void>
  /** How its process does, for the message: `restarted 3 times, exit code 1`. */
  processState?: () => string | undefined
  logFile: string
}

const callMs = 5_000
const pauseMs = 200

/** `/healthz` answers, and not with `down`. */
export async function checkHealthz({ url, signal }: { url: string; signal: AbortSignal }): Promise<void> {
  const response = await fetch(`${url}/healthz`, { signal: AbortSignal.any([signal, AbortSignal.timeout(callMs)]) })
  const text = (await response.text()).slice(0, 400)
  if (!response.ok) throw new Error(`answers ${response.status} ${text}`)
}

/** One JSON-RPC call's result; rejects with the answer's error. */
export async function jsonRpc({
  url,
  method,
  params = [],
  signal,
}: {
  url: string
  method: string
  params?: unknown[]
  signal: AbortSignal
}): Promise<unknown> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    signal: AbortSignal.any([signal, AbortSignal.timeout(callMs)]),
  })
  const answer: unknown = await response.json()
  if (typeof answer === 'object' && answer !== null && 'result' in answer) return answer.result
  throw new Error(`${method} answers ${JSON.stringify(answer).slice(0, 200)}`)
}

/**
 * Waits until every target is well.
 *
 * @throws {DevnetError} `DEVNET_UNHEALTHY` after `timeoutMs`, naming what is not and why, and where its log is
 */
export async function waitHealthy({
  targets,
  timeoutMs,
  signal,
  onReady = () => {},
}: {
  targets: readonly HealthTarget[]
  timeoutMs: number
  signal: AbortSignal
  onReady?: (name: string) => void
}): Promise<void> {
  const limit = AbortSignal.timeout(timeoutMs)
  const stop = AbortSignal.any([signal, limit])
  const reasons = new Map<string, string>()
  await Promise.all(
    targets.map(async ({ name, check }) => {
      while (!stop.aborted) {
        try {
          await check(stop)
          reasons.delete(name)
          onReady(name)
          return
        } catch (error) {
          if (!stop.aborted) reasons.set(name, reasonOf(error))
        }
        await delay(pauseMs, undefined, { signal: stop }).catch(() => undefined)
      }
      if (!reasons.has(name)) reasons.set(name, 'did not answer')
    }),
  )
  signal.throwIfAborted()
  if (reasons.size === 0) return
  const waiting = targets
    .filter(({ name }) => reasons.has(name))
    .map(({ name, processState, logFile }) => ({ name, reason: reasons.get(name), process: processState?.(), logFile }))
  const lines = waiting.map(
    ({ name, reason, process, logFile }) =>
      `${name}: ${reason}${process === undefined ? '' : ` (${process})`}; log: ${logFile}`,
  )
  throw new DevnetError({
    code: 'DEVNET_UNHEALTHY',
    message: `not ready after ${Math.round(timeoutMs / 1000)} s: ${lines.join('; ')}`,
    fix: 'read the logs named above; give more time with --timeout SECONDS on a slow machine',
    details: { waitingFor: waiting },
  })
}

/** What was wrong in a few words: the deepest cause says most (`connect ECONNREFUSED 127.0.0.1:5678`). */
export function reasonOf(error: unknown): string {
  let at = error
  while (at instanceof Error && at.cause instanceof Error) at = at.cause
  return at instanceof Error ? at.message : String(at)
}
