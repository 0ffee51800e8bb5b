import { createReadStream } from 'node:fs'
import { type FileHandle, open, rename } from 'node:fs/promises'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { concatBytes } from '@noble/hashes/utils.js'
import {
  ARTEFACT_CHUNK_BYTES,
  ARTEFACT_HEADER_BYTES,
  ARTEFACT_SIGNATURE_BYTES,
  ARTEFACT_TAG_BYTES,
  artefactChunks,
  artefactDigest,
  openChunk,
  sealChunk,
  verifyArtefactSignature,
} from '#protocol/compute/fine-tuning/artefact.ts'
import { type DigestSigner, signDigest } from '#protocol/compute/signature.ts'
import { fromHex, type Hash, type Hex, toHex } from '#protocol/hex.ts'

/** Encrypts a file for delivery; the result appears at `to` whole or not at all. One chunk (64 MiB) is held in memory. */
export async function encryptArtefactFile(parameters: {
  from: string
  to: string
  key: Uint8Array
  iv: Uint8Array
  signer: DigestSigner
}): Promise<{ sizeBytes: number }> {
  const { from, to, key, iv, signer } = parameters
  const source = await open(from, 'r')
  const part = `${to}.part`
  const target = await open(part, 'w', 0o600)
  const tags: Uint8Array[] = []
  let offset = ARTEFACT_HEADER_BYTES
  try {
    const { size } = await source.stat()
    for (let at = 0; at < size; at += ARTEFACT_CHUNK_BYTES) {
      const plain = await read(source, at, Math.min(ARTEFACT_CHUNK_BYTES, size - at))
      const { body, tag } = sealChunk({ key, iv, index: tags.length, plain })
      await target.write(body, 0, body.length, offset)
      await target.write(tag, 0, tag.length, offset + body.length)
      offset += body.length + tag.length
      tags.push(tag)
    }
    const signature = fromHex(await signDigest({ signer, digest: artefactDigest(tags) }))
    const header = concatBytes(signature, iv)
    await target.write(header, 0, header.length, 0)
    await target.sync()
  } finally {
    await source.close()
    await target.close()
  }
  await rename(part, to)
  return { sizeBytes: offset }
}

/**
 * Checks the provider's signature over an encrypted artefact, without its key.
 *
 * @throws FineTuningFormatError `ARTEFACT_FORMAT`, `ARTEFACT_SIGNATURE`
 */
export async function checkArtefactFile({ path, signer }: { path: string; signer: Hex }): Promise<void> {
  const source = await open(path, 'r')
  try {
    const chunks = artefactChunks((await source.stat()).size)
    const signature = await read(source, 0, ARTEFACT_SIGNATURE_BYTES)
    const tags: Uint8Array[] = []
    for (const { offset, sizeBytes } of chunks) {
      tags.push(await read(source, offset + sizeBytes - ARTEFACT_TAG_BYTES, ARTEFACT_TAG_BYTES))
    }
    verifyArtefactSignature({ signer, signature, tags })
  } finally {
    await source.close()
  }
}

/**
 * Decrypts an artefact whose signature holds; the result appears at `to` whole or not at all.
 *
 * @throws FineTuningFormatError `ARTEFACT_FORMAT`, `ARTEFACT_SIGNATURE`, `ARTEFACT_KEY`
 */
export async function decryptArtefactFile(parameters: {
  from: string
  to: string
  key: Uint8Array
  signer: Hex
}): Promise<void> {
  const { from, to, key, signer } = parameters
  await checkArtefactFile({ path: from, signer })
  const source = await open(from, 'r')
  const part = `${to}.part`
  const target = await open(part, 'w', 0o600)
  try {
    const header = await read(source, 0, ARTEFACT_HEADER_BYTES)
    const iv = header.subarray(ARTEFACT_SIGNATURE_BYTES)
    for (const { index, offset, sizeBytes } of artefactChunks((await source.stat()).size)) {
      await target.writeFile(openChunk({ key, iv, index, sealed: await read(source, offset, sizeBytes) }))
    }
  } finally {
    await source.close()
    await target.close()
  }
  await rename(part, to)
}

/** Keccak-256 of a file. */
export async function keccakOfFile(path: string): Promise<Hash> {
  const hash = keccak_256.create()
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array)
  return toHex(hash.digest())
}

async function read(file: FileHandle, offset: number, sizeBytes: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(sizeBytes)
  for (let done = 0; done < sizeBytes; ) {
    const { bytesRead } = await file.read(buffer, done, sizeBytes - done, offset + done)
    if (bytesRead === 0) throw new Error('the file became shorter while it was read')
    done += bytesRead
  }
  return buffer
}
