import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type Network, Signers, seededBytes, startNetwork } from './network.ts'
import { SDKS, silenceConsole } from './sdk.ts'

const SIZE = 256 * 1024 * 256

/** 64 MiB at once: one package against one node (256 uploads in parallel), the other through the front of two shards. */
describe('a file of 64 MiB', () => {
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

  for (const [number, sdk] of SDKS.entries()) {
    test(`${sdk.name}: ${number === 0 ? 'one node' : 'two shards'}`, async () => {
      const { indexerUrl } = network.group(number)
      const rpcUrl = network.rpcUrl
      const data = seededBytes(SIZE, 64 + number)
      const { rootHash } = await signers.use((signer) => sdk.upload({ indexerUrl, rpcUrl, signer, data }))
      const back = await sdk.download({ indexerUrl, root: rootHash, folder: network.folder })
      assert.equal(Buffer.compare(back, data), 0)
      const gateway = await fetch(`${indexerUrl}/file?root=${rootHash}`)
      assert.equal(Buffer.compare(Buffer.from(await gateway.arrayBuffer()), data), 0)
    })
  }
})
