import type { Hex } from '#protocol/hex.ts'
import type { StreamState } from '#protocol/kv/replay.ts'
import { CONTROL, type StreamKey } from '#protocol/kv/stream-data.ts'
import type { KvStore } from './store.ts'

const NO_KEY = new Uint8Array()
const NO_ACCOUNT: Hex = '0x0000000000000000000000000000000000000000'
const FAMILY_MASK = 0xf0

/** The newest version there can be: the state as replay left it. */
export const LATEST = Number.MAX_SAFE_INTEGER

/** The state of the streams as of `version` (a submission's sequence number, inclusive), read from the tables. */
export function stateAt(store: KvStore, version: number): StreamState {
  const known = new Map<string, boolean>()
  /** A write of many keys asks the same of its stream for each: once is enough, the state does not change. */
  const once = (question: string, answer: () => boolean): boolean => {
    const before = known.get(question)
    if (before !== undefined) return before
    const now = answer()
    known.set(question, now)
    return now
  }
  const is = (control: number, { streamId, account, key }: Right): boolean =>
    store.control({ streamId, family: control & FAMILY_MASK, account, key, version }) === control
  const isInStream = (control: number, { streamId, account }: { streamId: Hex; account: Hex }): boolean =>
    once(`${control} ${streamId} ${account}`, () => is(control, { streamId, account, key: NO_KEY }))

  const isWriterOfStream = ({ streamId, account }: { streamId: Hex; account: Hex }): boolean =>
    isInStream(CONTROL.GRANT_WRITER_ROLE, { streamId, account })
  return {
    isMonitored: (streamId) => once(`monitored ${streamId}`, () => store.monitors(streamId)),
    latestVersion: ({ streamId, key }) => store.value(streamId, key, version)?.version,
    isNew: (streamId) => once(`new ${streamId}`, () => !store.hasRights(streamId, version)),
    isAdmin: (right) => isInStream(CONTROL.GRANT_ADMIN_ROLE, right),
    isSpecialKey: ({ streamId, key }) => is(CONTROL.SET_KEY_TO_SPECIAL, { streamId, account: NO_ACCOUNT, key }),
    isWriterOfStream,
    isWriterOfKey: (right) => is(CONTROL.GRANT_SPECIAL_WRITER_ROLE, right),
    isWriterOfAnything: ({ streamId, account }) =>
      isWriterOfStream({ streamId, account }) ||
      store.hasControlOnAnyKey(
        { streamId, family: CONTROL.GRANT_SPECIAL_WRITER_ROLE & FAMILY_MASK, account, version },
        CONTROL.GRANT_SPECIAL_WRITER_ROLE,
      ),
  }
}

interface Right extends StreamKey {
  account: Hex
}
