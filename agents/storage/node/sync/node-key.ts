import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { join } from 'node:path'
import { atomicWrite, readSmallFile } from '#kit/files.ts'
import { NodeError } from '../error.ts'

const FILE = 'node-key.pem'

/**
 * The node's own Ed25519 key, made at the first start: it signs where the node can be reached, and owns nothing.
 *
 * @throws NodeError `NODE_KEY`
 */
export async function loadNodeKey(dataDir: string): Promise<KeyObject> {
  const path = join(dataDir, FILE)
  const text = await readSmallFile({ path, maxBytes: 4_096 }).catch((error: unknown) => {
    if (isMissing(error)) return undefined
    throw error
  })
  if (text === undefined) return makeNodeKey(path)
  try {
    const key = createPrivateKey(text)
    if (key.asymmetricKeyType === 'ed25519') return key
  } catch {
    // Told below: what a broken key file holds is nobody's business.
  }
  throw new NodeError({
    code: 'NODE_KEY',
    message: `${path} is not an Ed25519 key`,
    fix: 'restore it, or delete it: the node makes a new one and is then known under another id',
    details: { path },
  })
}

async function makeNodeKey(path: string): Promise<KeyObject> {
  const { privateKey } = generateKeyPairSync('ed25519')
  await atomicWrite({ path, data: String(privateKey.export({ type: 'pkcs8', format: 'pem' })), mode: 0o600 })
  return privateKey
}

function isMissing(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) if ('code' in at && at.code === 'ENOENT') return true
  return false
}
