import { setTimeout as delay } from 'node:timers/promises'
import { decodeFunctionData, encodeFunctionData, parseEventLogs, zeroAddress } from 'viem'
import { createSender } from '#kit/chain/sender.ts'
import { silentLog } from '#kit/log.ts'
import { blobHeader } from '#protocol/da/commitment.ts'
import { SUBLINE_BYTES } from '#protocol/da/constants.ts'
import { verifySubline } from '#protocol/da/row-proof.ts'
import { fromHex, type Hash, type Hex } from '#protocol/hex.ts'
import { custodyAbi, signersAbi } from './abi.ts'
import { type BlobRecord, findBlob } from './blob-record.ts'
import type { DaConnection } from './connection.ts'
import { BlobUnavailableError } from './errors.ts'

export interface DemandParameters {
  dataRoot: Hash
  /** The submission meant. Default: the latest confirmed one. */
  epoch?: number | undefined
  /** Row, 0 to 3071: the signer that it belongs to must answer. */
  row: number
  signal?: AbortSignal | undefined
  onEvent?: ((event: DemandEvent) => void) | undefined
}

export type DemandEvent =
  | { type: 'asked'; id: Hash; signer: Hex; bondWei: bigint; deadlineBlock: number; txHash: Hash }
  | { type: 'waiting'; block: number; deadlineBlock: number }

export interface DemandReturnType {
  id: Hash
  signer: Hex
  /** Paid to the signer when it answered; due to this account again when it did not. */
  bondWei: bigint
  /** The row, from the chain and verified; undefined when the signer did not answer. */
  data: Uint8Array | undefined
  /** Stake that the signer lost. */
  slashedWei: bigint
}

/**
 * Demand a row on chain from the signer that signed for it, with a bond. It answers there, for all to read, and gets the
 * bond; or it is slashed after the deadline, and the bond and a share of the stake are this account's to draw from the
 * custody contract.
 *
 * @throws BlobUnknownError; reverts of the contract by name (`RowNotSigned`, `ChallengeOpen`, …)
 */
export async function demandRow(connection: DaConnection, parameters: DemandParameters): Promise<DemandReturnType> {
  const { row, signal, onEvent } = parameters
  const blob = await findBlob(connection, parameters)
  const chain = await connection.chain(signal)
  const { client } = chain
  const signersContract = { address: connection.contracts.signers, abi: signersAbi } as const
  const address = await client.readContract({ ...signersContract, functionName: 'custody' })
  const custody = { address, abi: custodyAbi } as const
  const count = Math.ceil(blobHeader(blob.sizeBytes).rowBytes / SUBLINE_BYTES)
  const request = {
    ...{ dataRoot: blob.dataRoot, epoch: BigInt(blob.epoch), quorumId: BigInt(blob.quorumId) },
    ...{ row, fromSubline: 0, toSubline: count },
  }
  const [, bondPerSubline] = await client.readContract({ ...custody, functionName: 'terms' })
  const bondWei = bondPerSubline * BigInt(count)
  const account = connection.payer('demand rows')
  // With the errors of the contract behind it, which speak of rows.
  const sender = createSender({ chain, account, abi: [...custodyAbi, ...signersAbi], log: silentLog() })
  try {
    const data = encodeFunctionData({ ...custody, functionName: 'challengeCustody', args: [request] })
    const receipt = await sender.send({ to: address, data, valueWei: bondWei }, { signal })
    const [asked] = parseEventLogs({ abi: custodyAbi, eventName: 'CustodyChallenged', logs: receipt.logs })
    if (asked === undefined) throw new RangeError('a challenge left no event')
    const { id, signer, deadlineBlock } = asked.args
    onEvent?.({
      ...{ type: 'asked', id, signer, bondWei },
      ...{ deadlineBlock: Number(deadlineBlock), txHash: receipt.transactionHash },
    })
    for (;;) {
      const open = await client.readContract({ ...custody, functionName: 'challengeOf', args: [id] })
      const block = await client.getBlockNumber()
      if (open.reader === zeroAddress) break
      if (block > deadlineBlock) {
        const expire = encodeFunctionData({ ...custody, functionName: 'expireCustody', args: [id] })
        // Somebody else may have done it meanwhile: what counts is the event.
        await sender.send({ to: address, data: expire }, { signal }).catch((error: unknown) => {
          if (signal?.aborted) throw error
        })
        break
      }
      onEvent?.({ type: 'waiting', block: Number(block), deadlineBlock: Number(deadlineBlock) })
      await delay(connection.limits.pollIntervalMs, undefined, { signal })
    }
    const outcome = { connection, custody, id, fromBlock: receipt.blockNumber }
    const answer = await readAnswer({ ...outcome, blob, row, count })
    const slashedWei = answer === undefined ? await readSlash(outcome) : 0n
    return { id, signer, bondWei, data: answer, slashedWei }
  } finally {
    await sender.close()
  }
}

interface Outcome {
  connection: DaConnection
  custody: { address: Hex; abi: typeof custodyAbi }
  id: Hash
  fromBlock: bigint
}

/** The row out of the answer's transaction; undefined when there is none. */
async function readAnswer({
  connection,
  custody,
  id,
  fromBlock,
  blob,
  row,
  count,
}: Outcome & { blob: BlobRecord; row: number; count: number }): Promise<Uint8Array | undefined> {
  const { client } = await connection.chain()
  const filter = { ...custody, eventName: 'CustodyAnswered', args: { id }, fromBlock } as const
  const [event] = await client.getContractEvents(filter)
  if (event === undefined) return undefined
  const { input } = await client.getTransaction({ hash: event.transactionHash })
  const { functionName, args } = decodeFunctionData({ abi: custodyAbi, data: input })
  if (functionName !== 'answerCustody') return undefined
  const [, pieces, proofs] = args
  const header = blobHeader(blob.sizeBytes)
  const parts = pieces.map((piece, subline) => {
    const [data, path] = [fromHex(piece), Buffer.concat((proofs[subline] ?? []).map((hash) => fromHex(hash)))]
    if (verifySubline({ rowRoot: blob.rowRoot, header, row, subline, data, path })) return data
    throw new BlobUnavailableError({ dataRoot: blob.dataRoot, haveRows: 0, needRows: 1, failures: [] })
  })
  return parts.length === count ? Buffer.concat(parts) : undefined
}

async function readSlash({ connection, custody, id, fromBlock }: Outcome): Promise<bigint> {
  const { client } = await connection.chain()
  const filter = { ...custody, eventName: 'CustodyFailed', args: { id }, fromBlock } as const
  const [event] = await client.getContractEvents(filter)
  return event?.args.slashedWei ?? 0n
}
