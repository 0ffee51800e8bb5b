import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { DatabaseError, openDatabase } from '#kit/sqlite.ts'
import { ended, printedSeed, runSource, scratchFolder, wrote } from './crash.ts'

const migrations = [
  'create table file (seq integer primary key, root text not null)',
  'alter table file add column size integer not null default 0; create index file_root on file (root)',
]

const codeOf = (work: () => unknown): string => {
  try {
    work()
  } catch (error) {
    assert.ok(error instanceof DatabaseError, String(error))
    assert.ok(error.fix !== undefined)
    return error.code
  }
  return 'none'
}

describe('SQLite', () => {
  it('is durable by its settings: write-ahead log, full sync, foreign keys', async () => {
    await using folder = await scratchFolder()
    using database = openDatabase({ path: join(folder.path, 'deep/er/a.db'), migrations })
    assert.equal(database.get<{ journal_mode: string }>('pragma journal_mode')?.journal_mode, 'wal')
    assert.equal(database.get<{ synchronous: number }>('pragma synchronous')?.synchronous, 2)
    assert.equal(database.get<{ foreign_keys: number }>('pragma foreign_keys')?.foreign_keys, 1)
  })

  it('keeps data over a reopening and brings an older file to the code’s version', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'a.db')
    const first = openDatabase({ path, migrations: migrations.slice(0, 1) })
    first.run('insert into file (seq, root) values (?, ?)', 7, '0xab')
    first.close()
    first.close()
    using second = openDatabase({ path, migrations })
    assert.deepEqual({ ...second.get('select * from file') }, { seq: 7, root: '0xab', size: 0 })
    assert.equal(second.get<{ user_version: number }>('pragma user_version')?.user_version, 2)
    assert.deepEqual(second.all('select * from file where seq > ?', 7), [])
    assert.equal(second.get('select * from file where seq = 8'), undefined)
  })

  it('refuses a database that newer code has written, and leaves it as it is', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'a.db')
    openDatabase({ path, migrations }).close()
    assert.equal(
      codeOf(() => openDatabase({ path, migrations: migrations.slice(0, 1) })),
      'DATABASE_NEWER',
    )
    openDatabase({ path, migrations }).close()
  })

  // Invariant: a script that fails changes nothing: neither its earlier statements nor the version stay.
  it('undoes a migration that fails', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'a.db')
    const bad = [...migrations, 'create table extra (a); insert into extra values (1); insert into nowhere values (1)']
    assert.equal(
      codeOf(() => openDatabase({ path, migrations: bad })),
      'DATABASE_MIGRATION',
    )
    using database = openDatabase({ path, migrations })
    assert.equal(database.get("select 1 from sqlite_master where name = 'extra'"), undefined)
    assert.equal(database.get<{ user_version: number }>('pragma user_version')?.user_version, 2)
  })

  it('tells a file that is no database, and a path that cannot be one', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'a.db')
    await writeFile(path, 'this is no database'.repeat(500))
    assert.equal(
      codeOf(() => openDatabase({ path, migrations })),
      'DATABASE_CORRUPT',
    )
    assert.equal(
      codeOf(() => openDatabase({ path: folder.path, migrations })),
      'DATABASE_OPEN',
    )
    assert.equal(
      codeOf(() => openDatabase({ path: join(path, 'below.db'), migrations })),
      'DATABASE_OPEN',
    )
  })

  it('says when another process holds the database', async () => {
    await using folder = await scratchFolder()
    const path = join(folder.path, 'a.db')
    openDatabase({ path, migrations: [] }).close()
    const holder = runSource(`
      import { openDatabase } from '#kit/sqlite.ts'
      const database = openDatabase({ path: ${JSON.stringify(path)}, migrations: [] })
      database.exec('begin immediate')
      console.log('held')
      process.stdin.resume()
    `)
    const end = ended(holder)
    await wrote(holder, 'held')
    assert.equal(
      codeOf(() => openDatabase({ path, migrations, busyTimeoutMs: 20 })),
      'DATABASE_BUSY',
    )
    holder.kill('SIGKILL')
    await end
    openDatabase({ path, migrations }).close()
  })
})

