import { encodeEventTopics, type Log } from 'viem'
import type { Chain } from '#kit/chain/client.ts'
import { genesisOf } from '#kit/chain/genesis.ts'
import { flowAbi } from '#protocol/abi/flow.ts'
import type { Hex } from '#protocol/hex.ts'
import type { FileTree } from '#protocol/storage/file-tree.ts'
import { submissionIdentity, validateSubmission } from '#protocol/storage/submission.ts'
import type { StorageConnection } from './connection.ts'
import { FlowRefusedError, SettingMissingError } from './errors.ts'
import type { TransferListener } from './events.ts'
import { prepareSubmit, quoteSubmission, readSubmitEvents, type SubmitEvent } from './flow-contract.ts'
import { resumeSend, type SendOnceParameters, signAndSend } from './send-once.ts'
import { openSubmissionJournal } from './submission-journal.ts'

export interface SubmitFileParameters {
  tree: FileTree
  flow: Hex
  /** Bytes recorded with the submission; the key-value layer puts stream ids here. Default none. */
  tags?: Hex | undefined
  /**
   * Look on the chain for a submission of the same content from this block on, before paying: what the storage nodes
   * have not read yet. Left out, the chain is not searched.
   */
  searchFromBlock?: number | undefined
  /** Pay even where the content was submitted before. Default false. */
  force?: boolean | undefined
  signal?: AbortSignal | undefined
  onEvent?: TransferListener | undefined
}

export interface SubmitFileReturnType {
  txSeq: number
  block: number
  /** Undefined where somebody's earlier submission is used. */
  txHash: Hex | undefined
  /** What was paid by this call; 0 where an earlier submission is used. */
  feeWei: bigint
  paid: boolean
}

/**
 * Put a file's root on the chain, paying the storage fee, unless that has happened already: a transaction of ours still
 * on its way (journal) or a submission of the same content on the chain is used instead.
 *
 * @throws InsufficientFundsError, FlowRefusedError, WaitTimeoutError, SettingMissingError
 * @example
 * const { txSeq, feeWei } = await submitFile(connection, { tree, flow })
 */
export async function submitFile(
  connection: StorageConnection,
  parameters: SubmitFileParameters,
): Promise<SubmitFileReturnType> {
  const { tree, flow, tags = '0x', signal, onEvent } = parameters
  const { account, limits } = connection
  const submission = { sizeBytes: tree.sizeBytes, tags, nodes: tree.nodes }
  validateSubmission(submission)
  const chain = await connection.chain({ purpose: 'pay for a file', signal })
  if (account === undefined) throw new SettingMissingError({ setting: 'account', purpose: 'pay for a file' })
  const identity = submissionIdentity(tree.nodes)
  const same = (event: SubmitEvent) =>
    event.identity === identity && event.sizeBytes === tree.sizeBytes && event.tags === tags
  const journal = openSubmissionJournal({
    dir: connection.journalDir,
    chainId: chain.id,
    genesis: await genesisOf(chain),
    flow,
    submitter: account.address,
    identity,
    sizeBytes: tree.sizeBytes,
    tags,
  })

  const quote = await quoteSubmission({ chain, flow, nodes: tree.nodes })
  const send = (data: Hex, gas: bigint): SendOnceParameters => ({
    chain,
    account,
    journal,
    root: tree.root,
    to: flow,
    data,
    gas,
    valueWei: quote.feeWei,
    timeoutMs: limits.receiptTimeoutMs,
    pollIntervalMs: limits.pollIntervalMs,
    signal,
    onSent: (txHash) => onEvent?.({ type: 'transaction-sent', txHash }),
    onWaiting: ({ waitedMs, reason }) =>
      onEvent?.({
        type: 'waiting',
        for: 'receipt',
        waitedMs,
        missing: [{ url: chain.endpoints[0] ?? 'chain', reason }],
      }),
  })

  for (;;) {
    // Only signing and sending happens under the lock, so that several files share a block.
    const begun = await connection.exclusively(`${chain.id}/${account.address}`, async () => {
      const journalled = await journal.read()
      if (journalled !== undefined) return { type: 'journalled' as const, entry: journalled }
      const earlier =
        parameters.force === true
          ? []
          : await searchChain({ chain, flow, identity, fromBlock: parameters.searchFromBlock })
      const found = earlier.find(same)
      if (found !== undefined) return { type: 'found' as const, event: found }
      onEvent?.({ type: 'fee', feeWei: quote.feeWei, sectors: quote.sectors })
      const trial = { chain, flow, submission, submitter: account.address, feeWei: quote.feeWei }
      const { data, gas } = await prepareSubmit(trial)
      return { type: 'sent' as const, entry: await signAndSend(send(data, gas)) }
    })
    if (begun.type === 'found') {
      const { txSeq, block } = begun.event
      onEvent?.({ type: 'submission-found', txSeq, by: 'chain' })
      return { txSeq, block, txHash: undefined, feeWei: 0n, paid: false }
    }
    const receipt = await resumeSend(begun.entry, send('0x', 0n))
    const event = receipt === undefined ? undefined : readSubmitEvents({ flow, logs: receipt.logs }).find(same)
    const paid = begun.type === 'sent'
    if (receipt !== undefined && event !== undefined) {
      const { txSeq, block } = event
      const txHash = receipt.transactionHash
      if (paid) onEvent?.({ type: 'transaction-mined', txHash, txSeq, block })
      else onEvent?.({ type: 'submission-found', txSeq, by: 'journal' })
      return { txSeq, block, txHash, feeWei: paid ? quote.feeWei : 0n, paid }
    }
    await journal.remove()
    if (paid) throw new FlowRefusedError({ flow, reason: 'the transaction was replaced, or left no Submit event' })
  }
}

/** Forget a submission's journal entry: its file is stored, so repeating the upload needs the entry no more. */
export async function forgetSubmission(
  connection: StorageConnection,
  { tree, flow, tags = '0x' }: Pick<SubmitFileParameters, 'tree' | 'flow' | 'tags'>,
): Promise<void> {
  if (connection.account === undefined || !connection.hasChain) return
  const chain = await connection.chain({ purpose: 'pay for a file' })
  await openSubmissionJournal({
    dir: connection.journalDir,
    chainId: chain.id,
    genesis: await genesisOf(chain),
    flow,
    submitter: connection.account.address,
    identity: submissionIdentity(tree.nodes),
    sizeBytes: tree.sizeBytes,
    tags,
  }).remove()
}

/** A node further behind than this is still catching up; public endpoints refuse longer ranges anyway. */
const MAX_SEARCH_BLOCKS = 5_000

async function searchChain({
  chain,
  flow,
  identity,
  fromBlock,
}: {
  chain: Chain
  flow: Hex
  identity: Hex
  fromBlock: number | undefined
}): Promise<SubmitEvent[]> {
  if (fromBlock === undefined) return []
  const head = Number(await chain.client.getBlockNumber())
  const from = Math.max(0, fromBlock, head - MAX_SEARCH_BLOCKS)
  if (from > head) return []
  const topics = encodeEventTopics({ abi: flowAbi, eventName: 'Submit', args: { identity } })
  try {
    const logs = await chain.client.request({
      method: 'eth_getLogs',
      params: [
        {
          address: flow,
          topics: topics as Hex[],
          fromBlock: `0x${from.toString(16)}`,
          toBlock: `0x${head.toString(16)}`,
        },
      ],
    })
    return readSubmitEvents({ flow, logs: logs as unknown as Log[] })
  } catch {
    // An endpoint that refuses log queries must not stand in the way of an upload.
    return []
  }
}
