import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type Network, Signers, seededBytes, startNetwork } from './network.ts'
import { SDKS, silenceConsole } from './sdk.ts'

const SIZES = [
  1,
  255,
  256,
  257,
  1023,
  4096,
  4097,
  65_537,
  262_143,
  262_144,
  262_145,
  700_000,
  1_048_577,
  5_000_000,
  256 * 960,
]
const GROUPS = [['0/1'], ['0/2', '1/2'], ['0/4', '1/4', '2/4', '3/4']]

/** What one client stores through an indexer, it and every other client read back byte for byte. */
describe('files of every size, through the indexer', { concurrency: 3 }, () => {
  let network: Network
  let signers: Signers
  let speak: () => void

  before(async () => {
    speak = silenceConsole()
    network = await startNetwork({ groups: GROUPS })
    signers = new Signers(network.rpcUrl)
  })

  after(async () => {
    signers.close()
    await network.close()
    speak()
  })

  for (const [number, shards] of GROUPS.entries()) {
    for (const [which, sdk] of SDKS.entries()) {
      const other = SDKS[1 - which] ?? sdk
      test(`${sdk.name}: ${shards.length} ${shards.length === 1 ? 'node' : 'shards'}`, async () => {
        const { indexerUrl } = network.group(number)
        const rpcUrl = network.rpcUrl
        const { folder } = network
        await Promise.all(
          // The packages hash slowly: the largest of these once is enough.
          SIZES.filter((sizeBytes) => number === 1 || sizeBytes < 5_000_000).map(async (sizeBytes) => {
            const data = seededBytes(sizeBytes, sizeBytes * 10 + number * 2 + which)
            const { rootHash } = await signers.use((signer) => sdk.upload({ indexerUrl, rpcUrl, signer, data }))
            for (const reader of [sdk, other]) {
              const back = await reader.download({ indexerUrl, root: rootHash, folder, proof: true })
              assert.equal(Buffer.compare(back, data), 0, `${sizeBytes} bytes read by ${reader.name}`)
            }
          }),
        )
      })
    }
  }
})
