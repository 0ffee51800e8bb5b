import { randomBytes } from 'node:crypto'
import { type Hash, type Hex, toHex } from '#protocol/hex.ts'
import { least } from '../money/amounts.ts'
import { addTotal, type Cashier, type PaymentMode } from '../money/cashier.ts'
import type { ProviderStore } from '../store/provider-store.ts'

/** How fees are settled. */
export type SettlementMode = 'token' | 'voucher'

/** A closed charge that waits. */
export interface DueCharge {
  readonly seq: number
  readonly user: Hex
  readonly feeWei: bigint
  readonly closedMs: number
  readonly requestHash: Hash
  readonly inputFeeWei: bigint
}

/** One user's part of a settlement, signed and ready. */
export interface SettlementItem {
  readonly user: Hex
  /** What the charges it covers come to. */
  readonly owedWei: bigint
  /** What is signed for: the fee (token), or the cumulative claim (voucher). */
  readonly totalWei: bigint
  readonly signature: Hex
  /** Token alone. */
  readonly nonce: bigint
  readonly requestsHash: Hash
  /** Voucher alone. */
  readonly paidBeforeWei: bigint
  readonly cumulativeWei: bigint
  readonly expiresS: number
  readonly generation: number
}

export interface SettlementBatch {
  readonly id: number
  /** 16 random bytes that every transaction of this batch carries, so that nobody takes it for another's; or `0x`. */
  readonly tag: Hex
  readonly mode: SettlementMode
  /** The chain's head when it was prepared: what became of it is after this block. */
  readonly fromBlock: number
  readonly createdMs: number
  readonly items: readonly (SettlementItem & { readonly id: number })[]
}

/** What the contract made of one item. */
export interface ItemOutcome {
  readonly itemId: number
  readonly status: string
  readonly paidWei: bigint
}

interface ItemRow {
  id: number
  user: Hex
  owed_wei: string
  total_wei: string
  nonce: string
  requests_hash: Hash
  signature: Hex
  paid_before_wei: string
  cumulative_wei: string
  expires_s: number
  generation: number
}

/** Charges looked at in one round. */
const MAX_DUE = 20_000
const NO_HASH: Hash = `0x${'00'.repeat(32)}`

/**
 * The record of settlements. A charge is in one item at most; an item ends once; what was not paid of it becomes one new
 * charge. So the sum of what was billed is always what was earned, is owed, or was given up.
 */
export class SettlementLog {
  readonly #store: ProviderStore
  readonly #cashier: Cashier
  readonly #now: () => number

  constructor({ store, cashier, now }: { store: ProviderStore; cashier: Cashier; now: () => number }) {
    this.#store = store
    this.#cashier = cashier
    this.#now = now
  }

