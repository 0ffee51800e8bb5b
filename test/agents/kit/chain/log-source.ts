import assert from 'node:assert/strict'
import { keccak256, toHex } from 'viem'
import type { BlockRef, LogBatch, LogSink, RawLog } from '#kit/chain/log-follower.ts'
import type { Anvil } from '../../../chain.ts'

/** The contract whose logs the tests follow: LOG1 with the call's first word as topic and the whole call data. */
export const EMITTER = '0x00000000000000000000000000000000000e3174'
export const TOPIC = keccak256(toHex('wanted'))
export const OTHER_TOPIC = keccak256(toHex('unwanted'))

/** Puts the emitting contract on the chain: `calldatacopy(0, 0, size); log1(0, size, calldataload(0))`. */
export async function installEmitter(anvil: Anvil): Promise<void> {
  await anvil.rpc('anvil_setCode', [EMITTER, '0x365f5f375f35365fa100'])
}

/** A transaction that makes the contract emit a log with this payload. */
export function emission(anvil: Anvil, { topic = TOPIC, payload = 0 }: { topic?: string; payload?: number }) {
  const data = `${topic}${payload.toString(16).padStart(64, '0')}`
  return { from: anvil.accounts[0]?.address, to: EMITTER, gas: '0x186a0', data }
}

/** Sends an emission; with automatic mining off it waits in the pool. */
export async function emit(anvil: Anvil, options: { topic?: string; payload?: number } = {}): Promise<string> {
  return String(await anvil.rpc('eth_sendTransaction', [emission(anvil, options)]))
}

/** Everything a plain full scan of the real chain finds, as `block/index/data`. */
export async function fullScan(anvil: Anvil, { to, from = 0 }: { to: number; from?: number }): Promise<string[]> {
  const logs = (await anvil.rpc('eth_getLogs', [
    { address: EMITTER, topics: [TOPIC], fromBlock: toHex(from), toBlock: toHex(to) },
  ])) as { blockNumber: string; blockHash: string; logIndex: string; data: string }[]
  return logs.map((log) => `${Number(log.blockNumber)}/${log.blockHash}/${Number(log.logIndex)}/${log.data}`)
}

/** The same logs in the same order; says where they part rather than printing all of them. */
export function assertSameLogs(actual: readonly string[], expected: readonly string[]): void {
  const index = expected.findIndex((line, at) => actual[at] !== line)
  if (index < 0 && actual.length === expected.length) return
  const at = index < 0 ? expected.length : index
  assert.fail(`${actual.length} logs, expected ${expected.length}; at ${at}: ${actual[at]}, expected ${expected[at]}`)
}

/** A sink in memory that also checks what the follower promises about batches. */
export class MemorySink implements LogSink {
  logs: RawLog[] = []
  refs: BlockRef[] = []
  batches = 0
  reverts = 0
  /** Called first in apply; may throw. */
  onApply: ((batch: LogBatch) => void) | undefined

  checkpoints(): readonly BlockRef[] {
    return this.refs
  }

  async apply(batch: LogBatch): Promise<void> {
    this.onApply?.(batch)
    const tip = this.refs[0]
    if (tip !== undefined) assert.equal(batch.from, tip.number + 1, 'a batch begins right after the last one')
    assert.ok(batch.to.number >= batch.from, 'a batch holds at least one block')
    for (const [index, log] of batch.logs.entries()) {
      assert.ok(log.blockNumber >= batch.from && log.blockNumber <= batch.to.number, 'a log lies in its batch')
      const previous = batch.logs[index - 1]
      if (previous === undefined) continue
      const ordered =
        previous.blockNumber < log.blockNumber ||
        (previous.blockNumber === log.blockNumber && previous.logIndex < log.logIndex)
      assert.ok(ordered, 'logs come in chain order, once each')
    }
    this.batches++
    this.logs.push(...batch.logs)
    this.refs.unshift(batch.to)
  }

  async revert(to: BlockRef | undefined): Promise<void> {
    this.reverts++
    if (to === undefined) {
      this.refs = []
      this.logs = []
      return
    }
    const index = this.refs.findIndex((ref) => ref.number === to.number && ref.hash === to.hash)
    assert.ok(index >= 0, 'the follower reverts to a checkpoint of the sink')
    this.refs = this.refs.slice(index)
    this.logs = this.logs.filter((log) => log.blockNumber <= to.number)
  }

  get tip(): BlockRef | undefined {
    return this.refs[0]
  }

  content(): string[] {
    return this.logs.map((log) => `${log.blockNumber}/${log.blockHash}/${log.logIndex}/${log.data}`)
  }
}

/** Waits until a condition holds; the message names it when it does not in time. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 20_000,
): Promise<void> {
  const giveUpAt = Date.now() + timeoutMs
  while (!(await condition())) {
    if (Date.now() > giveUpAt) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
