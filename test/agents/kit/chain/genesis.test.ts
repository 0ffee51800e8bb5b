import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { connectChain } from '#kit/chain/client.ts'
import { genesisOf } from '#kit/chain/genesis.ts'
import { mine, startAnvil } from '../../../chain.ts'

const ask = async (url: string) => {
  const chain = await connectChain({ rpcUrls: [url] })
  try {
    return await genesisOf(chain)
  } finally {
    chain.close()
  }
}

// What is kept about a chain is found again after the chain was stopped and went on, and is never taken for another's.
test('a chain is the same after restarts, and another with its id is not', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'weightless-genesis-'))
  try {
    const seen: string[] = []
    for (const stay of [true, true, true, false]) {
      const chain = await startAnvil({ statePath: join(dir, stay ? 'state.json' : 'other.json') })
      try {
        seen.push(await ask(chain.url))
        await mine(chain, 3)
        seen.push(await ask(chain.url))
      } finally {
        await chain.stop()
      }
      // Chains that begin in the same second are equal to the last byte.
      await delay(1_100)
    }
    const [first = ''] = seen
    assert.match(first, /^0x[0-9a-f]{64}$/)
    assert.deepEqual(seen.slice(0, 6), Array(6).fill(first))
    assert.equal(seen[6], seen[7])
    assert.notEqual(seen[6], first)
  } finally {
    await rm(dir, { recursive: true })
  }
})

test('a chain out of reach is not taken for one without a first block', async () => {
  const gone = await startAnvil()
  const chain = await connectChain({ rpcUrls: [gone.url] })
  await gone.stop()
  await assert.rejects(genesisOf(chain))
  chain.close()
})
