import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { BlobCommitment } from '#protocol/da/commitment.ts'
import { decodeSlices } from '#protocol/da/slice.ts'
import { testSeed } from '../client-da/fault-proxy.ts'
import { type DaNet, openNet, seededBytes, until } from './harness.ts'
import { post, range, uploadBody } from './raw-upload.ts'

const seed = testSeed()
console.log(`DA_TEST_SEED=${seed}`)

let net: DaNet
let child: ChildProcess | undefined

before(async () => {
  net = await openNet({ stakes: [10] })
  await net.signers[0]?.close()
})

after(async () => {
  child?.kill('SIGKILL')
  await net?.close()
})

/** The signer of the folder as a process; resolves with its address. */
async function run(): Promise<string> {
  const { anvil, contracts } = net
  const config = {
    data: { dir: net.folderOf(0), minFreeBytes: 0 },
    chain: {
      rpcUrls: [anvil.url],
      id: 31_337,
      ...contracts,
      startBlock: contracts.block,
      confirmations: 0,
      pollIntervalMs: 50,
    },
    key: { devAccount: 1 },
    bls: { devAccount: 1 },
    verification: { threads: 1 },
    sampling: { enabled: false },
    repair: { enabled: false },
    listen: '127.0.0.1:0',
  }
  const file = join(net.folder, 'crash.json')
  await writeFile(file, JSON.stringify(config))
  const script = fileURLToPath(new URL('run-signer.ts', import.meta.url))
  child = spawn(process.execPath, [script, file], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = (await once(child.stdout ?? child, 'data')) as [Buffer]
  return line.toString().trim()
}

async function kill(): Promise<void> {
  const gone = child && once(child, 'exit')
  child?.kill('SIGKILL')
  await gone
}

async function heldRows(url: string, { dataRoot, header }: BlobCommitment, epoch: number): Promise<number> {
  const answer = await fetch(`${url}/v1/blobs/${dataRoot}/rows?epoch=${epoch}`)
  if (answer.status !== 200) return 0
  return decodeSlices(new Uint8Array(await answer.arrayBuffer()), { header }).length
}

// A signature that has left stands for rows that are on the disk, however the process ends the moment after; and one that
// is killed while rows come in holds all of them or none, and takes them again.
test('a signer that is killed keeps what it signed for', async () => {
  let url = await run()
  const blob = await net.codec.encode(seededBytes(seed, 20_000))
  const [submission] = await net.client().submitBlobs({ blobs: [blob.commitment] })
  assert.ok(submission)
  const { dataRoot, epoch } = submission
  const wanted = async (): Promise<boolean> => {
    const state = await fetch(`${url}/v1/blobs/${dataRoot}?epoch=${epoch}&waitMs=500`)
    return ((await state.json()) as { state: string }).state === 'wanted'
  }
  await until('the signer to want the rows', wanted)
  const body = uploadBody(blob, range(0, 3_072))
  const path = `/v1/blobs/${dataRoot}/rows?epoch=${epoch}`

  // Killed in the middle of an upload.
  const broken = post(url, path, body.subarray(0, body.length * (0.1 + (0.8 * (seed % 1_000)) / 1_000)), {
    lengthBytes: body.length,
    end: false,
  })
  broken.catch(() => {})
  await kill()
  url = await run()
  assert.equal(await heldRows(url, blob.commitment, epoch), 0)

  // Killed as soon as the signature is out.
  await until('the signer to want the rows', wanted)
  const { status, signature } = await post(url, path, body)
  await kill()
  assert.equal(status, 200)
  url = await run()
  assert.equal(await heldRows(url, blob.commitment, epoch), 3_072)
  const again = await post(url, path, body)
  assert.equal(again.signature, signature)
  blob.release()
})
