import { WeightlessError } from '#protocol/error.ts'

/**
 * The job queue. Codes: `QUEUE_URL` (a URL that is neither redis nor postgres), `QUEUE_UNAVAILABLE` (the server does not
 * answer), `QUEUE_LOCKED` (another process has the embedded queue open), `QUEUE_JOB` (a job that cannot be added),
 * `QUEUE_CLOSED`, `QUEUE_WAIT_TIMEOUT`.
 */
export class QueueError extends WeightlessError {}

/** A job ended in failure; `message` is what its last attempt said. Code `JOB_FAILED`. */
export class JobFailedError extends WeightlessError {}

/** Throw this in a handler when trying again cannot help: the job fails at once, whatever attempts are left. */
export class PermanentJobError extends WeightlessError {}
