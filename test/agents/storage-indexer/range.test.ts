import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { attachment, mediaType } from '#storage/indexer/gateway/file-headers.ts'
import { notModified, parseRange, rangeApplies } from '#storage/indexer/gateway/range.ts'

test('a range that is granted lies inside the file, is not empty, and is the one asked for', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 40 }), fc.nat(2 ** 41), fc.nat(2 ** 41), (sizeBytes, a, b) => {
      const answer = parseRange({ header: `bytes=${a}-${b}`, sizeBytes })
      if (b < a) return assert.equal(answer.kind, 'whole')
      if (a >= sizeBytes) return assert.equal(answer.kind, 'unsatisfiable')
      assert.deepEqual(answer, { kind: 'part', start: a, end: Math.min(b + 1, sizeBytes) })
    }),
  )
})

test('a suffix range is the end of the file, whole when it is longer than the file', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 40 }), fc.integer({ min: 1, max: 2 ** 41 }), (sizeBytes, n) => {
      const answer = parseRange({ header: `bytes=-${n}`, sizeBytes })
      assert.deepEqual(answer, { kind: 'part', start: Math.max(0, sizeBytes - n), end: sizeBytes })
    }),
  )
})

test('whatever a client writes, the answer is whole, unsatisfiable, or a range inside the file', () => {
  const header = fc.oneof(
    fc.string(),
    fc.string().map((text) => `bytes=${text}`),
    fc.stringMatching(/^bytes=[0-9,-]*$/),
  )
  fc.assert(
    fc.property(header, fc.integer({ min: 0, max: 1_000 }), (text, sizeBytes) => {
      const answer = parseRange({ header: text, sizeBytes })
      if (answer.kind === 'part') assert.ok(0 <= answer.start && answer.start < answer.end && answer.end <= sizeBytes)
    }),
  )
})

test('malformed headers, other units and several ranges are ignored; an empty suffix cannot be satisfied', () => {
  const sizeBytes = 100
  for (const header of [
    undefined,
    '',
    'bytes',
    'bytes=',
    'bytes=-',
    'bytes=5-2',
    'items=0-1',
    'bytes=0-1,3-4',
    'bytes=a-b',
  ]) {
    assert.deepEqual(parseRange({ header, sizeBytes }), { kind: 'whole' }, String(header))
  }
  assert.equal(parseRange({ header: 'bytes=-0', sizeBytes }).kind, 'unsatisfiable')
  assert.equal(parseRange({ header: 'bytes=0-', sizeBytes: 0 }).kind, 'unsatisfiable')
  assert.deepEqual(parseRange({ header: 'BYTES = 99-', sizeBytes }), { kind: 'part', start: 99, end: 100 })
})

test('tags decide whether content is sent again and whether a range still applies', () => {
  const etag = '"0xab"'
  assert.equal(notModified({ ifNoneMatch: undefined, etag }), false)
  assert.equal(notModified({ ifNoneMatch: '*', etag }), true)
  assert.equal(notModified({ ifNoneMatch: '"x", W/"0xab"', etag }), true)
  assert.equal(notModified({ ifNoneMatch: '"x"', etag }), false)
  assert.equal(rangeApplies({ ifRange: undefined, etag }), true)
  assert.equal(rangeApplies({ ifRange: '"0xab"', etag }), true)
  assert.equal(rangeApplies({ ifRange: 'W/"0xab"', etag }), false)
  assert.equal(rangeApplies({ ifRange: 'Sat, 21 Nov 2026 00:00:00 GMT', etag }), false)
})

test('whatever a file is called, its header is one line of ASCII and gives the name back', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (name) => {
      const header = attachment(name)
      assert.match(header, /^attachment; filename="[\x20-\x7e]+"(; filename\*=UTF-8''[A-Za-z0-9!#$&+.^_`|~%-]+)?$/)
      assert.doesNotMatch(header.slice('attachment; filename="'.length).replace(/"($|; filename\*=.*$)/, ''), /["\\]/)
    }),
  )
  assert.equal(attachment('übung 1.txt'), `attachment; filename="_bung 1.txt"; filename*=UTF-8''%C3%BCbung%201.txt`)
  assert.equal(attachment('a"b\r\nX: y'), `attachment; filename="a_b__X: y"; filename*=UTF-8''a%22b__X%3A%20y`)
  assert.equal(attachment('../../etc/passwd'), 'attachment; filename=".._.._etc_passwd"')
  assert.equal(attachment('invoice\u202efdp.exe'), 'attachment; filename="invoice_fdp.exe"')
  assert.equal(attachment(''), 'attachment; filename="file"')
})

test('the media type follows the ending of the name', () => {
  assert.equal(mediaType('a.html'), 'text/html; charset=utf-8')
  assert.equal(mediaType('photo.JPG'), 'image/jpeg')
  assert.equal(mediaType('model.safetensors'), 'application/octet-stream')
  assert.equal(mediaType('0x1234'), 'application/octet-stream')
})
