import { type Address, encodeFunctionData } from 'viem'
import { custodyAbi } from '#client/da/abi.ts'
import type { Chain } from '#kit/chain/client.ts'
import type { TransactionSender } from '#kit/chain/sender.ts'
import type { Logger } from '#kit/log.ts'
import { sublineProof } from '#protocol/da/row-proof.ts'
import { type Hash, toHex } from '#protocol/hex.ts'
import { reasonOf, SignerError } from '../error.ts'
import type { RowServer } from '../serve/row-server.ts'
import type { BlobKey } from '../store/blob-key.ts'
import type { CustodyRequest } from '../store/custody-table.ts'
import type { SignerStore } from '../store/signer-store.ts'

export interface CustodyWorkerParameters {
  chain: Chain
  custody: Address
  sender: TransactionSender
  store: SignerStore
  rows: RowServer
  maxInFlight: number
  /** Fetches lost rows from the other signers; rejects when that cannot be done. */
  repair: (key: BlobKey) => Promise<void>
  log: Logger
  signal: AbortSignal
}

/** Answers custody requests to this signer, the most urgent first. */
export class CustodyWorker {
  readonly #parameters: CustodyWorkerParameters
  /** Requests dealt with: by id and block, as the same pieces may be asked for again. */
  readonly #inFlight = new Map<string, Promise<void>>()
  readonly #problems = new Map<string, string>()

  constructor(parameters: CustodyWorkerParameters) {
    this.#parameters = parameters
  }

  /** What keeps open requests from being answered. */
  problems(): string[] {
    return [...this.#problems.values()]
  }

  /** Starts answering what is open; returns at once. */
  async round(): Promise<void> {
    const { store, maxInFlight } = this.#parameters
    const open = store.custody.open(2 * maxInFlight)
    const names = new Set(open.map(nameOf))
    for (const name of this.#problems.keys()) if (!names.has(name)) this.#problems.delete(name)
    for (const request of open) {
      const name = nameOf(request)
      if (this.#inFlight.size >= maxInFlight || this.#inFlight.has(name)) continue
      const work = this.#answer(request)
        .then(() => void this.#problems.delete(name))
        .catch((error: unknown) => this.#fail(request, error))
        .finally(() => this.#inFlight.delete(name))
      this.#inFlight.set(name, work)
    }
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    await Promise.all(this.#inFlight.values())
  }

  async #answer(request: CustodyRequest): Promise<void> {
    const { chain, custody: to, sender, log, signal } = this.#parameters
    const { id, row, fromSubline, toSubline } = request
    // The store is a few blocks behind: what is answered or over already needs nothing.
    const call = { address: to, abi: custodyAbi, functionName: 'challengeOf', args: [id] } as const
    const challenge = await chain.client.readContract(call)
    if (BigInt(challenge.reader) === 0n) return
    const slice = await this.#row(request)
    const sublines: Hash[] = []
    const proofs: Hash[][] = []
    for (let subline = fromSubline; subline < toSubline; subline++) {
      const { data, path } = sublineProof({ row: slice.data, subline })
      sublines.push(toHex(data))
      proofs.push(splitPath(Buffer.concat([path, slice.path])))
    }
    const data = encodeFunctionData({ abi: custodyAbi, functionName: 'answerCustody', args: [id, sublines, proofs] })
    await sender.send({ to, data, abi: custodyAbi }, { signal })
    log.info({ id, dataRoot: request.dataRoot, row }, 'a custody request was answered')
  }

  async #row(request: CustodyRequest): ReturnType<RowServer['row']> {
    const { rows, repair, log } = this.#parameters
    try {
      return await rows.row(request, request.row)
    } catch (error) {
      if (!(error instanceof SignerError)) throw error
      log.warn({ err: error, id: request.id }, 'rows that are asked for are lost: fetching them from other signers')
      await repair(request)
      return rows.row(request, request.row)
    }
  }

  #fail(request: CustodyRequest, error: unknown): void {
    if (this.#parameters.signal.aborted) return
    const { id, row, deadlineBlock } = request
    const name = nameOf(request)
    if (!this.#problems.has(name)) {
      this.#parameters.log.error({ err: error, id, row, deadlineBlock }, 'a custody request could not be answered yet')
    }
    this.#problems.set(name, `custody request ${id} (until block ${deadlineBlock}): ${reasonOf(error)}`)
  }
}

/** A path as the contract takes it. */
export function splitPath(path: Uint8Array): Hash[] {
  return Array.from({ length: path.length / 32 }, (_, i) => toHex(path.subarray(32 * i, 32 * i + 32)))
}

function nameOf({ id, block }: CustodyRequest): string {
  return `${id}@${block}`
}
