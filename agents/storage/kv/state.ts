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
  const monitored = new Set(store.streams())
  const is = (control: number, { streamId, account, key }: Right): boolean =>
    store.control({ streamId, family: control & FAMILY_MASK, account, key, version }) === control

  const isWriterOfStream = ({ streamId, account }: { streamId: Hex; account: Hex }): boolean =>
    is(CONTROL.GRANT_WRITER_ROLE, { streamId, account, key: NO_KEY })
  return {
    isMonitored: (streamId) => monitored.has(streamId),
    latestVersion: ({ streamId, key }) => store.value(streamId, key, version)?.version,
    isNew: (streamId) => !store.hasRights(streamId, version),
    isAdmin: ({ streamId, account }) => is(CONTROL.GRANT_ADMIN_ROLE, { streamId, account, key: NO_KEY }),
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
