import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Database, openDatabase } from '#kit/sqlite.ts'
import { fromHex, type Hash, toHex } from '#protocol/hex.ts'
import { formatShard, type ShardConfig } from '#protocol/storage/shard.ts'
import { MinerError } from '../error.ts'
import { ChunkMap } from './chunk-map.ts'
import { segmentOf } from './layout.ts'

/** A recorded epoch of the flow: sectors `[start, end)` are sealed with `digest`. */
export interface RecordedEpoch {
  index: number
  start: number
  end: number
  digest: Hash
}

/** Seals `[from, to)` of a chunk and the context digest they are sealed with. */
export interface SealRun {
  from: number
  to: number
  digest: Hash
}

/** A chunk whose sealed bytes are durable. */
export interface SealedChunk {
  chunk: number
  held: bigint
}

export interface OpenMinerStoreParameters {
  dataDir: string
  identity: { chainId: number; flow: string; mine: string }
  shard: ShardConfig
}

const MIGRATIONS = [
  `create table meta (key text primary key, value text not null) strict, without rowid;
   create table epoch (
     idx integer primary key, start_sector integer not null, end_sector integer not null, digest blob not null
   ) strict;
   create index epoch_end on epoch (end_sector);
   -- Which seals of a chunk are sealed (64 bits), and with which epochs.
   create table sealed (
     chunk integer primary key, held blob not null, first_epoch integer not null, last_epoch integer not null
   ) strict;
   create index sealed_epoch on sealed (last_epoch);
   create table answer (
     id integer primary key, at_ms integer not null, epoch integer not null, digest blob not null,
     position integer not null, outcome text not null, reason text, hashes text not null default '',
     block integer, reward_wei text not null default '0', gas_wei text not null default '0'
   ) strict;
   create index answer_outcome on answer (outcome);
   create table payment (
     id integer primary key, at_ms integer not null, kind text not null, tx text not null,
     amount_wei text not null default '0', gas_wei text not null default '0'
   ) strict;`,
  `alter table answer add column block_hash text;
   create index answer_block on answer (block) where block is not null;`,
]

const SECTORS_PER_SEAL = 16
const SECTORS_PER_CHUNK = 1_024

/**
 * What a miner keeps besides the sealed bytes: the recorded epochs as it knows them, which chunks are sealed with which
 * of them, what was answered and earned. A chunk is entered only after its bytes are durable, so that after a crash
 * everything entered is there.
 */
export class MinerStore {
  readonly database: Database
  readonly shard: ShardConfig
  readonly map = new ChunkMap()
  /** Folder of the extent files. */
  readonly sealedDir: string
  /** Rises whenever sealed chunks were taken back: what was sealed before and is not entered yet is void. */
  generation = 0

  constructor({ dataDir, identity, shard }: OpenMinerStoreParameters) {
    this.shard = shard
    this.sealedDir = join(dataDir, 'sealed')
    mkdirSync(this.sealedDir, { recursive: true })
    this.database = openDatabase({ path: join(dataDir, 'miner.db'), migrations: MIGRATIONS })
    try {
      this.#checkIdentity({ dataDir, wanted: `${identity.chainId} ${identity.flow} ${identity.mine}` })
      const rows = this.database.prepare('select chunk, held from sealed').iterate()
      for (const { chunk, held } of rows) {
        if (typeof chunk === 'number' && held instanceof Uint8Array) this.map.set(chunk, readBits(held))
      }
    } catch (error) {
      this.database.close()
      throw error
    }
  }

  meta(key: string): string | undefined {
    return this.database.get<{ value: string }>('select value from meta where key = ?', key)?.value
  }

  setMeta(key: string, value: string): void {
    this.database.run('insert or replace into meta (key, value) values (?, ?)', key, value)
  }

  /** The last recorded epoch known. */
  lastEpoch(): RecordedEpoch | undefined {
    const row = this.database.get<EpochRow>('select * from epoch order by idx desc limit 1')
    return row && readEpoch(row)
  }

  epochAt(index: number): RecordedEpoch | undefined {
    const row = this.database.get<EpochRow>('select * from epoch where idx = ?', index)
    return row && readEpoch(row)
  }

  addEpochs(epochs: readonly RecordedEpoch[]): void {
    this.database.transaction(() => {
      for (const { index, start, end, digest } of epochs) {
        const sql = 'insert or replace into epoch (idx, start_sector, end_sector, digest) values (?, ?, ?, ?)'
        this.database.run(sql, index, start, end, fromHex(digest, { byteLength: 32 }))
      }
    })
  }

