import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type Network, Signers, seededBytes, startNetwork } from './network.ts'
import { current, legacy, silenceConsole } from './sdk.ts'

const UNKNOWN = `0x${'5a'.repeat(32)}`

/** Every method of the packages' `Indexer`, with nothing but its defaults, against shards behind a front. */
describe('the indexer of the packages', () => {
  let network: Network
  let signers: Signers
  let speak: () => void

  before(async () => {
    speak = silenceConsole()
    network = await startNetwork({
      groups: [
        ['0/2', '1/2'],
        ['0/1', '0/1'],
      ],
    })
    signers = new Signers(network.rpcUrl)
  })

  after(async () => {
    signers.close()
    await network.close()
    speak()
  })

  for (const sdk of [current, legacy]) {
    const name = sdk === current ? '1.2.8' : '0.3.3'

    test(`${name}: node lists`, async () => {
      const { indexerUrl, frontUrl, nodes } = network.group(0)
      const indexer = new sdk.Indexer(indexerUrl)
      const { trusted, discovered } = await indexer.getShardedNodes()
      assert.deepEqual(
        trusted.map(({ url }) => url),
        [frontUrl, ...nodes],
      )
      assert.deepEqual(
        trusted.map(({ config }) => `${config.shardId}/${config.numShard}`),
        ['0/1', '0/2', '1/2'],
      )
      for (const { latency, since } of trusted) assert.ok(latency > 0 && since > 1_700_000_000)
      assert.deepEqual(discovered, [])
      assert.deepEqual(await indexer.getNodeLocations(), {})
      assert.deepEqual(await indexer.getFileLocations(UNKNOWN), [])
      const [one, error] = await indexer.selectNodes(1)
      assert.equal(error, null)
      assert.deepEqual(
        one.map(({ url }) => url),
        [frontUrl],
      )
      const [two] = await new sdk.Indexer(network.group(1).indexerUrl).selectNodes(2)
      assert.deepEqual(
        two.map(({ url }) => url),
        network.group(1).nodes,
      )
      const [none, refused] = await new sdk.Indexer(network.group(1).indexerUrl).selectNodes(3)
      assert.deepEqual(none, [])
      assert.match(String(refused), /cannot select a subset/)
    })

    test(`${name}: an unknown root is an error, not a crash`, async () => {
      const error = await new sdk.Indexer(network.group(0).indexerUrl).download(
        UNKNOWN,
        join(network.folder, 'none'),
        true,
      )
      assert.ok(error instanceof Error)
      assert.match(error.message, /locations/i)
    })

    test(`${name}: an upload with nothing but defaults, and the uploader it makes`, async () => {
      const { indexerUrl, frontUrl } = network.group(0)
      const indexer = new sdk.Indexer(indexerUrl)
      // Five segments on two shards: the packages' own splitting over shards would lose the last one.
      const data = seededBytes(5 * 262_144 - 17, sdk === current ? 1 : 2)
      await signers.use(async (signer) => {
        const [result, error] = await indexer.upload(new sdk.MemData(data) as never, network.rpcUrl, signer as never)
        assert.equal(error, null)
        assert.ok('rootHash' in result)
        assert.match(result.txHash, /^0x[0-9a-f]{64}$/)
        const [uploader, failed] = await indexer.newUploaderFromIndexerNodes(network.rpcUrl, signer as never, 1)
        assert.equal(failed, null)
        assert.deepEqual(
          uploader?.nodes.map(({ url }) => url),
          [frontUrl],
        )
        assert.equal((await uploader?.flow.getAddress())?.toLowerCase(), network.flow.toLowerCase())
      })
    })
  }

  test('1.2.8: downloads to a path, of several roots, to a blob, and the peek at a header', async () => {
    const { indexerUrl } = network.group(0)
    const indexer = new current.Indexer(indexerUrl)
    const parts = [seededBytes(700_000, 8), seededBytes(300, 9)]
    const roots: string[] = []
    for (const part of parts) {
      const [result, error] = await signers.use((signer) => {
        return indexer.upload(new current.MemData(part), network.rpcUrl, signer as never)
      })
      assert.equal(error, null)
      assert.ok('rootHash' in result)
      roots.push(result.rootHash)
    }
    const [first = '', second = ''] = roots
    const [blob, error] = await indexer.downloadToBlob(first, { proof: true })
    assert.equal(error, null)
    assert.equal(Buffer.compare(Buffer.from(await blob.arrayBuffer()), parts[0] ?? new Uint8Array()), 0)
    const [joined] = await indexer.downloadToBlob([first, second])
    assert.equal(Buffer.compare(Buffer.from(await joined.arrayBuffer()), Buffer.concat(parts)), 0)
    const [header, peeked] = await indexer.peekHeader(second)
    assert.deepEqual([header, peeked], [null, null])
    const [missing, refused] = await indexer.downloadToBlob(UNKNOWN)
    assert.equal(missing.size, 0)
    assert.match(String(refused), /No locations found/)
  })
})
