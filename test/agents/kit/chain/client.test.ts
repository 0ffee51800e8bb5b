import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import { BaseError, ContractFunctionRevertedError, parseAbi, toFunctionSelector } from 'viem'
import { connectChain } from '#kit/chain/client.ts'
import {
  ChainConfigError,
  ChainIdMismatchError,
  ChainRpcError,
  ChainUnavailableError,
  classifyRpcError,
  findRpcError,
} from '#kit/chain/rpc-error.ts'
import { type Anvil, mine, startAnvil } from '../../../chain.ts'
import { type FaultyProxy, startFaultyProxy } from './faulty-proxy.ts'
import { runSeed, seededRandom } from './random.ts'

let anvil: Anvil
let first: FaultyProxy
let second: FaultyProxy

before(async () => {
  anvil = await startAnvil()
  await mine(anvil, 10)
  first = await startFaultyProxy({ target: anvil.url, random: seededRandom(1) })
  second = await startFaultyProxy({ target: anvil.url, random: seededRandom(2) })
})

after(async () => {
  await first.stop()
  await second.stop()
  await anvil.stop()
})

/** An endpoint with a behaviour of its own. */
async function serve(listener: RequestListener): Promise<{ url: string; port: number; stop(): Promise<void> }> {
  const server = createServer(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const stop = async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }
  return { url: `http://127.0.0.1:${port}`, port, stop }
}

// A call goes to the first endpoint while it is well, to the next when it is not, and back once it has rested.
test('fails over to the next endpoint and back', async () => {
  const chain = await connectChain({ rpcUrls: [first.url, second.url], chainId: 31337 })
  const before = second.calls.get('eth_blockNumber') ?? 0
  assert.equal(await chain.client.getBlockNumber(), 10n)
  assert.equal(second.calls.get('eth_blockNumber') ?? 0, before, 'the second is not asked while the first is well')
  first.down = true
  assert.equal(await chain.client.getBlockNumber(), 10n)
  const health = chain.health()
  assert.equal(health.up, true)
  assert.deepEqual(
    health.endpoints.map(({ name, state }) => ({ name, state })),
    [
      { name: first.host, state: 'down' },
      { name: second.host, state: 'up' },
    ],
  )
  assert.match(String(health.endpoints[0]?.lastError), /HTTP 503/)
  first.down = false
  await chain.probe()
  assert.equal(chain.health().endpoints[0]?.state, 'up')
  assert.equal(chain.pick().name, first.host)
  chain.close()
})

// Rate limits and server errors are retried; a seeded storm of faults does not surface as long as retries last.
test('retries through faults', async (t) => {
  const seed = runSeed()
  t.diagnostic(`SEED=${seed}`)
  const proxy = await startFaultyProxy({ target: anvil.url, random: seededRandom(seed) })
  const chain = await connectChain({ rpcUrls: [proxy.url], retries: 8 })
  proxy.faultRate = 0.25
  proxy.faults = ['status-429', 'drop-connection', 'garbage', 'truncate', 'delay']
  for (let call = 0; call < 12; call++) assert.equal(await chain.client.getBlockNumber(), 10n)
  chain.close()
  await proxy.stop()
})

// When no endpoint answers, the error names each by its host and keeps the cause.
test('says what is wrong when none answers', async () => {
  const chain = await connectChain({ rpcUrls: [first.url, second.url], retries: 1 })
  first.down = true
  second.down = true
  await assert.rejects(chain.request('eth_blockNumber'), (error: unknown) => {
    assert.ok(error instanceof ChainUnavailableError)
    assert.equal(error.code, 'CHAIN_UNAVAILABLE')
    assert.ok(error.message.includes(first.host) && error.message.includes(second.host))
    assert.ok(error.cause instanceof ChainRpcError)
    assert.equal(error.cause.code, 'RPC_HTTP_STATUS')
    return true
  })
  await assert.rejects(chain.client.getBlockNumber(), (error: unknown) => findRpcError(error) instanceof ChainRpcError)
  first.down = false
  second.down = false
  chain.close()
  await assert.rejects(chain.request('eth_blockNumber'), ChainConfigError)
  await assert.rejects(connectChain({ rpcUrls: ['http://127.0.0.1:1'] }), ChainUnavailableError)
})

// No secret of a URL (credentials, path, query) reaches a message or the health report; credentials are sent as a
// Basic header.
test('keeps the secrets of its URLs', async () => {
  let authorization: string | undefined
  const endpoint = await serve((request, response) => {
    authorization = request.headers.authorization
    response.writeHead(500).end(`no such path: ${request.url}`)
  })
  const url = `http://operator:hunter22@127.0.0.1:${endpoint.port}/v3/0123456789abcdef?token=secretsecret`
  const error = await connectChain({ rpcUrls: [url] }).then(
    () => assert.fail('a failing endpoint was accepted'),
    (reason: unknown) => reason,
  )
  assert.equal(authorization, `Basic ${Buffer.from('operator:hunter22').toString('base64')}`)
  let text = ''
  for (let current = error; current instanceof Error; current = current.cause) {
    text += `${current.stack} ${JSON.stringify(current)}`
  }
  assert.match(text, /HTTP 500: no such path/)
  for (const secret of ['hunter22', '0123456789abcdef', 'secretsecret']) assert.ok(!text.includes(secret), secret)
  await endpoint.stop()
  await assert.rejects(connectChain({ rpcUrls: ['wss://key:secret@host/path'] }), (reason: unknown) => {
    assert.ok(reason instanceof ChainConfigError)
    assert.ok(!reason.message.includes('secret'))
    return true
  })
  await assert.rejects(connectChain({ rpcUrls: [] }), ChainConfigError)
})

