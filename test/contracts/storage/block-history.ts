import type { Connection } from './storage-fixture.ts'

/** Where EIP-2935 keeps the hashes of the last 8191 blocks. */
export const HISTORY_ADDRESS = '0x0000F90827F1C53a10cb7A02335B175320002935'

/** The runtime code that EIP-2935 gives. */
const HISTORY_CODE =
  '0x3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f35600143038111604257611fff81430311604257611fff9006545f5260205ff35b5f5ffd5b5f35611fff60014303065500'

const HISTORY_SLOTS = 8191n

/**
 * Puts the real history contract where the simulated chain has one that always reverts. The simulated chain does not
 * write to it: {@link recordHistory} does.
 */
export async function installHistory({ networkHelpers }: Connection): Promise<void> {
  await networkHelpers.setCode(HISTORY_ADDRESS, HISTORY_CODE)
}

/**
 * Writes the hashes of these blocks, as a chain with EIP-2935 does by itself. The block that a transaction is going to
 * be in asks about its parent as well: the head at the time of sending.
 */
export async function recordHistory(connection: Connection, ...blocks: number[]): Promise<void> {
  for (const number of blocks) {
    const block = await connection.ethers.provider.getBlock(number)
    if (block?.hash == null) throw new Error(`there is no block ${number}`)
    await setHistory(connection, number, block.hash)
  }
}

/** Writes any hash for a block. */
export async function setHistory({ networkHelpers }: Connection, number: number, hash: string): Promise<void> {
  await networkHelpers.setStorageAt(HISTORY_ADDRESS, BigInt(number) % HISTORY_SLOTS, hash)
}
