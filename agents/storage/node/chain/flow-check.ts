import type { Chain } from '#kit/chain/client.ts'
import type { Logger } from '#kit/log.ts'
import { flowAbi } from '#protocol/abi/flow.ts'
import { type Hex, toHex } from '#protocol/hex.ts'
import { NodeError } from '../error.ts'
import type { NodeStore } from '../store/node-store.ts'

/** Submissions between two checks while catching up; at the head every batch is checked. */
const CHECK_EVERY = 500

/** A root that differs is asked for again, so that neither a reorganisation nor one false answer counts. */
const CONFIRM_READS = 3
const CONFIRM_PAUSE_MS = 500

const UNKNOWN_ROOT = `0x${'00'.repeat(32)}`

/**
 * Compares the own flow root with the contract's (`getFlowRootByTxSeq`). A lasting difference means that every proof
 * this node gives is worth nothing, so it is reported and not shrugged off.
 */
export class FlowCheck {
  readonly #store: NodeStore
  readonly #chain: Chain
  readonly #flow: Hex
  readonly #log: Logger
  readonly #onMismatch: (error: NodeError) => void
  readonly #signal: AbortSignal
  #checkedSeq = -1
  #busy = false

  constructor(parameters: {
    store: NodeStore
    chain: Chain
    flow: Hex
    log: Logger
    signal: AbortSignal
    onMismatch: (error: NodeError) => void
  }) {
    this.#store = parameters.store
    this.#chain = parameters.chain
    this.#flow = parameters.flow
    this.#log = parameters.log
    this.#signal = parameters.signal
    this.#onMismatch = parameters.onMismatch
  }

  /** The last submission found right. */
  get checkedSeq(): number {
    return this.#checkedSeq
  }

  /** Checks the newest submission if enough came since the last check. Never rejects. */
  async look({ synced }: { synced: boolean }): Promise<void> {
    const last = this.#store.transactions.nextSeq - 1
    // After a reorganisation the log may have become shorter.
    if (last < this.#checkedSeq) this.#checkedSeq = last - 1
    const due = synced ? last > this.#checkedSeq : last >= this.#checkedSeq + CHECK_EVERY
    if (this.#busy || !due || last < 0) return
    this.#busy = true
    try {
      await this.#check(last)
    } catch (error) {
      this.#log.debug({ err: error, seq: last }, 'the flow root could not be checked')
    } finally {
      this.#busy = false
    }
  }

  async #check(seq: number): Promise<void> {
    for (let read = 1; ; read++) {
      const own = this.#store.transactions.flowRootAt(seq)
      const chain = await this.#chain.client.readContract({
        address: this.#flow,
        abi: flowAbi,
        functionName: 'getFlowRootByTxSeq',
        args: [BigInt(seq)],
      })
      const same = this.#store.transactions.flowRootAt(seq)
      // Reverted while the chain was asked, or not known to the contract: no statement.
      if (own === undefined || same === undefined || chain === UNKNOWN_ROOT) return
      if (toHex(own) === chain.toLowerCase()) {
        this.#checkedSeq = seq
        return
      }
      if (read >= CONFIRM_READS && toHex(own) === toHex(same)) {
        this.#onMismatch(
          new NodeError({
            code: 'FLOW_MISMATCH',
            message: `after submission ${seq} the own flow root is ${toHex(own)}, the contract says ${chain}`,
            fix: 'check chain.flow and chain.startBlock; if they are right, sync again into an empty data folder',
            details: { seq, ownRoot: toHex(own), chainRoot: chain },
          }),
        )
        return
      }
      await new Promise((resolve) => setTimeout(resolve, CONFIRM_PAUSE_MS))
      if (this.#signal.aborted) return
    }
  }
}