describe('SQLite transactions', () => {
  const open = () => openDatabase({ path: ':memory:', migrations: ['create table n (v integer)'] })
  const values = (database: ReturnType<typeof open>): number[] =>
    database.all<{ v: number }>('select v from n order by v').map(({ v }) => v)

  // Invariant: all or nothing, at each level of nesting.
  it('commits on return, rolls back on a throw, and nests', () => {
    using database = open()
    const insert = (v: number): unknown => database.run('insert into n values (?)', v)
    assert.equal(
      database.transaction(() => {
        insert(1)
        return 'done'
      }),
      'done',
    )
    assert.throws(() => {
      database.transaction(() => {
        insert(2)
        throw new Error('no')
      })
    }, /no/)
    database.transaction(() => {
      insert(3)
      assert.throws(() => {
        database.transaction(() => {
          insert(4)
          database.transaction(() => insert(5))
          throw new Error('inner')
        })
      })
      database.transaction(() => insert(6))
    })
    assert.deepEqual(values(database), [1, 3, 6])
  })

  it('refuses work that returns a promise', () => {
    using database = open()
    assert.equal(
      codeOf(() =>
        database.transaction(async () => {
          database.run('insert into n values (1)')
          await Promise.reject(new Error('late'))
        }),
      ),
      'DATABASE_TRANSACTION',
    )
    assert.deepEqual(values(database), [])
  })

  it('goes on after SQLite itself has rolled back', () => {
    using database = openDatabase({
      path: ':memory:',
      migrations: ['create table n (v integer primary key on conflict rollback)'],
    })
    assert.throws(() => {
      database.transaction(() => {
        database.run('insert into n values (1)')
        database.run('insert into n values (1)')
      })
    }, /UNIQUE/)
    database.transaction(() => database.run('insert into n values (2)'))
    assert.deepEqual(values(database), [2])
  })

  it('keeps a bounded number of compiled statements and still runs them all', () => {
    using database = open()
    const first = database.prepare('select 0')
    assert.equal(database.prepare('select 0'), first)
    for (let i = 1; i <= 300; i++) assert.equal(database.get<{ x: number }>(`select ${i} as x`)?.x, i)
    assert.notEqual(database.prepare('select 0'), first)
  })
})

describe('SQLite after a crash', () => {
  // Invariant: killed at any moment, the database opens again, at a whole version, with every transaction either fully
  // there or fully absent: the two tables always hold the same rows, and a row whose commit was reported is there.
  it('holds whole transactions and whole migrations, killed at any moment', async (test) => {
    await using folder = await scratchFolder()
    const { next } = printedSeed((line) => test.diagnostic(line))
    const path = join(folder.path, 'a.db')
    const steps = Array.from(
      { length: 60 },
      (_, i) => `create table step_${i} (v); insert into step_${i} values (${i})`,
    )
    const source = `
      import { openDatabase } from '#kit/sqlite.ts'
      const base = ['create table a (v integer primary key); create table b (v integer primary key)']
      console.log('begun')
      const database = openDatabase({ path: ${JSON.stringify(path)}, migrations: [...base, ...${JSON.stringify(steps)}] })
      for (let v = database.get('select coalesce(max(v), 0) as v from a').v + 1; ; v++) {
        database.transaction(() => {
          database.run('insert into a values (?)', v)
          database.run('insert into b values (?)', v)
        })
        process.stdout.write(v + '\\n')
      }
    `
    for (let round = 0; round < 6; round++) {
      const child = runSource(source)
      const end = ended(child)
      await wrote(child, 'begun')
      setTimeout(() => child.kill('SIGKILL'), next(250))
      const { output, signal } = await end
      assert.equal(signal, 'SIGKILL', output)
      const reported = Number(output.match(/(\d+)\n(?!.*\d+\n)/s)?.[1] ?? 0)

      using database = openDatabase({
        path,
        migrations: ['create table if not exists a (v); create table if not exists b (v)', ...steps],
      })
      assert.deepEqual(database.all('select v from a'), database.all('select v from b'))
      const last = database.get<{ v: number }>('select coalesce(max(v), 0) as v from a')?.v ?? 0
      assert.ok(last >= reported, `commit ${reported} was reported, ${last} is the last there`)
      assert.equal(
        database.get<{ n: number }>("select count(*) as n from sqlite_master where name like 'step_%'")?.n,
        60,
      )
      assert.equal(database.get<{ integrity_check: string }>('pragma integrity_check')?.integrity_check, 'ok')
    }
  })
})
