import { getFlowContract, StorageNode, Uploader, ZgFile } from '@0gfoundation/0g-ts-sdk'
import { ethers } from 'ethers'
import { BENCH_KEY, StorageBenchError } from './storage-setup.ts'

/** Uploads a file whose submission is on the chain with 0g-ts-sdk, as its users do, to one node. */
export async function uploadWithSdk({
  path,
  nodeUrl,
  rpcUrl,
  flow,
}: {
  path: string
  nodeUrl: string
  rpcUrl: string
  flow: string
}): Promise<void> {
  const provider = new ethers.JsonRpcProvider(rpcUrl)
  const file = await ZgFile.fromFilePath(path)
  const log = console.log
  try {
    // The SDK prints every step; that is not part of what is measured, nor of our output.
    console.log = () => {}
    const signer = new ethers.Wallet(BENCH_KEY, provider)
    const contract = getFlowContract(flow, signer as never)
    const uploader = new Uploader([new StorageNode(nodeUrl)], rpcUrl, contract)
    const [, error] = await uploader.uploadFile(file, { skipTx: true, taskSize: 10 })
    if (error !== null) throw new StorageBenchError({ code: 'BENCH_PEER', message: '0g-ts-sdk failed', cause: error })
  } finally {
    console.log = log
    await file.close()
    provider.destroy()
  }
}