// Endpoints of different chains are refused at the start; one that comes up later with another chain is never used.
test('refuses endpoints of another chain', async () => {
  const other = await startAnvil({ chainId: 4242 })
  await assert.rejects(connectChain({ rpcUrls: [anvil.url, other.url] }), ChainIdMismatchError)
  await assert.rejects(connectChain({ rpcUrls: [anvil.url], chainId: 1 }), (error: unknown) => {
    assert.ok(error instanceof ChainIdMismatchError)
    assert.equal(error.expected, 1)
    assert.equal(error.actual, 31337)
    return true
  })
  const late = await startFaultyProxy({ target: other.url, random: seededRandom(3) })
  late.down = true
  const chain = await connectChain({ rpcUrls: [late.url, anvil.url] })
  late.down = false
  await chain.probe()
  assert.equal(chain.health().endpoints[0]?.state, 'wrong-chain')
  assert.equal(await chain.client.getBlockNumber(), 10n)
  assert.equal(late.calls.get('eth_blockNumber'), undefined)
  chain.close()
  await late.stop()
  await other.stop()
})

// A silent endpoint costs its time limit, an endless answer its size limit, an abort nothing.
test('limits time and size', async () => {
  const silent = await serve(() => undefined)
  const startedAt = performance.now()
  await assert.rejects(connectChain({ rpcUrls: [silent.url], timeoutMs: 100 }), (error: unknown) => {
    assert.ok(error instanceof ChainUnavailableError && error.cause instanceof ChainRpcError)
    assert.equal(error.cause.code, 'RPC_TIMEOUT')
    return true
  })
  assert.ok(performance.now() - startedAt < 3_000)
  await assert.rejects(connectChain({ rpcUrls: [silent.url], signal: AbortSignal.timeout(50) }), {
    name: 'TimeoutError',
  })
  await silent.stop()

  const chain = await connectChain({ rpcUrls: [first.url], maxResponseBytes: 4096 })
  first.intercept = (call) => (call.method === 'eth_getLogs' ? { result: 'x'.repeat(5000) } : undefined)
  await assert.rejects(chain.request('eth_getLogs', [{}]), { code: 'RPC_RESPONSE_TOO_LARGE', kind: 'too-large' })
  first.intercept = undefined
  chain.close()
})

// `waitMs` bridges the time until a chain that is just being started answers.
test('waits for a chain that is coming up', async () => {
  first.down = true
  const connecting = connectChain({ rpcUrls: [first.url], waitMs: 10_000 })
  setTimeout(() => {
    first.down = false
  }, 200)
  const chain = await connecting
  assert.equal(chain.id, 31337)
  chain.close()
})

// A revert is the chain's answer: asked once, not retried, and viem decodes its custom error.
test('passes reverts through to viem', async () => {
  const abi = parseAbi(['error Refused(uint256 have, uint256 want)', 'function ask() view returns (uint256)'])
  const address = '0x00000000000000000000000000000000000000ee'
  // mstore(0, selector << 224) mstore(4, 1) mstore(36, 2) revert(0, 68); selector of Refused(uint256,uint256)
  const refused = toFunctionSelector('Refused(uint256,uint256)').slice(2)
  await anvil.rpc('anvil_setCode', [address, `0x63${refused}60e01b5f526001600452600260245260445ffd`])
  const chain = await connectChain({ rpcUrls: [first.url, second.url] })
  const calls = first.calls.get('eth_call') ?? 0
  await assert.rejects(chain.client.readContract({ address, abi, functionName: 'ask' }), (error: unknown) => {
    assert.ok(error instanceof BaseError)
    const revert = error.walk((cause) => cause instanceof ContractFunctionRevertedError)
    assert.ok(revert instanceof ContractFunctionRevertedError)
    assert.equal(revert.data?.errorName, 'Refused')
    assert.deepEqual(revert.data?.args, [1n, 2n])
    return true
  })
  assert.equal(first.calls.get('eth_call'), calls + 1, 'asked once')
  assert.equal(second.calls.get('eth_call'), undefined)
  assert.equal(chain.health().endpoints[0]?.state, 'up')
  chain.close()
})

// The wording of providers is sorted by what to do next.
test('sorts the errors of many providers', () => {
  const cases: [number, string, string][] = [
    [-32005, 'query returned more than 10000 results', 'too-large'],
    [-32602, 'Log response size exceeded. this block range should work: [0x1, 0x2]', 'too-large'],
    [-32000, 'exceed maximum block range: 5000', 'too-large'],
    [-32614, 'eth_getLogs is limited to a 10,000 range', 'too-large'],
    [-32000, 'block range is too wide', 'too-large'],
    [-32000, 'query timeout exceeded', 'too-large'],
    [-32005, 'daily request count exceeded, request rate limited', 'rate-limit'],
    [429, 'Your app has exceeded its compute units per second capacity', 'rate-limit'],
    [-32007, '50/second request limit reached', 'rate-limit'],
    [-32000, 'header not found', 'missing'],
    [-32601, 'the method eth_x does not exist/is not available', 'missing'],
    [-32000, 'missing trie node 1234', 'missing'],
    [3, 'execution reverted: no', 'answer'],
    [-32000, 'nonce too low', 'answer'],
    [-32000, 'insufficient funds for gas * price + value', 'answer'],
    [-32603, 'Internal error', 'endpoint'],
  ]
  for (const [code, message, kind] of cases) assert.equal(classifyRpcError({ code, message }), kind, message)
  assert.equal(classifyRpcError({ code: -32603, message: 'VM Exception: reverted', data: '0x1234' }), 'answer')
})
