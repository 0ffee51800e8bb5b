import { WeightlessError, type WeightlessErrorParameters } from '#protocol/error.ts'
import type { Hash } from '#protocol/hex.ts'

/** Why one signer was of no use. */
export interface SignerFailure {
  /** Account of the signer. */
  signer: Hash
  url: string
  /** Stable code: `SIGNER_UNREACHABLE`, `SIGNER_TIMEOUT`, `SIGNER_FOREIGN_SIGNATURE`, or what the signer itself answered. */
  code: string
  reason: string
}

/** One signer did not do what was asked. `details`: `signer`, `url`, and what it answered. */
export class SignerFailedError extends WeightlessError {
  /** HTTP status, where the signer answered. */
  readonly status: number | undefined
  /** When the signer asks to be tried again, in milliseconds. */
  readonly retryAfterMs: number | undefined

  constructor({
    status,
    retryAfterMs,
    ...parameters
  }: WeightlessErrorParameters & { status?: number | undefined; retryAfterMs?: number | undefined }) {
    super(parameters)
    this.status = status
    this.retryAfterMs = retryAfterMs
  }
}

/** Fewer than two thirds of the stake signed. Code `QUORUM_NOT_REACHED`; `details.failures` says who did not, and why. */
export class QuorumNotReachedError extends WeightlessError {
  readonly failures: readonly SignerFailure[]

  constructor(facts: {
    dataRoot: Hash
    epoch: number
    signedWei: bigint
    totalWei: bigint
    failures: readonly SignerFailure[]
  }) {
    const { dataRoot, epoch, signedWei, totalWei, failures } = facts
    const percent = totalWei === 0n ? 0 : Number((signedWei * 1_000n) / totalWei) / 10
    super({
      code: 'QUORUM_NOT_REACHED',
      message: `signers with ${percent} % of the stake of epoch ${epoch} signed ${dataRoot}, two thirds are needed: ${summary(failures)}`,
      fix: 'the same command goes on where this one stopped and pays nothing twice; if the signers named stay away, wait for the next epoch',
      details: { dataRoot, epoch, signedWei: String(signedWei), totalWei: String(totalWei), failures },
    })
    this.failures = failures
  }
}

/** The chain knows no such blob. Code `BLOB_UNKNOWN`. */
export class BlobUnknownError extends WeightlessError {
  constructor({ dataRoot, reason, cause }: { dataRoot: Hash; reason: string; cause?: unknown }) {
    super({
      code: 'BLOB_UNKNOWN',
      message: `there is no confirmed blob ${dataRoot}: ${reason}`,
      fix: 'check the root and the network; a blob counts once its quorum’s signatures are on the chain',
      details: { dataRoot },
      cause,
    })
  }
}

/** The blob was confirmed, its retention is over, and nobody gave enough rows. Code `BLOB_EXPIRED`. */
export class BlobExpiredError extends WeightlessError {
  constructor(facts: { dataRoot: Hash; expiryEpoch: number; currentEpoch: number; cause?: unknown }) {
    const { dataRoot, expiryEpoch, currentEpoch, cause } = facts
    super({
      code: 'BLOB_EXPIRED',
      message: `${dataRoot} was kept until epoch ${expiryEpoch}, it is epoch ${currentEpoch}`,
      fix: 'disperse it again, from a copy of its bytes',
      details: { dataRoot, expiryEpoch, currentEpoch },
      cause,
    })
  }
}

/** Too few rows can be had now. Code `BLOB_UNAVAILABLE`; `details.failures` says which signer failed, and why. */
export class BlobUnavailableError extends WeightlessError {
  readonly failures: readonly SignerFailure[]

  constructor(facts: { dataRoot: Hash; haveRows: number; needRows: number; failures: readonly SignerFailure[] }) {
    const { dataRoot, haveRows, needRows, failures } = facts
    super({
      code: 'BLOB_UNAVAILABLE',
      message: `${haveRows} of the ${needRows} rows needed for ${dataRoot} could be had: ${summary(failures)}`,
      fix: 'try again: the data is there as long as signers with a third of the rows answer',
      details: { dataRoot, haveRows, needRows, failures },
    })
    this.failures = failures
  }
}

/** The contract did not take what was sent. Code `ENTRANCE_REFUSED`; `details.errorName`. */
export class EntranceRefusedError extends WeightlessError {}

/** The contract of users' accounts did not take what was sent. Code `ACCOUNTS_REFUSED`; `details.errorName`. */
export class AccountsRefusedError extends WeightlessError {}

/** A setting that an action needs is missing. Code `SETTING_MISSING`. */
export class DaSettingError extends WeightlessError {
  constructor({ setting, purpose }: { setting: string; purpose: string }) {
    super({
      code: 'SETTING_MISSING',
      message: `${setting} is needed to ${purpose}`,
      fix: `give ${setting} when connecting`,
      details: { setting },
    })
  }
}

/** At most six failures in words. */
export function summary(failures: readonly SignerFailure[]): string {
  if (failures.length === 0) return 'no signer failed'
  const shown = failures.slice(0, 6).map(({ url, signer, reason }) => `${url || signer}: ${reason}`)
  return [...shown, ...(failures.length > 6 ? [`and ${failures.length - 6} more`] : [])].join('; ')
}

/** The message of anything thrown. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** The stable code of anything thrown. */
export function codeOf(error: unknown): string {
  const code: unknown = error instanceof Error ? Reflect.get(error, 'code') : undefined
  return typeof code === 'string' ? code : 'UNEXPECTED'
}
