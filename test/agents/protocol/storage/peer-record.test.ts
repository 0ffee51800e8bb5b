import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  nodeIdOf,
  PEER_RECORD_LIFETIME_S,
  PeerRecordError,
  type SignedPeerRecord,
  signPeerRecord,
  verifyPeerRecord,
} from '#protocol/storage/peer-record.ts'

const { privateKey } = generateKeyPairSync('ed25519')
const identity = { chainId: 31337, flow: `0x${'ab'.repeat(20)}` as const }
const issuedAtS = 1_800_000_000
const base = { ...identity, url: 'http://node.example:5678', shard: { shardId: 1, numShard: 4 }, issuedAtS }

function refusal(record: SignedPeerRecord, nowS = issuedAtS): string | undefined {
  try {
    verifyPeerRecord({ record, identity, nowS })
    return undefined
  } catch (error) {
    assert.ok(error instanceof PeerRecordError)
    return error.code
  }
}

// A record is accepted as its node signed it, and with any field changed it is not: nobody can move a node elsewhere.
test('accepts a record as signed, and refuses it with any field changed', () => {
  const record = signPeerRecord({ record: base, privateKey })
  assert.equal(record.nodeId, nodeIdOf(privateKey))
  assert.equal(refusal(record), undefined)
  const other = generateKeyPairSync('ed25519').privateKey
  const changed: Partial<SignedPeerRecord>[] = [
    { url: 'http://evil.example:5678' },
    { url: `${base.url}/` },
    { shard: { shardId: 0, numShard: 4 } },
    { shard: { shardId: 1, numShard: 8 } },
    { issuedAtS: issuedAtS + 1 },
    { nodeId: nodeIdOf(other) },
    { signature: `0x${'00'.repeat(64)}` },
    { signature: '0x12' },
    { signature: signPeerRecord({ record: base, privateKey: other }).signature },
  ]
  for (const change of changed) {
    assert.equal(refusal({ ...record, ...change }), 'PEER_RECORD_SIGNATURE', JSON.stringify(change))
  }
})

test('refuses records of other networks, old ones, ones from the future, and unusable addresses', () => {
  const signed = (change: Partial<typeof base>) => signPeerRecord({ record: { ...base, ...change }, privateKey })
  assert.equal(refusal(signed({ chainId: 1 })), 'PEER_RECORD_FOREIGN')
  assert.equal(refusal(signed({ flow: `0x${'ac'.repeat(20)}` })), 'PEER_RECORD_FOREIGN')
  assert.equal(refusal(signed({}), issuedAtS + PEER_RECORD_LIFETIME_S + 1), 'PEER_RECORD_STALE')
  assert.equal(refusal(signed({}), issuedAtS - 301), 'PEER_RECORD_STALE')
  for (const url of [
    'ftp://node.example',
    'node.example',
    'http://user:pass@node.example',
    `http://${'a'.repeat(600)}`,
  ]) {
    assert.equal(refusal(signed({ url })), 'PEER_RECORD_INVALID', url)
  }
  assert.equal(refusal(signed({ shard: { shardId: 4, numShard: 4 } })), 'PEER_RECORD_INVALID')
})

test('refuses any signature that was not made for the record', () => {
  const record = signPeerRecord({ record: base, privateKey })
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 64, maxLength: 64 }), (bytes) => {
      const signature = `0x${Buffer.from(bytes).toString('hex')}` as const
      return signature === record.signature || refusal({ ...record, signature }) === 'PEER_RECORD_SIGNATURE'
    }),
  )
})
