import { type Database, openDatabase } from '#kit/sqlite.ts'
import type { TaskProgress } from '#protocol/compute/fine-tuning/task.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import { migrations } from './migrations.ts'

/** Why a task failed. */
export interface TaskFailure {
  code: string
  message: string
  fix?: string | undefined
}

/** Terms that the user signed, as they came. */
export interface StoredTerms {
  maxFee: string
  deliverBy: number
  signature: Hex
}

/** What training left: its figures, not its files. */
export interface TrainingFigures {
  steps: number
  loss: number
  heldOutLoss?: number | undefined
  heldOutLossBefore?: number | undefined
  heldOutExamples?: number | undefined
  learnedTokens: number
  finishedAtS: number
}

/** A task as it is stored. */
export interface TaskRow {
  seq: number
  id: string
  user: Hex
  userKey: Uint8Array
  datasetHash: Hex
  params: string
  modelHash: Hash
  nonce: bigint
  terms: StoredTerms | undefined
  progress: TaskProgress
  createdAtMs: number
  updatedAtMs: number
  feeWei: bigint
  /** Of the dataset, once through. */
  tokens: number
  /** What is paid for. */
  trainedTokens: number
  examples: number
  crashes: number
  step: number
  steps: number
  failure: TaskFailure | undefined
  figures: TrainingFigures | undefined
  secret: Uint8Array | undefined
  artefactRoot: Hash | undefined
  artefactKind: 'storage' | 'keccak256' | undefined
  artefactBytes: number
  lineageRoot: Hash | undefined
  deliverIndex: number | undefined
  deliveredAtMs: number | undefined
  settleTryAtMs: number
  settleError: string | undefined
  /** How it ended on the chain: `paid`, `penalty`, `abandoned`. */
  outcome: string | undefined
  /** Whether the user's terms were opened, so that money is held. */
  held: boolean
}

/** A point of the loss curve. */
export interface CurvePoint {
  step: number
  loss: number
  heldOutLoss?: number | undefined
}

const UNFINISHED = `('Init','SettingUp','SetUp','Training','Trained','Delivering','Delivered','UserAcknowledged')`
const WAITING = `('Init','SettingUp','SetUp')`
/** Lines of a task's log that are kept; later ones are left out, and it says so. */
const MAX_LOG_LINES = 20_000

/** Tasks, datasets, logs and curves of a provider in SQLite: what the queue's jobs go by. */
export class TaskStore {
  readonly #db: Database
  readonly #now: () => number

  constructor({ path, now }: { path: string; now: () => number }) {
    this.#db = openDatabase({ path, migrations })
    this.#now = now
  }

  close(): void {
    this.#db.close()
  }