  /** Forgets recorded epochs from `index` on, and every chunk sealed with one of them. */
  truncateEpochs(index: number): { chunks: number } {
    const gone = this.database.transaction(() => {
      const rows = this.database.all<{ chunk: number }>('select chunk from sealed where last_epoch >= ?', index)
      this.database.run('delete from sealed where last_epoch >= ?', index)
      this.database.run('delete from epoch where idx >= ?', index)
      return rows
    })
    this.generation += 1
    for (const { chunk } of gone) this.map.set(chunk, 0n)
    return { chunks: gone.length }
  }

  /** The context digests a chunk is to be sealed with; undefined while an epoch it belongs to is not recorded. */
  sealRuns(chunk: number): SealRun[] | undefined {
    const start = segmentOf(chunk, this.shard) * SECTORS_PER_CHUNK
    const sql = `select * from epoch where end_sector > ? and start_sector < ? and end_sector > start_sector order by idx`
    const epochs = this.database.all<EpochRow>(sql, start, start + SECTORS_PER_CHUNK).map(readEpoch)
    const runs: SealRun[] = []
    let seal = 0
    for (const { end, digest } of epochs) {
      // A seal goes by the epoch of its last sector.
      const to = Math.min(Math.floor((end - start) / SECTORS_PER_SEAL), SECTORS_PER_CHUNK / SECTORS_PER_SEAL)
      if (to > seal) runs.push({ from: seal, to, digest })
      seal = Math.max(seal, to)
    }
    return seal === SECTORS_PER_CHUNK / SECTORS_PER_SEAL ? runs : undefined
  }

  /** The context digest of the epoch in which a sector came, if it is recorded. */
  digestAt(sector: number): Hash | undefined {
    const sql = 'select * from epoch where end_sector > ? order by end_sector, idx limit 1'
    const row = this.database.get<EpochRow>(sql, sector)
    return row && row.start_sector <= sector ? readEpoch(row).digest : undefined
  }

  /** Enters chunks whose bytes are durable. */
  markSealed(chunks: readonly SealedChunk[]): void {
    this.database.transaction(() => {
      for (const { chunk, held } of chunks) {
        const start = segmentOf(chunk, this.shard) * SECTORS_PER_CHUNK
        const [first, last] = [this.#epochIndexAt(start), this.#epochIndexAt(start + SECTORS_PER_CHUNK - 1)]
        const sql = 'insert or replace into sealed (chunk, held, first_epoch, last_epoch) values (?, ?, ?, ?)'
        this.database.run(sql, chunk, writeBits(held), first, last)
      }
    })
    for (const { chunk, held } of chunks) this.map.set(chunk, held)
  }

  /** Forgets a chunk whose bytes turned out to be wrong. */
  unmark(chunk: number): void {
    this.database.run('delete from sealed where chunk = ?', chunk)
    this.map.set(chunk, 0n)
    this.generation += 1
  }

  close(): void {
    this.database.close()
  }

  #epochIndexAt(sector: number): number {
    const sql = 'select idx from epoch where end_sector > ? order by end_sector, idx limit 1'
    const row = this.database.get<{ idx: number }>(sql, sector)
    if (row) return row.idx
    throw new MinerError({ code: 'MINER_SEALED', message: `no recorded epoch holds sector ${sector}` })
  }

  #checkIdentity({ dataDir, wanted }: { dataDir: string; wanted: string }): void {
    const identity = `${wanted.toLowerCase()} ${formatShard(this.shard)}`
    const kept = this.meta('identity')
    if (kept === undefined) this.setMeta('identity', identity)
    else if (kept !== identity) {
      throw new MinerError({
        code: 'MINER_IDENTITY',
        message: `${dataDir} is the sealed copy of another miner (chain, flow, mine, shard: ${kept}; configured ${identity})`,
        fix: 'give another data.dir, or correct the chain, the addresses and the shard',
        details: { kept, configured: identity },
      })
    }
  }
}

interface EpochRow {
  idx: number
  start_sector: number
  end_sector: number
  digest: Uint8Array
}

function readEpoch({ idx, start_sector, end_sector, digest }: EpochRow): RecordedEpoch {
  return { index: idx, start: start_sector, end: end_sector, digest: toHex(digest) }
}

function writeBits(held: bigint): Uint8Array {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, held)
  return bytes
}

function readBits(bytes: Uint8Array): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigUint64(0)
}
