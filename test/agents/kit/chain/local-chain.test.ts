import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { privateKeyToAddress } from 'viem/accounts'
import { LocalChainError, startLocalChain } from '#kit/chain/local-chain.ts'
import { headNumber, mine, startAnvil } from '../../../chain.ts'

// A started chain answers at once with its funded accounts, and its process and port are gone after stop.
test('starts on a free port and leaves nothing behind', async () => {
  const anvil = await startAnvil({ chainId: 1234 })
  try {
    assert.equal(await anvil.rpc('eth_chainId'), '0x4d2')
    assert.equal(anvil.accounts.length, 20)
    for (const { address, privateKey } of anvil.accounts) {
      assert.equal(privateKeyToAddress(privateKey), address)
      assert.equal(BigInt(String(await anvil.rpc('eth_getBalance', [address, 'latest']))), 10_000n * 10n ** 18n)
    }
  } finally {
    await anvil.stop()
    await anvil.stop()
  }
  assert.throws(() => process.kill(anvil.pid, 0), { code: 'ESRCH' })
})

// A chain stopped and started with the same state file goes on where it was.
test('keeps its state over a restart', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'local-chain-'))
  const statePath = join(folder, 'state.json')
  const logPath = join(folder, 'chain.log')
  try {
    const first = await startAnvil({ statePath, logPath })
    await mine(first, 5)
    await first.stop()
    const second = await startAnvil({ statePath })
    try {
      assert.equal(await headNumber(second), 5)
    } finally {
      await second.stop()
    }
    assert.match(await readFile(logPath, 'utf8'), /Listening on/)
  } finally {
    await rm(folder, { recursive: true })
  }
})

// A chain that cannot start says why, and an aborted signal ends a running one.
test('says why it could not start; an abort ends it', async () => {
  await assert.rejects(startLocalChain({ args: ['--no-such-flag'] }), (error: unknown) => {
    assert.ok(error instanceof LocalChainError)
    assert.equal(error.code, 'LOCAL_CHAIN_START')
    assert.match(String(error.details.output), /no-such-flag/)
    return true
  })
  const abort = new AbortController()
  const anvil = await startAnvil({ signal: abort.signal })
  abort.abort()
  await anvil.exited
  await anvil.stop()
})
