import type { EndEvent, EngineEvent } from '#compute/engines/engine.ts'
import { EngineError } from '#compute/engines/engine-error.ts'
import { ProviderError } from '../error.ts'

export interface EngineRunParameters {
  /** Begins the run. */
  start: (options: { signal: AbortSignal }) => AsyncIterable<EngineEvent>
  /** Ends it from outside: the client left, the provider stops. */
  signal: AbortSignal
  firstTokenTimeoutMs: number
  stallTimeoutMs: number
  /** Told of each event in turn; the run waits for it. The time it takes does not count as the engine's. */
  onEvent: (event: EngineEvent) => void | Promise<void>
}

/**
 * Runs an engine to its end within limits: to the first event, and between two. An engine that does not heed its signal
 * is left behind, not waited for.
 *
 * @throws EngineError `ENGINE_TIMEOUT`, `ENGINE_UPSTREAM` when it stops without an end; the signal's reason; what the
 * engine or `onEvent` throws
 */
export async function runEngine(parameters: EngineRunParameters): Promise<EndEvent> {
  const { start, signal, firstTokenTimeoutMs, stallTimeoutMs, onEvent } = parameters
  const controller = new AbortController()
  let fail: (reason: unknown) => void = () => {}
  const failed = new Promise<never>((_, reject) => {
    fail = reject
  })
  failed.catch(() => undefined)
  const abort = (reason: unknown) => {
    controller.abort(reason)
    fail(reason)
  }
  const onAbort = () => abort(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  let limit = { ms: firstTokenTimeoutMs, what: 'begin an answer' }
  let timer: NodeJS.Timeout | undefined
  let iterator: AsyncIterator<EngineEvent> | undefined
  let finished = false
  try {
    signal.throwIfAborted()
    iterator = start({ signal: controller.signal })[Symbol.asyncIterator]()
    for (;;) {
      const { ms, what } = limit
      timer = setTimeout(() => abort(timedOut(ms, what)), ms)
      const next = iterator.next()
      next.catch(() => undefined)
      const { done, value } = await Promise.race([next, failed])
      clearTimeout(timer)
      if (done === true) {
        finished = true
        throw new EngineError({ code: 'ENGINE_UPSTREAM', message: 'the engine broke off before the end of its answer' })
      }
      if (value.type === 'end') {
        finished = true
        void Promise.resolve(iterator.return?.()).catch(() => undefined)
        return value
      }
      if (value.type === 'chunk') limit = { ms: stallTimeoutMs, what: 'go on' }
      const waiting = onEvent(value)
      if (waiting !== undefined) await waiting
      signal.throwIfAborted()
    }
  } catch (error) {
    if (!finished) {
      controller.abort(error)
      // Not awaited: an engine that hangs would hang its client too.
      void Promise.resolve(iterator?.return?.()).catch(() => undefined)
    }
    throw error
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
  }
}

function timedOut(limitMs: number, what: string): EngineError {
  return new EngineError({
    code: 'ENGINE_TIMEOUT',
    message: `the engine did not ${what} within ${limitMs} ms`,
    fix: 'try again, or use another provider',
    details: { limitMs },
  })
}

/** Why a run ended that nobody wants any more. */
export function clientGone(): ProviderError {
  return new ProviderError({
    ...{ statusCode: 499, type: 'invalid_request_error', code: 'client_gone' },
    message: 'the client left before the end of the answer',
  })
}

/** Why a run ended that the provider could not finish. */
export function providerStopping(): ProviderError {
  return new ProviderError({
    ...{ statusCode: 503, type: 'server_error', code: 'provider_stopping', retryAfterS: 5 },
    message: 'the provider is being stopped',
    fix: 'try again shortly, or use another provider',
  })
}
