import type { Address } from 'viem'
import { signersAbi } from '#client/da/abi.ts'
import { fetchQuorum } from '#client/da/quorum-reader.ts'
import type { Chain } from '#kit/chain/client.ts'
import type { OwnRows } from '../intake/intake.ts'

/** This signer's place in an epoch. */
export interface OwnPlace extends OwnRows {
  /** Position in the epoch's order: its bit. */
  index: number
  stakeWei: bigint
  totalStakeWei: bigint
}

const MAX_KEPT = 512

/** Which epoch it is, and where this signer stands in each. */
export class Epochs {
  readonly #chain: Chain
  readonly #signers: Address
  readonly #signer: Address
  readonly #places = new Map<number, Promise<OwnPlace | undefined>>()
  #current = 0

  constructor({ chain, signers, signer }: { chain: Chain; signers: Address; signer: Address }) {
    this.#chain = chain
    this.#signers = signers
    this.#signer = signer.toLowerCase() as Address
  }

  /** As last read. */
  get current(): number {
    return this.#current
  }

  /** Reads the epoch of the chain's head. */
  async refresh(): Promise<number> {
    const call = { address: this.#signers, abi: signersAbi, functionName: 'epochNumber' } as const
    this.#current = Number(await this.#chain.client.readContract(call))
    return this.#current
  }

  /** This signer's place; undefined when it has none, or the epoch has not begun. */
  async own(epoch: number): Promise<OwnPlace | undefined> {
    if (epoch > this.#current && epoch > (await this.refresh())) return undefined
    const known = this.#places.get(epoch)
    if (known !== undefined) return known
    const place = this.#read(epoch)
    this.#places.set(epoch, place)
    place.catch(() => this.#places.delete(epoch))
    const [oldest] = this.#places.size > MAX_KEPT ? this.#places.keys() : []
    if (oldest !== undefined) this.#places.delete(oldest)
    return place
  }

  /** Forgets what was read: a reorganisation may have changed it. */
  forget(): void {
    this.#places.clear()
  }

  async #read(epoch: number): Promise<OwnPlace | undefined> {
    const quorum = await fetchQuorum({ chain: this.#chain, signers: this.#signers, epoch })
    const own = quorum.signers.find(({ address }) => address === this.#signer)
    if (own === undefined) return undefined
    const { index, stakeWei, firstRow, rowCount } = own
    return { index, stakeWei, firstRow, rowCount, totalStakeWei: quorum.totalStakeWei }
  }
}
