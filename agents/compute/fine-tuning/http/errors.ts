import type { FastifyInstance } from 'fastify'
import { TrainerError } from '#compute/trainer/error.ts'
import type { Logger } from '#kit/log.ts'
import { FineTuningFormatError } from '#protocol/compute/fine-tuning/error.ts'
import { SessionTokenError } from '#protocol/compute/session-token.ts'
import type { WeightlessError } from '#protocol/error.ts'
import { FineTuningError } from '../error.ts'

/** Every refusal is `{ "error": text }`, as 0G's clients read it; `code`, `fix` and `details` stand beside it. */
export function answerErrors(app: FastifyInstance, log: Logger): void {
  app.setErrorHandler((thrown, request, reply) => {
    const { statusCode, error } = describe(thrown)
    const facts = { method: request.method, route: request.routeOptions.url, statusCode, code: error.code }
    if (statusCode >= 500) log.warn({ ...facts, err: thrown }, 'a request failed')
    else log.debug(facts, 'a request was refused')
    if (statusCode === 429 || statusCode === 503) reply.header('retry-after', '10')
    return reply.code(statusCode).send({
      error: error.fix === undefined ? error.message : `${error.message} (${error.fix})`,
      ...{ code: error.code, fix: error.fix, details: jsonSafe(error.details) },
    })
  })
}

function describe(thrown: unknown): { statusCode: number; error: WeightlessError } {
  if (thrown instanceof FineTuningError) return { statusCode: thrown.statusCode, error: thrown }
  if (thrown instanceof SessionTokenError) return { statusCode: 401, error: thrown }
  if (thrown instanceof FineTuningFormatError) {
    return { statusCode: thrown.code === 'TASK_SIGNATURE' ? 401 : 400, error: thrown }
  }
  if (thrown instanceof TrainerError) return { statusCode: 400, error: thrown }
  const status: unknown = thrown instanceof Error ? Reflect.get(thrown, 'statusCode') : undefined
  if (thrown instanceof Error && typeof status === 'number' && status >= 400 && status < 500) {
    const error = new FineTuningError({ code: 'REQUEST_FORMAT', statusCode: status, message: thrown.message })
    return { statusCode: status, error }
  }
  return {
    statusCode: 503,
    error: new FineTuningError({
      ...{ code: 'FINE_TUNING_UNREACHABLE', statusCode: 503, cause: thrown },
      message: 'the provider cannot answer this now',
      fix: 'try again shortly',
    }),
  }
}

function jsonSafe(details: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const entries = Object.entries(details)
  return Object.fromEntries(entries.map(([key, value]) => [key, typeof value === 'bigint' ? String(value) : value]))
}
