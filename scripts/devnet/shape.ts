import type { DevnetFile } from './devnet-file.ts'
import { DevnetError } from './error.ts'
import { minerNames, planNodes } from './storage-agents.ts'

/** What can be run beside the chain and storage, which everything else stands on. */
export const devnetServices = ['kv', 'da', 'compute'] as const
export type DevnetService = (typeof devnetServices)[number]

/** What of a devnet stays as it was when it is started again. */
export type DevnetShape = Pick<DevnetFile, 'nodesPerReplica' | 'replicas' | 'services'>

/** What is asked for; undefined is the default, or what was. */
export interface WantedShape {
  nodesPerReplica?: number | undefined
  replicas?: number | undefined
  services?: readonly DevnetService[] | undefined
  miners?: number | 'shards' | undefined
  portBase?: number | undefined
}

const defaultPortBase = 26_700

/** The shape asked for. Throws {@link DevnetError} `DEVNET_SHAPE` when it cannot be, or does not fit the data. */
export function shapeOf({ wanted, before }: { wanted: WantedShape; before: DevnetFile | undefined }): DevnetShape {
  const nodesPerReplica = wanted.nodesPerReplica ?? before?.nodesPerReplica ?? 2
  const replicas = wanted.replicas ?? before?.replicas ?? 1
  if (!Number.isInteger(Math.log2(nodesPerReplica)) || nodesPerReplica > 64 || replicas < 1 || replicas > 16) {
    throw new DevnetError({
      code: 'DEVNET_SHAPE',
      message: `${nodesPerReplica} nodes in ${replicas} replicas cannot be`,
      fix: 'give --nodes 1, 2, 4 … 64 and --replicas 1 to 16',
      details: { nodesPerReplica, replicas },
    })
  }
  if (before !== undefined && before.nodesPerReplica !== nodesPerReplica) {
    throw new DevnetError({
      code: 'DEVNET_SHAPE',
      message: `this devnet's data is in ${before.nodesPerReplica} shards, and ${nodesPerReplica} are asked for`,
      fix: `give --nodes ${before.nodesPerReplica}, or start over with --fresh`,
      details: { was: before.nodesPerReplica, asked: nodesPerReplica },
    })
  }
  const services = [...(wanted.services ?? before?.services ?? devnetServices)]
  return { nodesPerReplica, replicas, services }
}

/** The port each part would like to have. */
export function wantedPorts({
  wanted,
  before,
  shape,
  others,
}: {
  wanted: WantedShape
  before: DevnetFile | undefined
  shape: DevnetShape
  /** Names of the parts other than chain and storage. */
  others: readonly string[]
}): Record<string, number> {
  const base = wanted.portBase ?? defaultPortBase
  const remembered = wanted.portBase === undefined ? before?.ports : undefined
  const nodeParts = planNodes(shape).flatMap(({ name }) => [name, `${name} admin`])
  const entries = [
    ['chain', base] as const,
    ['indexer', base + 1] as const,
    ...(shape.services.includes('kv') ? [['kv', base + 2] as const] : []),
    ...nodeParts.map((name, index) => [name, base + 10 + index] as const),
    ...minerNamesOf({ wanted, shape }).map((name, index) => [name, base + 500 + index] as const),
    ...others.map((name, index) => [name, base + 600 + index] as const),
  ]
  return Object.fromEntries(entries.map(([name, port]) => [name, remembered?.[name] ?? port]))
}

/** Names of the miners asked for. */
export function minerNamesOf({
  wanted: { miners = 0 },
  shape,
}: {
  wanted: WantedShape
  shape: Pick<DevnetShape, 'nodesPerReplica'>
}): string[] {
  return minerNames(miners === 'shards' ? shape.nodesPerReplica : miners)
}
