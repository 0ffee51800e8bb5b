import { type Hex, toHex } from '../hex.ts'
import {
  CONTROL,
  parseStreamControls,
  parseStreamHead,
  type StreamControl,
  StreamDataError,
  type StreamHead,
  type StreamKey,
  type StreamReader,
} from './stream-data.ts'

/** A stream write as the chain knows it. `sender` is the transaction's own sender, never a field of the event. */
export interface StreamTransaction {
  seq: number
  sender: Hex
  /** Ids in the tags. */
  streamIds: readonly Hex[]
}

/** The rights and versions that hold just before a transaction. */
export interface StreamState {
  /** This node replays the stream. */
  isMonitored(streamId: Hex): boolean
  /** Sequence number of the newest write of the key, undefined when it never was written. */
  latestVersion(at: StreamKey): number | undefined
  /** No rights were ever given in the stream. */
  isNew(streamId: Hex): boolean
  isAdmin(right: { streamId: Hex; account: Hex }): boolean
  isSpecialKey(at: StreamKey): boolean
  isWriterOfStream(right: { streamId: Hex; account: Hex }): boolean
  isWriterOfKey(right: StreamKey & { account: Hex }): boolean
  /** Writer of the stream, or of at least one special key of it. */
  isWriterOfAnything(right: { streamId: Hex; account: Hex }): boolean
}

/** A value to keep: bytes `[offset, offset + length)` of the stream data; length 0 deletes the key. */
export interface ValueRange extends StreamKey {
  offset: number
  length: number
}

/** One right to record: of all controls of a family, stream, key and account, the one that counts. */
export interface RightChange {
  control: number
  streamId: Hex
  /** Empty where the control has no key. */
  key: Uint8Array
  /** The zero address where the control has no account. */
  account: Hex
}

/** What a transaction does: everything, or nothing and the reason that `kv_getTransactionResult` gives. */
export type ReplayOutcome =
  | { result: 'Commit'; writes: ValueRange[]; rights: RightChange[] }
  | { result: string; writes?: undefined; rights?: undefined }

export const NO_PERMISSION = 'SenderNoWritePermission'
export const NO_ACCOUNT: Hex = '0x0000000000000000000000000000000000000000'

/** Whether the account may write the key. Source: 0G storage-kv access rules. */
export function hasWritePermission(state: StreamState, right: StreamKey & { account: Hex }): boolean {
  if (state.isNew(right.streamId) || state.isAdmin(right)) return true
  return state.isSpecialKey(right) ? state.isWriterOfKey(right) : state.isWriterOfStream(right)
}

/** Whether the sender can write on any stream of the transaction: if not, its data need not be fetched. */
export function mayWriteSomething(state: StreamState, { sender, streamIds }: StreamTransaction): boolean {
  return streamIds.some((streamId) => {
    const right = { streamId, account: sender }
    return state.isNew(streamId) || state.isAdmin(right) || state.isWriterOfAnything(right)
  })
}

/**
 * Replays one stream write on the state before it. Deterministic: every node that holds the same bytes and the same
 * history gets the same outcome. Errors of the reader (data that cannot be read) pass through; broken data do not
 * throw, they are an outcome.
 *
 * @example
 * const outcome = await replayTransaction({ transaction, reader, state })
 * if (outcome.result === 'Commit') store(outcome.writes, outcome.rights)
 */
export async function replayTransaction({ transaction, reader, state }: ReplayParameters): Promise<ReplayOutcome> {
  if (!mayWriteSomething(state, transaction)) return { result: NO_PERMISSION }
  try {
    const head = await parseStreamHead(reader)
    const refusal = checkVersionsAndWrites({ head, transaction, state })
    if (refusal !== undefined) return { result: refusal }
    const controls = await parseStreamControls(reader, head)
    const rights = decideRights({ controls, transaction, state })
    if (typeof rights === 'string') return { result: rights }
    return { result: 'Commit', writes: valueRanges(head), rights }
  } catch (error) {
    if (error instanceof StreamDataError) return { result: `DataParseError: ${error.message}` }
    throw error
  }
}

export interface ReplayParameters {
  transaction: StreamTransaction
  reader: StreamReader
  state: StreamState
}

