import { join } from 'node:path'
import { type Database, openDatabase } from '#kit/sqlite.ts'
import type { Hash } from '#protocol/hex.ts'

/** A generic commitment that was given for an input. */
export interface GivenCommitment {
  dataRoot: Hash
  epoch: number
  quorumId: number
  expiryEpoch: number
}

const MIGRATIONS = [
  `create table commitments (
    inputHash text primary key, dataRoot text not null, epoch integer not null, quorumId integer not null,
    expiryEpoch integer not null
  ) strict;
  create table inputs (inputHash text primary key, contentHash text not null) strict;`,
]

/** What was put, by keccak-256 of the input: so that the same input put again costs nothing. */
export class PutStore {
  readonly #database: Database

  private constructor(database: Database) {
    this.#database = database
  }

  static open(dataDir: string): PutStore {
    return new PutStore(openDatabase({ path: join(dataDir, 'alt-da.sqlite'), migrations: MIGRATIONS }))
  }

  close(): void {
    this.#database.close()
  }

  commitment(inputHash: Hash): GivenCommitment | undefined {
    const sql = 'select dataRoot, epoch, quorumId, expiryEpoch from commitments where inputHash = ?'
    return this.#database.get<{ [Key in keyof GivenCommitment]: GivenCommitment[Key] }>(sql, inputHash)
  }

  giveCommitment(inputHash: Hash, { dataRoot, epoch, quorumId, expiryEpoch }: GivenCommitment): void {
    const sql = 'insert or replace into commitments values (?, ?, ?, ?, ?)'
    this.#database.run(sql, inputHash, dataRoot, epoch, quorumId, expiryEpoch)
  }

  /** Name of the kept file of an input put in keccak mode. */
  input(inputHash: Hash): Hash | undefined {
    const sql = 'select contentHash from inputs where inputHash = ?'
    return this.#database.get<{ contentHash: Hash }>(sql, inputHash)?.contentHash
  }

  keepInput(inputHash: Hash, contentHash: Hash): void {
    this.#database.run('insert or replace into inputs values (?, ?)', inputHash, contentHash)
  }
}
