import { WeightlessError } from '../error.ts'
import { nextPowerOfTwo } from './padding.ts'

/** The part of the flow a node keeps: global segments g with g mod numShard = shardId. */
export interface ShardConfig {
  shardId: number
  /** A power of two. */
  numShard: number
}

/** A shard that cannot be, or nodes that do not cover the flow. */
export class ShardError extends WeightlessError {}

/** The most shards a flow may be cut into; bounds the coverage test over foreign configurations. */
export const MAX_SHARDS = 2 ** 24

/** Order in which nodes are tried, or the one shard count wanted. */
export type SelectionMethod = 'min' | 'max' | 'random' | number

/** Whether a node of this shard keeps the global segment. */
export function shardOwns({ shardId, numShard }: ShardConfig, globalSegment: number): boolean {
  return globalSegment % numShard === shardId
}

/** The first global segment from `fromGlobalSegment` on that a node of this shard keeps. */
export function nextOwnedSegment({ shardId, numShard }: ShardConfig, fromGlobalSegment: number): number {
  const behind = fromGlobalSegment % numShard
  return fromGlobalSegment - behind + shardId + (behind <= shardId ? 0 : numShard)
}

/**
 * `id/num`, as operators write it.
 *
 * @throws ShardError `SHARD_TEXT` or `SHARD_CONFIG`
 * @example
 * parseShard('1/4') // { shardId: 1, numShard: 4 }
 */
export function parseShard(text: string): ShardConfig {
  const match = /^(\d{1,10})\/(\d{1,10})$/.exec(text.trim())
  if (!match) {
    throw new ShardError({
      code: 'SHARD_TEXT',
      message: `not a shard: ${JSON.stringify(text.slice(0, 40))}`,
      fix: 'write shard id and shard count as id/count, for example 0/1 or 3/4',
    })
  }
  const shard = { shardId: Number(match[1]), numShard: Number(match[2]) }
  validateShard(shard)
  return shard
}

/** The text form of a shard. */
export function formatShard({ shardId, numShard }: ShardConfig): string {
  return `${shardId}/${numShard}`
}

/** Whether a configuration, perhaps from a stranger, names a shard. */
export function isShard({ shardId, numShard }: ShardConfig): boolean {
  return (
    Number.isInteger(shardId) &&
    Number.isInteger(numShard) &&
    numShard >= 1 &&
    numShard <= MAX_SHARDS &&
    nextPowerOfTwo(numShard) === numShard &&
    shardId >= 0 &&
    shardId < numShard
  )
}

/** @throws ShardError `SHARD_CONFIG` */
export function validateShard(shard: ShardConfig): void {
  if (isShard(shard)) return
  throw new ShardError({
    code: 'SHARD_CONFIG',
    message: `${shard.shardId}/${shard.numShard} is not a shard`,
    fix: `the count must be a power of two up to ${MAX_SHARDS}, the id from 0 to count - 1`,
    details: { shardId: shard.shardId, numShard: shard.numShard, limit: MAX_SHARDS },
  })
}

/** How many times the shards together cover the whole flow. Configurations that are no shards count nothing. */
export function replicaCount(shards: Iterable<ShardConfig>): number {
  const coverage = new Coverage()
  for (const shard of shards) if (isShard(shard)) coverage.insert(shard, Number.POSITIVE_INFINITY)
  return coverage.replicas
}

/**
 * A subset of nodes that covers the flow `replicas` times, taking nodes in the order of the method and skipping those
 * that add nothing (storage-node §8.2). `undefined` when there is none; the empty set when no replica is wanted.
 * Nodes whose configuration is no shard are left out.
 */
export function selectNodes<Node extends { config: ShardConfig }>({
  nodes,
  replicas,
  method,
  random = Math.random,
}: SelectNodesParameters<Node>): Node[] | undefined {
  const chosen: Node[] = []
  const coverage = new Coverage()
  if (replicas <= 0) return chosen
  for (const node of ordered({ nodes: nodes.filter(({ config }) => isShard(config)), method, random })) {
    if (coverage.insert(node.config, replicas)) chosen.push(node)
    if (coverage.replicas >= replicas) return chosen
  }
  return undefined
}

export interface SelectNodesParameters<Node> {
  nodes: readonly Node[]
  /** Times the flow must be covered. */
  replicas: number
  method: SelectionMethod
  /** Source of the shuffle, in [0, 1). */
  random?: (() => number) | undefined
}

/**
 * Coverage of the flow by shards: a binary trie over the low bits of the shard id, lowest first. The replicas below a
 * point are the shards that end there plus the lesser of the two halves.
 */
class Coverage {
  #own = 0
  #replicas = 0
  #even: Coverage | undefined
  #odd: Coverage | undefined

  get replicas(): number {
    return this.#replicas
  }

  /**
   * Adds a shard unless its whole part is covered `wanted` times already; whether it was added. `inherited` counts the
   * shards above this point, which cover it too.
   */
  insert({ shardId, numShard }: ShardConfig, wanted: number, inherited = 0): boolean {
    if (inherited + this.#replicas >= wanted) return false
    if (numShard === 1) {
      this.#own++
      this.#replicas++
      return true
    }
    this.#even ??= new Coverage()
    this.#odd ??= new Coverage()
    const half = shardId % 2 === 0 ? this.#even : this.#odd
    const below = { shardId: Math.floor(shardId / 2), numShard: numShard / 2 }
    const added = half.insert(below, wanted, inherited + this.#own)
    this.#replicas = this.#own + Math.min(this.#even.replicas, this.#odd.replicas)
    return added
  }
}

function ordered<Node extends { config: ShardConfig }>({
  nodes,
  method,
  random,
}: Required<Omit<SelectNodesParameters<Node>, 'replicas'>>): Node[] {
  // `turn` decides which shard counts come first; ids always ascend, as in 0G's clients.
  const byShard = (turn: 1 | -1) => (a: Node, b: Node) =>
    turn * (a.config.numShard - b.config.numShard) || a.config.shardId - b.config.shardId
  if (typeof method === 'number') return nodes.filter(({ config }) => config.numShard === method).sort(byShard(1))
  if (method === 'min') return [...nodes].sort(byShard(1))
  if (method === 'max') return [...nodes].sort(byShard(-1))
  return shuffled(nodes, random)
}

function shuffled<Node>(nodes: readonly Node[], random: () => number): Node[] {
  const mixed = [...nodes]
  for (let i = mixed.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    const [a, b] = [mixed[i], mixed[j]]
    if (a !== undefined && b !== undefined) [mixed[i], mixed[j]] = [b, a]
  }
  return mixed
}
