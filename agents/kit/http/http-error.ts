import { WeightlessError, type WeightlessErrorParameters } from '#protocol/error.ts'

export interface HttpErrorParameters extends WeightlessErrorParameters {
  statusCode: number
}

/**
 * An error a route answers with: the status code, and `{ code, message, fix, details }` as its body.
 *
 * @example
 * throw new HttpError({ statusCode: 404, code: 'FILE_UNKNOWN', message: 'no file has this root', details: { root } })
 */
export class HttpError extends WeightlessError {
  readonly statusCode: number

  constructor({ statusCode, ...parameters }: HttpErrorParameters) {
    super(parameters)
    this.statusCode = statusCode
  }
}

/** What is told to the caller about an error. */
export interface HttpErrorBody {
  code: string
  message: string
  fix?: string | undefined
  details: Record<string, unknown>
}

/**
 * The status code and body for any error: a project error speaks for itself (500 unless it is an HttpError), the HTTP
 * library's complaints about a request keep their 4xx, and anything else is a bare 500, as its text may hold secrets.
 */
export function describeHttpError(error: unknown): { statusCode: number; body: HttpErrorBody } {
  if (error instanceof WeightlessError) {
    const statusCode = error instanceof HttpError ? error.statusCode : 500
    const { code, message, fix, details } = error
    return { statusCode, body: { code, message, ...(fix === undefined ? {} : { fix }), details: toJsonSafe(details) } }
  }
  const status: unknown = error instanceof Error ? Reflect.get(error, 'statusCode') : undefined
  if (error instanceof Error && typeof status === 'number' && status >= 400 && status < 500) {
    const code: unknown = Reflect.get(error, 'code')
    return {
      statusCode: status,
      body: { code: typeof code === 'string' ? code : 'HTTP_REQUEST', message: error.message, details: {} },
    }
  }
  return {
    statusCode: 500,
    body: { code: 'HTTP_INTERNAL', message: 'the request failed inside the server', details: {} },
  }
}

function toJsonSafe(details: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(details).map(([key, value]) => [key, typeof value === 'bigint' ? value.toString() : value]),
  )
}
