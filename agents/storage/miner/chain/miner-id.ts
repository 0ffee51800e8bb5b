import { type Address, parseEventLogs, type TransactionReceipt, zeroAddress } from 'viem'
import type { TransactionSender } from '#kit/chain/sender.ts'
import type { Logger } from '#kit/log.ts'
import { poraMineAbi } from '#protocol/abi/pora-mine.ts'
import type { Hash } from '#protocol/hex.ts'
import { MinerError } from '../error.ts'
import type { MinerStore } from '../store/miner-store.ts'
import { gasCostWei, type MineContracts } from './mine-contracts.ts'

export interface ResolveMinerIdParameters {
  store: MinerStore
  contracts: MineContracts
  sender: TransactionSender
  /** From the configuration: the id, who is to earn, the seed of a new id. */
  wanted: { minerId?: Hash | undefined; beneficiary?: Address | undefined; seed: number }
  log: Logger
  signal: AbortSignal
}

/** Who mines, and who earns. */
export interface MinerIdentity {
  minerId: Hash
  beneficiary: Address
}

const META_ID = 'minerId'
const META_REQUEST = 'minerIdRequest'

/**
 * The miner's id: the one of the data folder, else the configured one, else a new one is registered for the
 * beneficiary. The sealed copy is bound to it.
 *
 * @throws MinerError `MINER_ID` when the id is not registered, or pays somebody else than configured
 */
export async function resolveMinerId(parameters: ResolveMinerIdParameters): Promise<MinerIdentity> {
  const { store, wanted } = parameters
  const kept = store.meta(META_ID) as Hash | undefined
  if (kept !== undefined && wanted.minerId !== undefined && kept !== wanted.minerId) {
    throw new MinerError({
      code: 'MINER_ID',
      message: `the sealed copy belongs to miner id ${kept}, configured is ${wanted.minerId}`,
      fix: 'leave mining.minerId out, or give another data.dir: data must be sealed anew for another id',
      details: { kept, configured: wanted.minerId },
    })
  }
  const minerId = kept ?? wanted.minerId ?? (await register(parameters))
  const beneficiary = await checkBeneficiary({ ...parameters, minerId })
  if (kept === undefined) store.setMeta(META_ID, minerId)
  return { minerId, beneficiary }
}

async function register(parameters: ResolveMinerIdParameters): Promise<Hash> {
  const { store, contracts, sender, wanted, log, signal } = parameters
  const beneficiary = wanted.beneficiary ?? sender.address
  const earlier = store.meta(META_REQUEST)
  if (earlier !== undefined) {
    // Sent by a run that ended before it was mined.
    const found = await sender
      .waitFor(earlier.split(' ') as Hash[], { timeoutMs: 30_000, signal })
      .catch(() => undefined)
    const minerId = found && readMinerId(found, contracts.mine)
    if (minerId) return minerId
  }
  log.info({ beneficiary, seed: wanted.seed }, 'registering a new miner id')
  const hashes: Hash[] = []
  const receipt = await sender.send(
    { to: contracts.mine, data: contracts.requestMinerIdData(beneficiary, wanted.seed), abi: poraMineAbi },
    {
      signal,
      onHash: (hash) => {
        hashes.push(hash)
        store.setMeta(META_REQUEST, hashes.join(' '))
      },
    },
  )
  recordGas(store, 'minerId', receipt)
  const minerId = readMinerId(receipt, contracts.mine)
  if (minerId) return minerId
  throw new MinerError({
    code: 'MINER_ID',
    message: `the transaction ${receipt.transactionHash} gave no miner id`,
    fix: 'check chain.mine: it is not the address of a mining contract',
    details: { transactionHash: receipt.transactionHash },
  })
}

async function checkBeneficiary(parameters: ResolveMinerIdParameters & { minerId: Hash }): Promise<Address> {
  const { contracts, sender, wanted, minerId, log, store, signal } = parameters
  const registered = await contracts.beneficiary(minerId)
  if (registered === zeroAddress) {
    throw new MinerError({
      code: 'MINER_ID',
      message: `miner id ${minerId} is not registered at ${contracts.mine}`,
      fix: 'check chain.mine and mining.minerId; after a reset of the chain, start with an empty data.dir',
      details: { minerId },
    })
  }
  if (wanted.beneficiary === undefined || wanted.beneficiary === registered) return registered
  if (registered === sender.address.toLowerCase()) {
    log.info({ minerId, to: wanted.beneficiary }, 'handing the id’s rewards to the configured beneficiary')
    const data = contracts.transferBeneficialData(wanted.beneficiary, minerId)
    recordGas(store, 'beneficiary', await sender.send({ to: contracts.mine, data, abi: poraMineAbi }, { signal }))
    return wanted.beneficiary
  }
  throw new MinerError({
    code: 'MINER_ID',
    message: `miner id ${minerId} pays ${registered}, configured is ${wanted.beneficiary}`,
    fix: `set mining.beneficiary to ${registered}, or have that account call transferBeneficial`,
    details: { minerId, registered, configured: wanted.beneficiary },
  })
}

/** The id in the contract's first NewMinerId event. */
function readMinerId(receipt: TransactionReceipt, mine: Address): Hash | undefined {
  const events = parseEventLogs({ abi: poraMineAbi, eventName: 'NewMinerId', logs: receipt.logs })
  return events.find(({ address }) => address.toLowerCase() === mine.toLowerCase())?.args.minerId
}

/** Keeps what a transaction that answers nothing has cost. */
export function recordGas(store: MinerStore, kind: string, receipt: TransactionReceipt, amountWei = 0n): void {
  const sql = 'insert into payment (at_ms, kind, tx, amount_wei, gas_wei) values (?, ?, ?, ?, ?)'
  const gas = String(gasCostWei(receipt))
  store.database.run(sql, Date.now(), kind, receipt.transactionHash, String(amountWei), gas)
}
