import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import * as current from '@0gfoundation/0g-ts-sdk'
import * as legacy from '@0glabs/0g-ts-sdk'
import type { ethers } from 'ethers'

/** The public packages under test, unmodified. */
export { current, legacy }

/** What both packages can do, under one surface, failing by exception. */
export interface SdkUnderTest {
  name: string
  upload(parameters: UploadParameters): Promise<{ rootHash: string; txHash: string }>
  download(parameters: { indexerUrl: string; root: string; folder: string; proof?: boolean }): Promise<Uint8Array>
}

export interface UploadParameters {
  indexerUrl: string
  rpcUrl: string
  signer: ethers.Wallet
  data: Uint8Array
}

/**
 * What a submission costs depends on where the flow stands; one that lands between estimate and transaction may make it
 * dearer. Parallel uploads therefore bring their own limit.
 */
const GAS_LIMIT = 1_000_000n

let downloads = 0

export const SDKS: readonly SdkUnderTest[] = [
  {
    name: '@0gfoundation/0g-ts-sdk 1.2.8',
    async upload({ indexerUrl, rpcUrl, signer, data }) {
      const indexer = new current.Indexer(indexerUrl)
      const [result, error] = await indexer.upload(
        new current.MemData(data),
        rpcUrl,
        signer as never,
        undefined,
        undefined,
        { gasLimit: GAS_LIMIT },
      )
      if (error !== null) throw error
      if (!('rootHash' in result)) throw new Error('the upload was split')
      return result
    },
    async download({ indexerUrl, root, folder, proof = false }) {
      const path = join(folder, `download-${downloads++}`)
      const error = await new current.Indexer(indexerUrl).download(root, path, proof)
      if (error !== null) throw error
      return await take(path)
    },
  },
  {
    name: '@0glabs/0g-ts-sdk 0.3.3',
    async upload({ indexerUrl, rpcUrl, signer, data }) {
      const indexer = new legacy.Indexer(indexerUrl)
      const [result, error] = await indexer.upload(
        new legacy.MemData(data),
        rpcUrl,
        signer as never,
        undefined,
        undefined,
        { gasLimit: GAS_LIMIT },
      )
      if (error !== null) throw error
      return result
    },
    async download({ indexerUrl, root, folder, proof = false }) {
      const path = join(folder, `download-${downloads++}`)
      const error = await new legacy.Indexer(indexerUrl).download(root, path, proof)
      if (error !== null) throw error
      return await take(path)
    },
  },
]

async function take(path: string): Promise<Uint8Array> {
  const bytes = await readFile(path)
  await rm(path)
  return bytes
}

/** Both packages talk on the console without end: silences it until the returned function is called. */
export function silenceConsole(): () => void {
  const { log, info, warn, error, debug } = console
  const quiet = (): void => {}
  Object.assign(console, { log: quiet, info: quiet, warn: quiet, error: quiet, debug: quiet })
  return () => void Object.assign(console, { log, info, warn, error, debug })
}
