import type { Address } from 'viem'
import type { EncodedBlob } from '#protocol/da/blob-codec.ts'
import type { Hash } from '#protocol/hex.ts'
import { type DisperserAccount, depositAt, readAccount, requestWithdrawal, withdrawFrom } from './accounts.ts'
import { type CollectedSignatures, type CollectSignaturesParameters, collectSignatures } from './collect-signatures.ts'
import { type Certificate, type ConfirmBlobsParameters, confirmBlobs } from './confirm-blobs.ts'
import { type DaConnection, type DaConnectionParameters, openDaConnection } from './connection.ts'
import { type DemandParameters, type DemandReturnType, demandRow } from './demand.ts'
import { type DisperseParameters, type DisperseReturnType, disperse } from './disperse.ts'
import {
  type DisperseThroughParameters,
  type DisperseThroughReturnType,
  disperseThrough,
} from './disperser/disperse-through.ts'
import { type QuoteParameters, type QuoteReturnType, quoteBlob } from './quote.ts'
import { type RetrieveParameters, type RetrieveReturnType, retrieve } from './retrieve.ts'
import { type SampleParameters, type SampleReturnType, sample } from './sample.ts'
import { type SubmitBlobsParameters, type SubmittedBlob, submitBlobs } from './submit-blobs.ts'

export type { Certificate } from './confirm-blobs.ts'
export type { DaConnection, DaConnectionParameters, DaLimits } from './connection.ts'
export type { DaEvent, DaListener } from './events.ts'

/** The data-availability actions bound to one connection. Each is also a function of its own in the file of its name. */
export interface DaClient extends AsyncDisposable {
  readonly connection: DaConnection
  /** Encode, pay, bring the rows to the signers, certify. Repeatable without paying twice. */
  disperse(parameters: DisperseParameters): Promise<DisperseReturnType>
  /** The same by a disperser, which is paid by vouchers and not trusted. */
  disperseThrough(parameters: DisperseThroughParameters): Promise<DisperseThroughReturnType>
  /** What a user (default: the client's account) has with a disperser. */
  disperserAccount(parameters: { disperser: Address; user?: Address | undefined }): Promise<DisperserAccount>
  /** Deposit for a disperser. Resolves to the transaction. */
  deposit(parameters: { disperser: Address; amountWei: bigint; signal?: AbortSignal | undefined }): Promise<Hash>
  /** Announce a withdrawal; 0 takes it back. */
  requestWithdrawal(parameters: {
    disperser: Address
    amountWei: bigint
    signal?: AbortSignal | undefined
  }): Promise<Hash>
  /** Take back what was announced, after the lock time. */
  withdraw(parameters: { disperser: Address; signal?: AbortSignal | undefined }): Promise<Hash>
  /** Fetch a blob from its signers; the payload is verified. */
  retrieve(parameters: RetrieveParameters): Promise<RetrieveReturnType>
  /** Check by a few random rows that a blob can be had. */
  sample(parameters: SampleParameters): Promise<SampleReturnType>
  /** Demand a row on chain from the signer that signed for it. */
  demandRow(parameters: DemandParameters): Promise<DemandReturnType>
  quote(parameters: QuoteParameters): Promise<QuoteReturnType>
  /** Rows and commitment of a payload. Release it when done. */
  encode(data: Uint8Array, options?: { signal?: AbortSignal | undefined }): Promise<EncodedBlob>
  /** Stage 2 of a dispersal: one transaction for many blobs. */
  submitBlobs(parameters: SubmitBlobsParameters): Promise<SubmittedBlob[]>
  /** Stage 3: rows out, signatures in. */
  collectSignatures(parameters: CollectSignaturesParameters): Promise<CollectedSignatures>
  /** Stage 4: one transaction for many blobs. */
  confirmBlobs(parameters: ConfirmBlobsParameters): Promise<Certificate[]>
  close(): Promise<void>
}

/**
 * A client for data availability. Nothing is sent before the first action.
 *
 * @example
 * await using da = connectDa({ rpcUrl: 'http://127.0.0.1:8545', contracts: { signers, entrance }, account })
 * const { certificate } = await da.disperse({ data })
 * const { data: copy } = await da.retrieve({ dataRoot: certificate.dataRoot })
 */
export function connectDa(parameters: DaConnectionParameters): DaClient {
  const connection = openDaConnection(parameters)
  return {
    connection,
    disperse: (given) => disperse(connection, given),
    disperseThrough: (given) => disperseThrough(connection, given),
    disperserAccount: (given) => readAccount(connection, given),
    deposit: (given) => depositAt(connection, given),
    requestWithdrawal: (given) => requestWithdrawal(connection, given),
    withdraw: (given) => withdrawFrom(connection, given),
    retrieve: (given) => retrieve(connection, given),
    sample: (given) => sample(connection, given),
    demandRow: (given) => demandRow(connection, given),
    quote: (given) => quoteBlob(connection, given),
    encode: async (data, options = {}) => (await connection.codec()).encode(data, options),
    submitBlobs: (given) => submitBlobs(connection, given),
    collectSignatures: (given) => collectSignatures(connection, given),
    confirmBlobs: (given) => confirmBlobs(connection, given),
    close: () => connection.close(),
    [Symbol.asyncDispose]: () => connection.close(),
  }
}
