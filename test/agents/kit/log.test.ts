import assert from 'node:assert/strict'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { createLog, describeError } from '#kit/log.ts'
import { isSecretName, redact, redactUrls } from '#kit/redact.ts'
import { WeightlessError } from '#protocol/error.ts'
import { ended, runSource, scratchFolder } from './crash.ts'

function capture() {
  const lines: string[] = []
  const write = (line: string): void => {
    lines.push(line)
  }
  return { stream: { write }, lines, last: () => JSON.parse(lines.at(-1) ?? '{}') as Record<string, unknown> }
}

describe('the log', () => {
  it('writes JSON lines with time, level, name, fields and message', () => {
    const { stream, lines, last } = capture()
    const log = createLog({ name: 'node', level: 'info', stream })
    log.debug('not this')
    log.info({ txSeq: 7, feeWei: 10n ** 30n, data: new Uint8Array(300) }, 'stored %d of %s', 3, 'file')
    assert.equal(lines.length, 1)
    const { time, pid, ...rest } = last()
    assert.match(String(time), /^\d{4}-\d\d-\d\dT.*Z$/)
    assert.equal(pid, process.pid)
    const expected = {
      level: 'info',
      name: 'node',
      txSeq: 7,
      feeWei: `1${'0'.repeat(30)}`,
      data: '[300 bytes]',
      msg: 'stored 3 of file',
    }
    assert.deepEqual(rest, expected)
  })

  it('writes to a file, making its folder, beside a human-readable stream', async () => {
    await using folder = await scratchFolder()
    const file = join(folder.path, 'logs/node.log')
    const { stream, lines } = capture()
    const log = createLog({ name: 'node', file, stream, pretty: true })
    log.warn({ lagBlocks: 5 }, 'behind')
    const written = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>
    assert.deepEqual([written.level, written.lagBlocks, written.msg], ['warn', 5, 'behind'])
    assert.equal((await stat(file)).mode & 0o007, 0, 'strangers cannot read it')
    assert.match(lines.join(''), /WARN \(node\): behind \{"lagBlocks":5\}/)
    await writeFile(join(folder.path, 'plain'), '')
    assert.throws(() => createLog({ name: 'x', file: join(folder.path, 'plain/x.log') }), { code: 'LOG_FILE' })
  })

  // Invariant: no value under a secret's name reaches a line, at any depth, in fields, children, errors or causes.
  it('censors secrets wherever they stand', () => {
    const { stream, lines } = capture()
    const log = createLog({ name: 'node', level: 'trace', stream })
    const secret = 'hunter2hunter2'
    const names = [
      'privateKey',
      'private_key',
      'PRIVATE_KEY',
      'password',
      'passphrase',
      'mnemonic',
      'minerKey',
      'apiKey',
      'authorization',
      'sessionToken',
      'walletPassword',
      'WEIGHTLESS_PRIVATE_KEY',
    ]
    for (const name of names) {
      log.info({ [name]: secret }, 'field')
      log.info({ a: { b: [{ [name]: { c: secret } }] } }, 'deep')
      log.child({ [name]: secret }).info('child')
      const cause = new WeightlessError({ code: 'X', message: 'cause', details: { [name]: secret } })
      log.error({ err: new Error('outer', { cause }) }, 'error')
      log.error(new WeightlessError({ code: 'X', message: 'bare', details: { [name]: secret } }))
    }
    log.info({ url: `https://user:${secret}@rpc.example/x?apikey=${secret}` }, `see https://a:${secret}@b/`)
    log.error({ err: new Error(`failed: https://rpc.example/v3/${secret}0123456789abcdef`) })
    assert.equal(lines.length, names.length * 5 + 2)
    assert.deepEqual(
      lines.filter((line) => line.includes('hunter2') || !line.includes('[redacted]')),
      [],
    )
  })

  it('keeps names that only sound like secrets', () => {
    for (const name of [
      'key',
      'keys',
      'token',
      'tokens',
      'publicKey',
      'tokenCount',
      'passed',
      'keyCount',
      'root',
      'secretary',
    ]) {
      assert.equal(isSecretName(name), false, name)
    }
    const text = `https://node.example/v1/files/0x${'a1'.repeat(32)}?index=5`
    assert.equal(redactUrls(text), text)
  })

  // Invariant: redaction ends on any value, cycles included, and never changes what has nothing to hide.
  it('ends on any value', () => {
    const loop: Record<string, unknown> = { a: 1 }
    loop.self = loop
    assert.ok(JSON.stringify(redact(loop)).length < 1_000)
    assert.equal((redact(Array.from({ length: 1_000 }, (_, i) => i)) as unknown[]).length, 257)
    fc.assert(fc.property(fc.jsonValue({ maxDepth: 3 }), (value) => void JSON.stringify(redact(value))))
    assert.deepEqual(redact({ a: [1, 'x', null, true], b: { c: 2.5 } }), { a: [1, 'x', null, true], b: { c: 2.5 } })
    const nested = describeError(new Error('a', { cause: new Error('b', { cause: 'c' }) })) as {
      cause: { cause: unknown }
    }
    assert.equal(nested.cause.cause, 'c')
  })

  it('has written its last line when the process ends right after it', async () => {
    const { output } = await ended(
      runSource(`
        import { createLog } from '#kit/log.ts'
        createLog({ name: 'x', pretty: true }).info('first')
        createLog({ name: 'x', pretty: false }).fatal('last words')
        process.exit(3)
      `),
    )
    assert.match(output, /first/)
    assert.match(output, /last words/)
  })
})