  /** Adds a task unless the user has an unfinished one, or as many wait as may. */
  create(
    task: Pick<TaskRow, 'id' | 'user' | 'userKey' | 'datasetHash' | 'params' | 'modelHash' | 'nonce' | 'terms'>,
    { maxWaiting }: { maxWaiting: number },
  ): 'created' | 'exists' | 'unfinished' | 'full' {
    const now = this.#now()
    return this.#db.transaction(() => {
      if (this.task(task.id) !== undefined) return 'exists'
      const mine = `select 1 from task where user = ? and progress in ${UNFINISHED}`
      if (this.#db.get(mine, task.user) !== undefined) return 'unfinished'
      if (this.waiting() >= maxWaiting) return 'full'
      const { id, user, userKey, datasetHash, params, modelHash, nonce, terms } = task
      this.#db.run(
        `insert into task (id, user, user_key, dataset_hash, params, model_hash, nonce, terms, progress, created_at, updated_at)
         values (?, ?, ?, ?, ?, ?, ?, ?, 'Init', ?, ?)`,
        ...[id, user, userKey, datasetHash, params, modelHash, String(nonce)],
        ...[terms === undefined ? null : JSON.stringify(terms), now, now],
      )
      return 'created'
    })
  }

  task(id: string): TaskRow | undefined {
    const row = this.#db.get<StoredTask>('select * from task where id = ?', id)
    return row === undefined ? undefined : rowOf(row)
  }

  /** A user's tasks, newest first. */
  tasksOf(user: Hex, { limit = 100 } = {}): TaskRow[] {
    return this.#db
      .all<StoredTask>('select * from task where user = ? order by seq desc limit ?', user, limit)
      .map(rowOf)
  }

  /** Tasks in one of these states, oldest first. */
  inProgress(...states: readonly TaskProgress[]): TaskRow[] {
    const marks = states.map(() => '?').join(',')
    return this.#db
      .all<StoredTask>(`select * from task where progress in (${marks}) order by seq limit 10000`, ...states)
      .map(rowOf)
  }

  /** Failed tasks whose terms are still open. */
  heldAfterFailure(): TaskRow[] {
    return this.#db.all<StoredTask>(`select * from task where progress = 'Failed' and held = 1 limit 1000`).map(rowOf)
  }

  /** Tasks that have not begun to train. */
  waiting(): number {
    return Number(this.#db.get<{ n: number }>(`select count(*) as n from task where progress in ${WAITING}`)?.n ?? 0)
  }

  running(): number {
    return Number(this.#db.get<{ n: number }>(`select count(*) as n from task where progress = 'Training'`)?.n ?? 0)
  }

  /** Tasks before this one that wait or train, and the tokens they have left. */
  ahead({ seq }: Pick<TaskRow, 'seq'>): TaskRow[] {
    return this.#db
      .all<StoredTask>(
        `select * from task where seq < ? and progress in ('Init','SettingUp','SetUp','Training') order by seq limit 10000`,
        seq,
      )
      .map(rowOf)
  }

  /** Moves a task on, if it is in one of the states `from`: false where it was cancelled meanwhile, say. */
  advance(id: string, from: readonly TaskProgress[], to: TaskProgress): boolean {
    const marks = from.map(() => '?').join(',')
    const sql = `update task set progress = ?, updated_at = ? where id = ? and progress in (${marks})`
    return Number(this.#db.run(sql, to, this.#now(), id, ...from).changes) === 1
  }

  /** Ends a task. False when it was over, or delivered, already. */
  fail(id: string, failure: TaskFailure): boolean {
    const { changes } = this.#db.run(
      `update task set progress = 'Failed', failure = ?, updated_at = ?, secret = null where id = ?
       and progress in ('Init','SettingUp','SetUp','Training','Trained','Delivering')`,
      JSON.stringify(failure),
      this.#now(),
      id,
    )
    if (Number(changes) === 1) this.addLine(id, `failed: ${failure.code}: ${failure.message}`)
    return Number(changes) === 1
  }

  /** Stores facts of a task. */
  update(id: string, facts: Partial<TaskFacts>): void {
    for (const [name, value] of Object.entries(facts)) {
      const column = COLUMNS[name as keyof TaskFacts]
      this.#db.run(`update task set ${column} = ?, updated_at = ? where id = ?`, asValue(value), this.#now(), id)
    }
  }

  addLine(id: string, text: string): void {
    const lines = Number(this.#db.get<{ n: number }>('select count(*) as n from log_line where task = ?', id)?.n ?? 0)
    if (lines > MAX_LOG_LINES) return
    const last = lines === MAX_LOG_LINES ? 'the log is full; later lines are left out' : text.slice(0, 2_000)
    this.#db.run('insert into log_line (task, at, text) values (?, ?, ?)', id, this.#now(), last)
  }

  /** The log as text: a line each, with its time. */
  logText(id: string): string {
    return this.#db
      .all<{ at: number; text: string }>('select at, text from log_line where task = ? order by seq', id)
      .map(({ at, text }) => `${new Date(Number(at)).toISOString()} ${text}\n`)
      .join('')
  }

  addPoint(id: string, { step, loss, heldOutLoss }: CurvePoint): void {
    this.#db.run('insert or replace into curve values (?, ?, ?, ?)', id, step, loss, heldOutLoss ?? null)
  }

  /** The loss curve after a step. */
  curve(id: string, { after = 0 } = {}): CurvePoint[] {
    return this.#db
      .all<{ step: number; loss: number; held_out_loss: number | null }>(
        'select step, loss, held_out_loss from curve where task = ? and step > ? order by step limit 20000',
        id,
        after,
      )
      .map(({ step, loss, held_out_loss: held }) => ({
        ...{ step: Number(step), loss },
        ...(held === null ? {} : { heldOutLoss: held }),
      }))
  }

  addCheckpoint(id: string, { step, root }: { step: number; root: Hash }): void {
    this.#db.run('insert or replace into checkpoint values (?, ?, ?)', id, step, root)
  }

  checkpoints(id: string): { step: number; root: Hash }[] {
    return this.#db
      .all<{ step: number; root: Hash }>(
        'select step, root from checkpoint where task = ? order by step limit 1000',
        id,
      )
      .map(({ step, root }) => ({ step: Number(step), root }))
  }

  /** A figure that outlives restarts: the trainer's speed. */
  figure(name: string): number | undefined {
    return this.#db.get<{ value: number }>('select value from figure where name = ?', name)?.value
  }

  setFigure(name: string, value: number): void {
    this.#db.run('insert or replace into figure values (?, ?)', name, value)
  }

  dataset(user: Hex, hash: string): { path: string; sizeBytes: number } | undefined {
    const row = this.#db.get<{ path: string; size_bytes: number }>(
      'select path, size_bytes from dataset where user = ? and hash = ?',
      user,
      hash.toLowerCase(),
    )
    return row === undefined ? undefined : { path: row.path, sizeBytes: Number(row.size_bytes) }
  }

  /** Records a sent dataset; gives back the paths of those that are no longer kept. */
  addDataset(
    dataset: { user: Hex; hash: Hash; path: string; sizeBytes: number },
    { keep }: { keep: number },
  ): string[] {
    const { user, hash, path, sizeBytes } = dataset
    return this.#db.transaction(() => {
      this.#db.run('insert or replace into dataset values (?, ?, ?, ?, ?)', user, hash, path, sizeBytes, this.#now())
      const old = this.#db.all<{ hash: string; path: string }>(
        `select hash, path from dataset where user = ? and hash not in
         (select dataset_hash from task where user = ? and progress in ${UNFINISHED})
         order by created_at desc, hash limit -1 offset ?`,
        ...[user, user, keep],
      )
      for (const { hash: gone } of old) this.#db.run('delete from dataset where user = ? and hash = ?', user, gone)
      return old.filter((each) => each.path !== path).map((each) => each.path)
    })
  }
}

