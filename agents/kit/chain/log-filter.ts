import { type AbiEvent, toEventSelector } from 'viem'
import { WeightlessError } from '#protocol/error.ts'
import type { Hash, RawLog } from './block.ts'

/** Topic filter as in eth_getLogs: by position; `null` matches anything, a list any of its members. */
export type TopicFilter = readonly (Hash | readonly Hash[] | null)[]

/** Which logs are wanted. */
export interface LogFilter {
  readonly addresses: readonly Hash[]
  readonly topics: TopicFilter
  /** In the form eth_getLogs takes. */
  toRpc(): { address: readonly Hash[]; topics: TopicFilter }
  matches(log: Pick<RawLog, 'address' | 'topics'>): boolean
}

const ADDRESS = /^0x[0-9a-f]{40}$/
const TOPIC = /^0x[0-9a-f]{64}$/

/** @throws WeightlessError `LOG_FILTER` naming the field. */
export function createLogFilter(parameters: LogFilterParameters): LogFilter {
  const given = typeof parameters.address === 'string' ? [parameters.address] : parameters.address
  const addresses = given.map((address) => address.toLowerCase() as Hash)
  const bad = addresses.find((address) => !ADDRESS.test(address))
  if (bad !== undefined || addresses.length === 0) throw invalid('address', bad ?? 'no address')
  if (parameters.events !== undefined && parameters.topics !== undefined) throw invalid('topics', 'topics and events')
  const topics: TopicFilter =
    parameters.events !== undefined
      ? [parameters.events.map((event) => toEventSelector(event))]
      : (parameters.topics ?? []).map((topic) => {
          if (topic === null) return null
          return typeof topic === 'string' ? lower(topic) : topic.map(lower)
        })
  if (topics.length > 4) throw invalid('topics', 'more than 4 topics')
  for (const topic of topics.flat()) if (topic !== null && !TOPIC.test(topic)) throw invalid('topics', topic)
  return {
    addresses,
    topics,
    toRpc: () => ({ address: addresses, topics }),
    matches: (log) =>
      addresses.includes(log.address) &&
      topics.every((wanted, position) => {
        if (wanted === null) return true
        const topic = log.topics[position]
        return topic !== undefined && (typeof wanted === 'string' ? wanted === topic : wanted.includes(topic))
      }),
  }
}

export interface LogFilterParameters {
  /** One contract or several. */
  address: Hash | readonly Hash[]
  /** Raw topics, or `events`. Neither: every log of the contracts. */
  topics?: TopicFilter | undefined
  /** Any of these events, without conditions on their arguments. */
  events?: readonly AbiEvent[] | undefined
}

function lower(topic: Hash): Hash {
  return topic.toLowerCase() as Hash
}

function invalid(field: string, value: string): WeightlessError {
  return new WeightlessError({
    code: 'LOG_FILTER',
    message: `the log filter's ${field} is not usable: ${value}`,
    fix: 'give 20-byte addresses, and either up to 4 topics of 32 bytes or a list of events',
    details: { field, value },
  })
}
