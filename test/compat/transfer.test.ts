import assert from 'node:assert/strict'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { ethers } from 'ethers'
import { type Network, Signers, seededBytes, startNetwork } from './network.ts'
import { current, legacy, silenceConsole } from './sdk.ts'

const GAS = 1_000_000n
const ONE_NODE = 0
const FRONT = 1

/** `Uploader` and `Downloader` given nodes directly: a node, the front of two shards, the shards themselves. */
describe('uploaders, downloaders and encryption', { concurrency: 6 }, () => {
  let network: Network
  let signers: Signers
  let speak: () => void

  before(async () => {
    speak = silenceConsole()
    network = await startNetwork({ groups: [['0/1'], ['0/2', '1/2']] })
    signers = new Signers(network.rpcUrl)
  })

  after(async () => {
    signers.close()
    await network.close()
    speak()
  })

  const nodesOf = (group: number) => [
    group === FRONT ? network.group(group).frontUrl : (network.group(group).nodes[0] ?? ''),
  ]
  const uploaderTo = (group: number, signer: ethers.Wallet) => {
    const nodes = nodesOf(group).map((url) => new current.StorageNode(url))
    return new current.Uploader(nodes, network.rpcUrl, current.getFlowContract(network.flow, signer as never), 0n, GAS)
  }
  const downloaderFrom = (urls: string[]) => new current.Downloader(urls.map((url) => new current.StorageNode(url)))
  const same = async (blob: globalThis.Blob, bytes: Uint8Array) =>
    assert.equal(Buffer.compare(Buffer.from(await blob.arrayBuffer()), bytes), 0)

  test('a file to one node, back to a path and to a blob', async () => {
    const data = seededBytes(900_001, 1)
    const [result, error] = await signers.use((signer) =>
      uploaderTo(ONE_NODE, signer).uploadFile(new current.MemData(data), {}),
    )
    assert.equal(error, null)
    const downloader = downloaderFrom(nodesOf(ONE_NODE))
    const path = join(network.folder, 'one')
    assert.equal(await downloader.downloadFile(result.rootHash, path, true), null)
    assert.equal(Buffer.compare(await readFile(path), data), 0)
    assert.match(String(await downloader.downloadFile(result.rootHash, path, false)), /does not exist/)
    await rm(path)
    assert.equal(await downloader.download(result.rootHash, path), null)
    const [blob, failed] = await downloader.downloadToBlob(result.rootHash)
    assert.equal(failed, null)
    await same(blob, data)
  })

  test('a file through the front, read from the front and from the shards', async () => {
    const data = seededBytes(3 * 262_144 + 9, 2)
    const [result, error] = await signers.use((signer) =>
      uploaderTo(FRONT, signer).uploadFile(new current.MemData(data), {}),
    )
    assert.equal(error, null)
    for (const urls of [nodesOf(FRONT), network.group(FRONT).nodes, network.group(FRONT).nodes.toReversed()]) {
      const [blob, failed] = await downloaderFrom(urls).downloadToBlob(result.rootHash)
      assert.equal(failed, null)
      await same(blob, data)
    }
  })

  for (const [group, fragmentSize, sizeBytes] of [
    [ONE_NODE, 256 * 1024, 600_000],
    [FRONT, 256 * 1024, 600_000],
    [ONE_NODE, 1024 * 1024, 2_500_000],
    [FRONT, 300, 1_500],
  ] as const) {
    test(`fragments of ${fragmentSize} bytes ${group === FRONT ? 'through the front' : 'to one node'}`, async () => {
      const data = seededBytes(sizeBytes, fragmentSize + group)
      const [result, error] = await signers.use((signer) =>
        uploaderTo(group, signer).splitableUpload(new current.MemData(data), { fragmentSize }),
      )
      assert.equal(error, null)
      assert.equal(result.rootHashes.length, Math.ceil(sizeBytes / 2 ** Math.ceil(Math.log2(fragmentSize))))
      const downloader = downloaderFrom(nodesOf(group))
      const path = join(network.folder, `fragments-${fragmentSize}-${group}`)
      assert.equal(await downloader.downloadFragments(result.rootHashes, path, true), null)
      assert.equal(Buffer.compare(await readFile(path), data), 0)
      const [blob] = await downloader.downloadToBlob(result.rootHashes)
      await same(blob, data)
      const [indexed] = await new current.Indexer(network.group(group).indexerUrl).downloadToBlob(result.rootHashes)
      await same(indexed, data)
    })
  }

  test('a symmetric key: encrypted here, decrypted by downloader and indexer, refused with a wrong key', async () => {
    const data = seededBytes(500_000, 5)
    const key = seededBytes(32, 6)
    const indexer = new current.Indexer(network.group(FRONT).indexerUrl)
    const [result, error] = await signers.use((signer) =>
      indexer.upload(
        new current.MemData(data),
        network.rpcUrl,
        signer as never,
        { encryption: { type: 'aes256', key } },
        undefined,
        { gasLimit: GAS },
      ),
    )
    assert.equal(error, null)
    assert.ok('rootHash' in result)
    const [header] = await indexer.peekHeader(result.rootHash)
    assert.equal(header?.version, current.SYMMETRIC_VERSION)
    const [blob] = await downloaderFrom(nodesOf(FRONT)).withSymmetricKey(key).downloadToBlob(result.rootHash)
    await same(blob, data)
    const [opened] = await indexer.downloadToBlob(result.rootHash, { decryption: { symmetricKey: key } })
    await same(opened, data)
    const [raw] = await indexer.downloadToBlob(result.rootHash)
    assert.equal(raw.size, data.length + current.SYMMETRIC_HEADER_SIZE)
    const { bytes, decrypted } = current.tryDecrypt(new Uint8Array(await raw.arrayBuffer()), { symmetricKey: key })
    assert.equal(decrypted, true)
    assert.equal(Buffer.compare(bytes, data), 0)
  })

  test('a public key: encrypted for it, decrypted with the private one', async () => {
    const data = seededBytes(270_000, 7)
    const recipient = ethers.Wallet.createRandom()
    const recipientPubKey = recipient.signingKey.compressedPublicKey
    const indexer = new current.Indexer(network.group(ONE_NODE).indexerUrl)
    const [result, error] = await signers.use((signer) =>
      indexer.upload(
        new current.MemData(data),
        network.rpcUrl,
        signer as never,
        { encryption: { type: 'ecies', recipientPubKey } },
        undefined,
        { gasLimit: GAS },
      ),
    )
    assert.equal(error, null)
    assert.ok('rootHash' in result)
    const [header] = await indexer.peekHeader(result.rootHash)
    assert.equal(header?.version, current.ECIES_VERSION)
    const [blob] = await downloaderFrom(nodesOf(ONE_NODE))
      .withPrivateKey(recipient.privateKey)
      .downloadToBlob(result.rootHash)
    await same(blob, data)
    const path = join(network.folder, 'private')
    assert.equal(
      await downloaderFrom(nodesOf(ONE_NODE)).withPrivateKey(recipient.privateKey).download(result.rootHash, path),
      null,
    )
    assert.equal(Buffer.compare(await readFile(path), data), 0)
  })

  test('an encrypted file is a file like any other', async () => {
    const data = seededBytes(10_000, 8)
    const key = seededBytes(32, 9)
    const encrypted = current.newSymmetricEncryptedFile(new current.MemData(data), key)
    assert.ok(encrypted instanceof current.EncryptedFile)
    const [result, error] = await signers.use((signer) => uploaderTo(ONE_NODE, signer).uploadFile(encrypted, {}))
    assert.equal(error, null)
    const [blob] = await downloaderFrom(nodesOf(ONE_NODE)).withSymmetricKey(key).downloadToBlob(result.rootHash)
    await same(blob, data)
  })

  test('0.3.3: uploader and downloader, on a node and on the front', async () => {
    for (const group of [ONE_NODE, FRONT]) {
      const data = seededBytes(800_000, 20 + group)
      const nodes = nodesOf(group).map((url) => new legacy.StorageNode(url))
      const options = { tags: '0x', finalityRequired: true, taskSize: 2, expectedReplica: 1, skipTx: false, fee: 0n }
      const [result, error] = await signers.use((signer) => {
        const flow = legacy.getFlowContract(network.flow, signer as never)
        return new legacy.Uploader(nodes, network.rpcUrl, flow, 0n, GAS).uploadFile(new legacy.MemData(data), options)
      })
      assert.equal(error, null)
      const path = join(network.folder, `legacy-${group}`)
      assert.equal(await new legacy.Downloader(nodes).downloadFile(result.rootHash, path, true), null)
      assert.equal(Buffer.compare(await readFile(path), data), 0)
    }
  })
})