  /** Charges that can be settled, oldest first. */
  due(mode: SettlementMode): DueCharge[] {
    const rows = this.#store.database.all<{
      seq: number
      user: Hex
      fee_wei: string
      closed_ms: number
      request_hash: string
      prompt_tokens: number
      input_price_wei: string
    }>(
      `select seq, user, fee_wei, closed_ms, request_hash, prompt_tokens, input_price_wei
       from charge where state = 'closed' and mode = ? order by seq limit ?`,
      ...[mode, MAX_DUE],
    )
    return rows.map((row) => {
      const feeWei = BigInt(row.fee_wei)
      const inputFeeWei = BigInt(row.prompt_tokens) * BigInt(row.input_price_wei)
      return {
        ...{ seq: row.seq, user: row.user, feeWei, closedMs: row.closed_ms },
        requestHash: row.request_hash === '' ? NO_HASH : (row.request_hash as Hash),
        inputFeeWei: least(inputFeeWei, feeWei),
      }
    })
  }

  /** The largest nonce ever signed for a user. */
  lastNonce(user: Hex): bigint {
    const row = this.#store.database.get<{ nonce: string }>(
      `select nonce from item where user = ? and nonce <> '0' order by id desc limit 1`,
      user,
    )
    return BigInt(row?.nonce ?? '0')
  }

  /** Writes a batch and takes its charges out of what is due. Nothing may be sent before this. */
  prepare(parameters: {
    mode: SettlementMode
    fromBlock: number
    items: readonly { item: SettlementItem; charges: readonly DueCharge[] }[]
  }): SettlementBatch {
    const { mode, fromBlock, items } = parameters
    const { database } = this.#store
    const createdMs = this.#now()
    const tag = toHex(randomBytes(16))
    return database.transaction(() => {
      const { lastInsertRowid } = database.run(
        `insert into batch (mode, state, from_block, created_ms, tag) values (?, 'prepared', ?, ?, ?)`,
        ...[mode, fromBlock, createdMs, tag],
      )
      const id = Number(lastInsertRowid)
      const written = items.map(({ item, charges }) => {
        const row = database.run(
          `insert into item (batch, user, owed_wei, total_wei, nonce, requests_hash, signature, paid_before_wei,
             cumulative_wei, expires_s, generation) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
          ...[id, item.user, String(item.owedWei), String(item.totalWei), String(item.nonce), item.requestsHash],
          ...[item.signature, String(item.paidBeforeWei), String(item.cumulativeWei), item.expiresS, item.generation],
        )
        const itemId = Number(row.lastInsertRowid)
        for (const { seq } of charges) {
          database.run(`update charge set state = 'settling', item = ? where seq = ? and state = 'closed'`, itemId, seq)
        }
        return { ...item, id: itemId }
      })
      return { id, tag, mode, fromBlock, createdMs, items: written }
    })
  }

  /** Batches whose end is not known yet. */
  open(): SettlementBatch[] {
    const { database } = this.#store
    return database
      .all<{ id: number; mode: SettlementMode; from_block: number; created_ms: number; tag: string }>(
        `select id, mode, from_block, created_ms, tag from batch where state = 'prepared' order by id`,
      )
      .map((batch) => ({
        ...{ id: batch.id, mode: batch.mode, fromBlock: batch.from_block, createdMs: batch.created_ms },
        tag: batch.tag === '' ? '0x' : (batch.tag as Hex),
        items: database
          .all<ItemRow>('select * from item where batch = ? and status is null order by id', batch.id)
          .map((row) => ({
            ...{ id: row.id, user: row.user, owedWei: BigInt(row.owed_wei), totalWei: BigInt(row.total_wei) },
            ...{ nonce: BigInt(row.nonce), requestsHash: row.requests_hash, signature: row.signature },
            ...{ paidBeforeWei: BigInt(row.paid_before_wei), cumulativeWei: BigInt(row.cumulative_wei) },
            ...{ expiresS: row.expires_s, generation: row.generation },
          })),
      }))
  }

  /** Ends a batch: what was paid is earned, what was not is due again. */
  finish(parameters: {
    batch: SettlementBatch
    outcomes: readonly ItemOutcome[]
    hash?: Hash | undefined
    gasCostWei?: bigint | undefined
  }): { earnedWei: bigint } {
    const { batch, outcomes, hash, gasCostWei = 0n } = parameters
    const { database } = this.#store
    const cleared: { user: Hex; wei: bigint }[] = []
    let earnedWei = 0n
    database.transaction(() => {
      for (const item of batch.items) {
        const outcome = outcomes.find(({ itemId }) => itemId === item.id)
        const paidWei = outcome === undefined ? 0n : least(outcome.paidWei, item.owedWei)
        const { changes } = database.run(
          'update item set status = ?, paid_wei = ? where id = ? and status is null',
          ...[outcome?.status ?? 'unknown', String(paidWei), item.id],
        )
        // Ended before: nothing is counted twice.
        if (Number(changes) === 0) continue
        if (paidWei === 0n) {
          database.run(`update charge set state = 'closed', item = null where item = ? and state = 'settling'`, item.id)
          continue
        }
        database.run(`update charge set state = 'settled' where item = ? and state = 'settling'`, item.id)
        earnedWei += paidWei
        cleared.push({ user: item.user, wei: paidWei })
        if (paidWei < item.owedWei) this.#carry(item.user, batch.mode, item.owedWei - paidWei)
      }
      database.run(
        `update batch set state = 'done', done_ms = ?, hash = ?, gas_cost_wei = ? where id = ?`,
        ...[this.#now(), hash ?? null, String(gasCostWei), batch.id],
      )
      addTotal(this.#store, 'earned', earnedWei)
      addTotal(this.#store, 'gas', gasCostWei)
    })
    for (const { user, wei } of cleared) this.#cashier.cleared(user, batch.mode, wei)
    return { earnedWei }
  }

  /** Deletes ended charges and batches older than `beforeMs`; bounded. The totals keep their sums. */
  prune(beforeMs: number): void {
    const { database } = this.#store
    database.transaction(() => {
      database.run(
        `delete from charge where seq in
           (select seq from charge where state in ('settled', 'lost') and closed_ms < ? limit 1000)`,
        beforeMs,
      )
      const old = database.all<{ id: number }>(
        `select id from batch where state <> 'prepared' and done_ms < ?
           and id < (select max(id) from batch) - 1000 limit 50`,
        beforeMs,
      )
      for (const { id } of old) {
        database.run('delete from item where batch = ?', id)
        database.run('delete from batch where id = ?', id)
      }
    })
  }

  /** What is left of a charge that was paid in part. It was billed already, so it adds to no total. */
  #carry(user: Hex, mode: PaymentMode, feeWei: bigint): void {
    const nowMs = this.#now()
    this.#store.database.run(
      `insert into charge (id, user, mode, kind, state, input_price_wei, output_price_wei, reserved_wei, fee_wei,
         finish, opened_ms, closed_ms) values (?, ?, ?, 'carry', 'closed', '0', '0', '0', ?, 'carry', ?, ?)`,
      ...[crypto.randomUUID(), user, mode, String(feeWei), nowMs, nowMs],
    )
  }
}