/** What of a task is set by its jobs. */
type TaskFacts = Pick<
  TaskRow,
  | (
      | 'feeWei'
      | 'tokens'
      | 'trainedTokens'
      | 'examples'
      | 'crashes'
      | 'step'
      | 'steps'
      | 'figures'
      | 'secret'
      | 'artefactRoot'
    )
  | ('artefactKind' | 'artefactBytes' | 'lineageRoot' | 'deliverIndex' | 'deliveredAtMs' | 'settleTryAtMs')
  | ('settleError' | 'outcome' | 'held')
>

const COLUMNS: Readonly<Record<keyof TaskFacts, string>> = {
  ...{
    feeWei: 'fee',
    tokens: 'tokens',
    trainedTokens: 'trained_tokens',
    examples: 'examples',
    crashes: 'crashes',
    step: 'step',
    steps: 'steps',
  },
  ...{ figures: 'result', secret: 'secret', artefactRoot: 'artefact_root', artefactKind: 'artefact_kind' },
  ...{ artefactBytes: 'artefact_bytes', lineageRoot: 'lineage_root', deliverIndex: 'deliver_index' },
  ...{ deliveredAtMs: 'delivered_at', settleTryAtMs: 'settle_try_at', settleError: 'settle_error' },
  ...{ outcome: 'outcome', held: 'held' },
}

interface StoredTask {
  seq: number
  id: string
  user: Hex
  user_key: Uint8Array
  dataset_hash: Hex
  params: string
  model_hash: Hash
  nonce: string
  terms: string | null
  progress: TaskProgress
  created_at: number
  updated_at: number
  fee: string
  tokens: number
  trained_tokens: number
  examples: number
  crashes: number
  step: number
  steps: number
  failure: string | null
  result: string | null
  secret: Uint8Array | null
  artefact_root: Hash | null
  artefact_kind: 'storage' | 'keccak256' | null
  artefact_bytes: number
  lineage_root: Hash | null
  deliver_index: number | null
  delivered_at: number | null
  settle_try_at: number
  settle_error: string | null
  outcome: string | null
  held: number
}

function rowOf(row: StoredTask): TaskRow {
  return {
    ...{ seq: Number(row.seq), id: row.id, user: row.user, userKey: row.user_key, datasetHash: row.dataset_hash },
    ...{ params: row.params, modelHash: row.model_hash, nonce: BigInt(row.nonce), progress: row.progress },
    terms: row.terms === null ? undefined : (JSON.parse(row.terms) as StoredTerms),
    ...{ createdAtMs: Number(row.created_at), updatedAtMs: Number(row.updated_at), feeWei: BigInt(row.fee) },
    ...{
      tokens: Number(row.tokens),
      trainedTokens: Number(row.trained_tokens),
      examples: Number(row.examples),
      crashes: Number(row.crashes),
    },
    ...{ step: Number(row.step), steps: Number(row.steps) },
    failure: row.failure === null ? undefined : (JSON.parse(row.failure) as TaskFailure),
    figures: row.result === null ? undefined : (JSON.parse(row.result) as TrainingFigures),
    ...{ secret: row.secret ?? undefined, artefactRoot: row.artefact_root ?? undefined },
    ...{ artefactKind: row.artefact_kind ?? undefined, artefactBytes: Number(row.artefact_bytes) },
    ...{ lineageRoot: row.lineage_root ?? undefined, deliverIndex: row.deliver_index ?? undefined },
    ...{ deliveredAtMs: row.delivered_at ?? undefined, settleTryAtMs: Number(row.settle_try_at) },
    ...{ settleError: row.settle_error ?? undefined, outcome: row.outcome ?? undefined, held: row.held === 1 },
  }
}

function asValue(value: unknown): string | number | Uint8Array | null {
  if (value === undefined) return null
  if (typeof value === 'bigint') return String(value)
  if (typeof value === 'boolean') return value ? 1 : 0
  if (typeof value === 'string' || typeof value === 'number' || value instanceof Uint8Array) return value
  return JSON.stringify(value)
}
