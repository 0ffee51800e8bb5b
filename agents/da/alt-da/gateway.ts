import { setTimeout as delay } from 'node:timers/promises'
import { currentEpoch, readBlob } from '#client/da/blob-record.ts'
import type { Certificate } from '#client/da/confirm-blobs.ts'
import type { DaConnection } from '#client/da/connection.ts'
import { disperse } from '#client/da/disperse.ts'
import { retrieve } from '#client/da/retrieve.ts'
import { keccak256 } from '#kernels/keccak.ts'
import type { Logger } from '#kit/log.ts'
import { type Hash, toHex } from '#protocol/hex.ts'
import type { BlobFiles } from '../blob-files.ts'
import { type AltDaCommitment, encodeGeneric } from './commitment.ts'
import type { AltDaConfig } from './config.ts'
import { AltDaError } from './error.ts'
import type { PutStore } from './put-store.ts'

export interface GatewayParameters {
  connection: DaConnection
  store: PutStore
  /** Inputs of keccak mode. */
  files: BlobFiles
  config: Pick<AltDaConfig, 'chain' | 'retentionEpochs' | 'layerByte' | 'putTimeoutMs' | 'getTimeoutMs'>
  log: Logger
  signal: AbortSignal
}

/** Puts and gets of an op-stack chain, over the DA client. What it gives out was certified, and what it returns verified. */
export class AltDaGateway {
  readonly #parameters: GatewayParameters
  readonly #putting = new Map<Hash, Promise<Uint8Array>>()

  constructor(parameters: GatewayParameters) {
    this.#parameters = parameters
  }

  /**
   * The generic commitment of an input, once its certificate is final. Repeatable: the same input is paid once, and calls
   * at the same time share the work.
   *
   * @throws AltDaError `INPUT_EMPTY`, `PUT_TIMEOUT`; errors of the dispersal
   */
  async put(input: Uint8Array): Promise<Uint8Array> {
    if (input.length === 0) throw empty()
    const inputHash = inputHashOf(input)
    const { store, connection, config } = this.#parameters
    const given = store.commitment(inputHash)
    if (given !== undefined && (await currentEpoch(connection)) <= given.expiryEpoch) {
      return encodeGeneric({ layer: config.layerByte, ...given })
    }
    const running = this.#putting.get(inputHash)
    if (running !== undefined) return running
    const work = this.#disperse(inputHash, input).finally(() => this.#putting.delete(inputHash))
    this.#putting.set(inputHash, work)
    return work
  }

  /**
   * Keeps an input under its keccak hash.
   *
   * @throws AltDaError `INPUT_EMPTY`, `COMMITMENT_MISMATCH`; BlobFilesError `BLOB_STORE_FULL`
   */
  async putKeccak(hash: Hash, input: Uint8Array): Promise<void> {
    if (input.length === 0) throw empty()
    const { store, files } = this.#parameters
    if (inputHashOf(input) !== hash) {
      throw new AltDaError({
        code: 'COMMITMENT_MISMATCH',
        message: 'the input does not have the hash of the path',
        fix: 'send the input whose keccak-256 the path names',
        details: { hash },
      })
    }
    store.keepInput(hash, await files.put(input))
  }

  /**
   * The input of a commitment, verified against it.
   *
   * @throws AltDaError `INPUT_UNKNOWN`; errors of the retrieval
   */
  async get(commitment: AltDaCommitment): Promise<Uint8Array> {
    if (commitment.type === 'keccak') return this.#getKept(commitment.hash)
    const { connection, config, signal } = this.#parameters
    const { dataRoot, epoch, quorumId } = commitment
    const limit = AbortSignal.any([signal, AbortSignal.timeout(config.getTimeoutMs)])
    return (await retrieve(connection, { dataRoot, epoch, quorumId, signal: limit })).data
  }

  /** Whether a blob that is not recorded can still be: its quorum may confirm it during one more epoch. */
  async mayStillConfirm(epoch: number): Promise<boolean> {
    return (await currentEpoch(this.#parameters.connection)) <= epoch + 1
  }

  async #getKept(hash: Hash): Promise<Uint8Array> {
    const { store, files } = this.#parameters
    const contentHash = store.input(hash)
    const input = contentHash === undefined ? undefined : await files.get(contentHash)
    if (input !== undefined) return input
    throw new AltDaError({
      code: 'INPUT_UNKNOWN',
      message: 'no input with this hash was put here',
      fix: 'put it, or ask the server that it was put to',
      details: { hash },
    })
  }

  async #disperse(inputHash: Hash, input: Uint8Array): Promise<Uint8Array> {
    const { connection, store, config, signal, log } = this.#parameters
    const timer = AbortSignal.timeout(config.putTimeoutMs)
    const limit = AbortSignal.any([signal, timer])
    try {
      const { certificate, feeWei } = await disperse(connection, {
        data: input,
        retentionEpochs: config.retentionEpochs,
        signal: limit,
      })
      await this.#waitFinal(certificate, limit)
      store.giveCommitment(inputHash, certificate)
      log.info({ dataRoot: certificate.dataRoot, sizeBytes: input.length, feeWei: String(feeWei) }, 'input put')
      return encodeGeneric({ layer: config.layerByte, ...certificate })
    } catch (error) {
      if (!timer.aborted) throw error
      throw new AltDaError({
        code: 'PUT_TIMEOUT',
        message: `the input was not certified within ${config.putTimeoutMs} ms`,
        fix: 'put it again: it goes on where it stopped, and nothing is paid twice',
        details: { putTimeoutMs: config.putTimeoutMs },
        cause: error,
      })
    }
  }

  /** Waits until the confirmation has its depth, and looks once more whether it is there. */
  async #waitFinal(certificate: Certificate, signal: AbortSignal): Promise<void> {
    const { connection, config } = this.#parameters
    const { confirmations, pollIntervalMs } = config.chain
    const { client } = await connection.chain(signal)
    const block = certificate.block ?? Number(await client.getBlockNumber())
    while (Number(await client.getBlockNumber()) - block + 1 < confirmations) {
      await delay(pollIntervalMs, undefined, { signal })
    }
    const blob = await readBlob(connection, certificate)
    if (blob?.confirmed === true) return
    throw new AltDaError({
      code: 'PUT_TIMEOUT',
      message: 'a reorganisation of the DA chain took the confirmation away',
      fix: 'put the input again: nothing is paid twice',
    })
  }
}

function inputHashOf(input: Uint8Array): Hash {
  return toHex(keccak256(input))
}

function empty(): AltDaError {
  return new AltDaError({ code: 'INPUT_EMPTY', message: 'the input is empty', fix: 'send at least one byte' })
}
