import type { Quorum } from '#protocol/da/quorum.ts'
import type { Hash } from '#protocol/hex.ts'
import type { DaConnection } from './connection.ts'
import type { RowSource } from './row-collector.ts'

/** The signers of an epoch with their rows and connections. `signed` tells who vouched for the blob. */
export function rowSources(connection: DaConnection, quorum: Quorum, signed: (index: number) => boolean): RowSource[] {
  return quorum.signers.map(({ address, index, socket, firstRow, rowCount }) => {
    const url = socketUrl(socket)
    return {
      address: address.toLowerCase() as Hash,
      url,
      http: connection.signer(url),
      firstRow,
      rowCount,
      signed: signed(index),
    }
  })
}

/** A signer's socket as an address: `http(s)://…` as it is, `host:port` (0G's form) with `http://` before it. */
export function socketUrl(socket: string): string {
  const text = socket.trim().slice(0, 300)
  const url = /^https?:\/\//i.test(text) ? text : `http://${text}`
  // What is no address leads nowhere, and the failure then names the signer.
  return URL.canParse(url) ? url.replace(/\/+$/, '') : 'http://invalid.invalid'
}
