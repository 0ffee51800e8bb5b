import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '#kit/log.ts'
import { eciesEncrypt } from '#protocol/compute/fine-tuning/ecies.ts'
import { toHex } from '#protocol/hex.ts'
import { type FineTuningChain, revertName } from './chain/fine-tuning-chain.ts'
import type { TaskRow, TaskStore } from './store/task-store.ts'

export interface SettlerParameters {
  store: TaskStore
  chain: FineTuningChain
  log: Logger
  now: () => number
  intervalMs: number
  /** Longest wait for an acknowledgement; half of the lock time where that is less. */
  acknowledgeMs: number
  retryMs: number
}

/**
 * Releases keys and settles fees: with the key once a user has acknowledged, without it (and for a part of the fee) when
 * the time for that is over. What was held for a failed task goes back to its user.
 */
export class FineTuningSettler {
  readonly #parameters: SettlerParameters
  readonly #ending = new AbortController()
  #loop: Promise<void> | undefined
  #lockTimeS: number | undefined
  lastError: string | undefined

  constructor(parameters: SettlerParameters) {
    this.#parameters = parameters
  }

  start(): void {
    this.#loop ??= this.#run()
  }

  async close(): Promise<void> {
    this.#ending.abort()
    await this.#loop
  }

  /** One look at everything that may be settled. */
  async settle(): Promise<void> {
    const { store, log, now, retryMs } = this.#parameters
    for (const task of store.inProgress('Delivered', 'UserAcknowledged')) {
      if (this.#ending.signal.aborted) return
      if (task.settleTryAtMs > now()) continue
      try {
        await this.#settleOne(task)
        this.lastError = undefined
      } catch (error) {
        const name = revertName(error)
        this.lastError = name ?? (error instanceof Error ? error.message : String(error))
        log.warn({ err: error, task: task.id }, 'a task could not be settled yet')
        store.update(task.id, { settleTryAtMs: now() + retryMs, settleError: this.lastError.slice(0, 500) })
      }
    }
    for (const task of store.heldAfterFailure()) await this.#returnHeld(task)
  }

  async #run(): Promise<void> {
    const { log, intervalMs } = this.#parameters
    const { signal } = this.#ending
    while (!signal.aborted) {
      await this.settle().catch((error: unknown) => log.warn({ err: error }, 'the look at acknowledgements failed'))
      await delay(intervalMs, undefined, { signal }).catch(() => undefined)
    }
  }

  async #settleOne(task: TaskRow): Promise<void> {
    const { store, chain } = this.#parameters
    const { id, user, userKey, secret, artefactRoot } = task
    const deliverable = await chain.deliverable(user, id)
    if (deliverable === undefined) {
      // Its sub-account was closed: nothing can be charged any more.
      this.#finish(task, 'abandoned')
      return
    }
    if (deliverable.settled) {
      this.#finish(task, deliverable.encryptedSecret === '0x' ? 'penalty' : 'paid')
      return
    }
    if (secret === undefined || artefactRoot === undefined) throw new Error(`task ${id} has lost its key`)
    if (!deliverable.acknowledged && !(await this.#isOverdue(deliverable.timestampS))) return
    if (deliverable.acknowledged && store.advance(id, ['Delivered'], 'UserAcknowledged')) {
      store.addLine(id, 'acknowledged by its user')
    }
    const account = await chain.account(user)
    const known = account?.nonce ?? 0n
    const nonce = task.nonce > known ? task.nonce : known + 1n
    const encryptedSecret = deliverable.acknowledged
      ? toHex(eciesEncrypt({ publicKey: userKey, plain: secret }))
      : ('0x' as const)
    try {
      await chain.settle({ user, id, root: artefactRoot, encryptedSecret, nonce, feeWei: task.feeWei })
    } catch (error) {
      if (revertName(error) !== 'DeliveredLate') throw error
      await chain.abandon({ user, id })
      this.#finish(task, 'abandoned')
      return
    }
    this.#finish(task, deliverable.acknowledged ? 'paid' : 'penalty')
  }

  async #isOverdue(deliveredAtS: number): Promise<boolean> {
    const { chain, acknowledgeMs } = this.#parameters
    this.#lockTimeS ??= await chain.lockTimeS()
    const waitS = Math.min(acknowledgeMs / 1000, this.#lockTimeS / 2)
    return (await chain.nowS()) >= deliveredAtS + waitS
  }

  #finish({ id }: TaskRow, outcome: 'paid' | 'penalty' | 'abandoned'): void {
    const { store, log } = this.#parameters
    // The key is on the chain for its user, or is of no use to anybody.
    store.update(id, { outcome, secret: undefined, settleError: undefined })
    if (!store.advance(id, ['Delivered', 'UserAcknowledged'], 'Finished')) return
    const said = {
      paid: 'settled: the fee is paid, the key is on the chain for its user',
      penalty: 'settled without acknowledgement: a part of the fee is paid, the key is not released',
      abandoned: 'closed without a fee',
    }
    store.addLine(id, said[outcome])
    log.info({ task: id, outcome }, 'settled a task')
  }

  async #returnHeld({ id, user }: TaskRow): Promise<void> {
    const { store, chain, log } = this.#parameters
    try {
      const { heldWei, deliverByS } = await chain.terms(user, id)
      if (heldWei > 0n && (await chain.nowS()) <= deliverByS) return
      await chain.expireTask({ user, id })
      store.update(id, { held: false })
      if (heldWei > 0n) store.addLine(id, `${heldWei} wei returned to the ledger`)
    } catch (error) {
      log.warn({ err: error, task: id }, 'what was held for a failed task could not be returned yet')
    }
  }
}
