import { fromHex, type Hash } from '#protocol/hex.ts'
import type { MinerStore } from '../store/miner-store.ts'

/**
 * What became of an answer. `sent`: on its way. `accepted`: credited. `refused`: the contract said no, before anything
 * was paid (simulated) or in a transaction. `late`: its window or context passed. `invalid`: not sent, because a check
 * here failed. `failed`: it could not be sent. `unknown`: it was sent and never seen on the chain.
 */
export const OUTCOMES = ['sent', 'accepted', 'refused', 'late', 'invalid', 'failed', 'unknown'] as const
export type Outcome = (typeof OUTCOMES)[number]

export interface AnswerEntry {
  epoch: number
  contextDigest: Hash
  /** First sector of the seal. */
  position: number
}

export interface AnswerResult {
  outcome: Outcome
  reason?: string | undefined
  block?: number | undefined
  /** Of the block that settled it: by it a reorganisation is noticed. */
  blockHash?: Hash | undefined
  rewardWei?: bigint | undefined
  gasWei?: bigint | undefined
}

/** An answer that was in a block, and is unless its outcome is `unknown`. */
export interface MinedAnswer {
  id: number
  outcome: Outcome
  block: number
  /** Undefined in records of earlier versions. */
  blockHash: Hash | undefined
  hashes: Hash[]
}

export interface AnswerTotals {
  outcomes: Record<Outcome, number>
  /** Why answers were refused, and how often; the most frequent first. */
  refusals: { reason: string; count: number }[]
  earnedWei: bigint
  /** Spent on answers and everything else. */
  gasWei: bigint
  withdrawnWei: bigint
}

const MAX_REASON = 300
const MAX_REFUSALS = 20
/** Entries kept of answers that earned and cost nothing. */
const MAX_FREE_ENTRIES = 100_000

/** The record of answers and money, kept across restarts. */
export class AnswerLog {
  readonly #store: MinerStore
  #totals: AnswerTotals | undefined

  constructor(store: MinerStore) {
    this.#store = store
  }

  add({ epoch, contextDigest, position }: AnswerEntry, result: AnswerResult): number {
    const sql = 'insert into answer (at_ms, epoch, digest, position, outcome) values (?, ?, ?, ?, ?)'
    const { database } = this.#store
    const id = Number(
      database.run(sql, Date.now(), epoch, fromHex(contextDigest), position, result.outcome).lastInsertRowid,
    )
    this.update(id, result)
    if (id % 1_000 === 0) {
      const old = "delete from answer where id < ? and outcome in ('late', 'invalid') and gas_wei = '0'"
      database.run(old, id - MAX_FREE_ENTRIES)
    }
    return id
  }

  update(id: number, { outcome, reason, block, blockHash, rewardWei = 0n, gasWei = 0n }: AnswerResult): void {
    this.#store.database.run(
      'update answer set outcome = ?, reason = ?, block = ?, block_hash = ?, reward_wei = ?, gas_wei = ? where id = ?',
      outcome,
      reason?.slice(0, MAX_REASON) ?? null,
      block ?? null,
      blockHash ?? null,
      String(rewardWei),
      String(gasWei),
      id,
    )
    this.#totals = undefined
  }

  /** Keeps the hash of a version of the transaction before it is sent. */
  addHash(id: number, hash: Hash): void {
    this.#store.database.run("update answer set hashes = trim(hashes || ' ' || ?) where id = ?", hash, id)
  }

  /** Answers that were on their way when the last run ended. */
  unsettled(): { id: number; hashes: Hash[] }[] {
    const sql = "select id, hashes from answer where outcome = 'sent' order by id limit 1000"
    return this.#store.database
      .all<{ id: number; hashes: string }>(sql)
      .map(({ id, hashes }) => ({ id, hashes: splitHashes(hashes) }))
  }

  /** Answers that were mined in this block or later, the newest first. */
  minedSince({ block, limit }: { block: number; limit: number }): MinedAnswer[] {
    const sql = `select id, outcome, block, block_hash as blockHash, hashes from answer
      where block >= ? and hashes <> '' order by block desc, id desc limit ?`
    return this.#store.database
      .all<{ id: number; outcome: Outcome; block: number; blockHash: Hash | null; hashes: string }>(sql, block, limit)
      .map(({ blockHash, hashes, ...row }) => ({
        ...row,
        blockHash: blockHash ?? undefined,
        hashes: splitHashes(hashes),
      }))
  }

  totals(): AnswerTotals {
    this.#totals ??= this.#sum()
    return this.#totals
  }

  /** Something else was paid: the totals are to be summed again. */
  changed(): void {
    this.#totals = undefined
  }

  #sum(): AnswerTotals {
    const { database } = this.#store
    const outcomes = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, 0])) as Record<Outcome, number>
    for (const row of database.all<{ outcome: Outcome; n: number }>(
      'select outcome, count(*) as n from answer group by outcome',
    )) {
      outcomes[row.outcome] = row.n
    }
    const refusals = database.all<{ reason: string; count: number }>(
      // Without the arguments, which differ from one to the next.
      `select substr(reason, 1, instr(reason || '(', '(') - 1) as reason, count(*) as count from answer
       where outcome = 'refused' group by 1 order by 2 desc limit ${MAX_REFUSALS}`,
    )
    // Wei do not fit SQL integers.
    const sum = (sql: string): bigint =>
      database.all<{ wei: string }>(sql).reduce((all, row) => all + BigInt(row.wei), 0n)
    return {
      outcomes,
      refusals,
      earnedWei: sum("select reward_wei as wei from answer where outcome = 'accepted' and reward_wei <> '0'"),
      gasWei: sum("select gas_wei as wei from answer where gas_wei <> '0'") + sum('select gas_wei as wei from payment'),
      withdrawnWei: sum("select amount_wei as wei from payment where kind = 'withdrawal'"),
    }
  }
}

function splitHashes(hashes: string): Hash[] {
  return hashes.split(' ').filter((hash) => hash !== '') as Hash[]
}