function checkVersionsAndWrites({
  head,
  transaction,
  state,
}: {
  head: StreamHead
  transaction: StreamTransaction
  state: StreamState
}): string | undefined {
  const tagged = new Set(transaction.streamIds)
  const conflicts = (at: StreamKey): boolean => BigInt(state.latestVersion(at) ?? 0) > head.version
  for (const read of head.reads) {
    if (!state.isMonitored(read.streamId)) return 'TagsMismatch'
    if (conflicts(read)) return 'VersionConfliction'
  }
  for (const write of head.writes) {
    if (!tagged.has(write.streamId)) return 'TagsMismatch'
    if (conflicts(write)) return 'VersionConfliction'
  }
  for (const write of head.writes) {
    if (hasWritePermission(state, { ...write, account: transaction.sender })) continue
    return `WritePermissionDenied: stream: ${write.streamId}, key: ${keyText(write.key)}`
  }
  return undefined
}

/** The last write of a key wins; values lie one after another in the order of the list. */
function valueRanges(head: StreamHead): ValueRange[] {
  const ranges = new Map<string, ValueRange>()
  let offset = head.dataOffset
  for (const { streamId, key, dataLength } of head.writes) {
    ranges.set(`${streamId}${toHex(key)}`, { streamId, key, offset, length: dataLength })
    offset += dataLength
  }
  return [...ranges.values()]
}

/** The rights that the controls leave, or the text of the refusal. */
function decideRights({
  controls,
  transaction: { sender, streamIds },
  state,
}: {
  controls: readonly StreamControl[]
  transaction: StreamTransaction
  state: StreamState
}): RightChange[] | string {
  const rights = new Map<string, RightChange>()
  const admins = new Set<Hex>()
  for (const streamId of streamIds) {
    if (state.isNew(streamId)) {
      // Whoever first writes a stream owns it.
      const change = { control: CONTROL.GRANT_ADMIN_ROLE, streamId, key: new Uint8Array(), account: sender }
      rights.set(rightName(change), change)
      admins.add(streamId)
    } else if (state.isAdmin({ streamId, account: sender })) admins.add(streamId)
  }
  const tagged = new Set(streamIds)
  for (const control of controls) {
    if (!tagged.has(control.streamId)) return 'TagsMismatch'
    if (!mayControl({ control, sender, isAdmin: admins.has(control.streamId), state })) return denied(control, sender)
    const change = rightChange(control, sender)
    const name = rightName(change)
    // An admin grant only counts where nothing about that account came before it, and never for the sender.
    if (control.name === 'GRANT_ADMIN_ROLE' && (rights.has(name) || change.account === sender)) continue
    rights.set(name, change)
  }
  return [...rights.values()]
}

function mayControl({
  control: { name, streamId, key = new Uint8Array() },
  sender,
  isAdmin,
  state,
}: {
  control: StreamControl
  sender: Hex
  isAdmin: boolean
  state: StreamState
}): boolean {
  if (isAdmin || name.startsWith('RENOUNCE_')) return true
  const right = { streamId, key, account: sender }
  if (name === 'GRANT_WRITER_ROLE') return state.isWriterOfStream(right)
  if (name === 'GRANT_SPECIAL_WRITER_ROLE') return state.isWriterOfKey(right)
  return false
}

function rightChange({ name, streamId, key = new Uint8Array(), account }: StreamControl, sender: Hex): RightChange {
  const self = name.startsWith('RENOUNCE_') ? sender : NO_ACCOUNT
  return { control: CONTROL[name], streamId, key, account: account ?? self }
}

function rightName({ control, streamId, key, account }: RightChange): string {
  return `${control & 0xf0}${streamId}${account}${toHex(key)}`
}

function denied({ name, streamId, key = new Uint8Array(), account = NO_ACCOUNT }: StreamControl, sender: Hex): string {
  const subject = name.startsWith('RENOUNCE_') ? sender : account
  return `AccessControlPermissionDenied: operation: ${name}, stream: ${streamId}, key: ${keyText(key)}, account: ${subject}`
}

const KEY_TEXT_CHARACTERS = 32

/** A key as the reference nodes show it in results. */
function keyText(key: Uint8Array): string {
  if (key.length === 0) return 'NONE'
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(key)
    return [...text].slice(0, KEY_TEXT_CHARACTERS).join('')
  } catch {
    return 'UNKNOWN'
  }
}
