import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { LOCAL_CHAIN_ID } from '#kit/chain/local-chain.ts'
import type { DeployParametersInput } from '../deploy/parameters.ts'
import { type DevnetAgent, localUrl, startAgent } from './agent.ts'
import {
  computePortNames,
  fineTuningAgent,
  providerAgent,
  registerFineTuningProvider,
  registerProvider,
  storeDemoModel,
} from './compute-agents.ts'
import { deployContracts } from './contracts.ts'
import { daAgents, daPortNames, enterEpochOfSigners } from './da-agents.ts'
import { type DevnetFile, readDevnetFile, writeDevnetFile } from './devnet-file.ts'
import { claimDirectory } from './fresh.ts'
import { type HealthTarget, jsonRpc, waitHealthy } from './health.ts'
import { type DevnetLayout, devnetLayout } from './layout.ts'
import { endLeftovers } from './leftovers.ts'
import { takeDevnet } from './lock.ts'
import { choosePorts } from './ports.ts'
import { DevnetProcesses, stateOf } from './processes.ts'
import { fillFirstPool } from './seed-data.ts'
import { type DevnetService, minerNamesOf, shapeOf, wantedPorts } from './shape.ts'
import { indexerAgent, kvAgent, minerAgent, type NodePlan, nodeAgent, planMiners, planNodes } from './storage-agents.ts'
import type { ProcessEvent } from './supervised-process.ts'

/** What a devnet is to be. */
export interface DevnetParameters {
  /** Holds everything; made when it is not there. */
  directory: string
  /** Storage nodes of one replica: each holds one shard. A power of two. Default 2, or as it was. */
  nodesPerReplica?: number | undefined
  /** How many times the data is held. Default 1, or as it was. */
  replicas?: number | undefined
  /** How many miners to run, dealt out over the shards; `shards` for one each. Default 0. */
  miners?: number | 'shards' | undefined
  /** What is run besides the chain and storage. Default: everything there is, or as it was. */
  services?: readonly DevnetService[] | undefined
  /** Parameters of the contracts other than those of the local preset. For a new devnet only. */
  contracts?: Partial<DeployParametersInput> | undefined
  /** First of the ports; each is moved up when it is taken. Default 26700, or as they were. */
  portBase?: number | undefined
  /** How long the chain, and then the agents, may take to be well. Default 60 000 ms. */
  readyTimeoutMs?: number | undefined
  /** Told in words what happens. */
  say: (line: string) => void
  /** Told of processes. */
  onProcess?: (event: ProcessEvent) => void
  signal: AbortSignal
}

/** A devnet that runs. */
export interface Devnet {
  readonly file: DevnetFile
  /** True when it went on with what an earlier run left. */
  readonly resumed: boolean
  readonly targets: readonly HealthTarget[]
  /** Where the miners tell of themselves. */
  readonly miners: readonly { name: string; url: string }[]
  /** Ends everything in order: indexer, nodes, chain. Never rejects. */
  stop(): Promise<void>
}

/**
 * Starts a chain, puts the contracts on it, starts storage nodes and an indexer, and waits until all are well. Data of
 * an earlier run in the directory is gone on with.
 *
 * @throws {DevnetError} see its codes; everything that was started has been ended then
 */
export async function startDevnet(parameters: DevnetParameters): Promise<Devnet> {
  const layout = devnetLayout(parameters.directory)
  claimDirectory(layout)
  mkdirSync(layout.chainDirectory, { recursive: true })
  mkdirSync(layout.logsDirectory, { recursive: true })
  const lock = takeDevnet(layout)
  const processes = new DevnetProcesses({ layout, onProcess: parameters.onProcess ?? (() => {}) })
  const stop = async () => {
    await processes.stop()
    lock.release()
  }
  try {
    const started = await startParts({ parameters, layout, processes })
    return { ...started, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function startParts({
  parameters,
  layout,
  processes,
}: {
  parameters: DevnetParameters
  layout: DevnetLayout
  processes: DevnetProcesses
}): Promise<Omit<Devnet, 'stop'>> {
  const { readyTimeoutMs = 60_000, say, signal } = parameters
  await endLeftovers({ file: layout.processesFile, say })
  const before = readDevnetFile(layout.devnetFile)
  const shape = shapeOf({ wanted: parameters, before })
  const { services } = shape
  const others = [
    ...(services.includes('da') ? daPortNames : []),
    ...(services.includes('compute') ? computePortNames : []),
  ]
  const { ports, moved } = await choosePorts({ wanted: wantedPorts({ wanted: parameters, before, shape, others }) })
  for (const { name, wanted, port } of moved) say(`port ${wanted} is taken: ${name} uses ${port}`)
  const urlOf = (name: string) => localUrl(ports[name] ?? 0)

  const chain = startChain({ layout, processes, port: ports.chain ?? 0 })
  await waitHealthy({ targets: [chain], timeoutMs: readyTimeoutMs, signal })
  const rpcUrl = urlOf('chain')
  say(`chain ${LOCAL_CHAIN_ID} at ${rpcUrl}`)
  const deployment = await deployContracts({
    rpcUrl,
    record: layout.deploymentFile,
    contracts: contractsOf(parameters),
    say,
    signal,
  })

  const nodes: NodePlan[] = planNodes(shape).map((node) => ({
    ...node,
    port: ports[node.name] ?? 0,
    adminPort: ports[`${node.name} admin`] ?? 0,
  }))
  const setting = { layout, rpcUrl, deployment }
  const start = (agent: DevnetAgent) => startAgent({ layout, processes, agent })
  const targets = [
    chain,
    ...nodes.map((node) => start(nodeAgent({ setting, node, nodes }))),
    start(indexerAgent({ setting, port: ports.indexer ?? 0, nodes })),
  ]
  const portOf = (name: string) => ports[name] ?? 0
  if (services.includes('kv')) {
    targets.push(start(kvAgent({ setting, port: portOf('kv'), indexerUrl: urlOf('indexer') })))
  }
  if (services.includes('compute')) {
    const indexerUrl = urlOf('indexer')
    const agent = await providerAgent({ setting, port: portOf('provider'), indexerUrl })
    await registerProvider({ setting, agent, say })
    targets.push(start(agent))
    const fineTuning = fineTuningAgent({ setting, port: portOf('fine-tuning'), indexerUrl })
    if (fineTuning !== undefined) {
      await registerFineTuningProvider({ agent: fineTuning, setting, say })
      targets.push(start(fineTuning))
    }
  }
  if (services.includes('da')) targets.push(...daAgents({ setting, port: portOf }).map(start))
  await waitHealthy({ targets, timeoutMs: readyTimeoutMs, signal })
  if (services.includes('compute')) await storeDemoModel({ rpcUrl, indexerUrl: urlOf('indexer'), signal })
  if (services.includes('da')) {
    await enterEpochOfSigners({ rpcUrl, signers: deployment.contracts.DASigners, say, signal })
  }
  const miners = planMiners({
    ...{ nodes, names: minerNamesOf({ wanted: parameters, shape }) },
    port: (name) => ports[name] ?? 0,
  })
  if (miners.length > 0) {
    const poolSectors = Number(deployment.parameters.poolSectors)
    const indexerUrl = urlOf('indexer')
    await fillFirstPool({ rpcUrl, indexerUrl, flow: deployment.contracts.Flow, poolSectors, say, signal })
    targets.push(...miners.map((miner) => start(minerAgent({ setting, miner, nodes }))))
    await waitHealthy({ targets, timeoutMs: readyTimeoutMs, signal })
  }

  const file: DevnetFile = {
    chainId: LOCAL_CHAIN_ID,
    rpcUrl,
    indexerUrl: urlOf('indexer'),
    ...(services.includes('kv') ? { kvUrl: urlOf('kv') } : {}),
    nodes: nodes.map(({ name, port, adminPort, shard }) => ({
      name,
      url: localUrl(port),
      adminUrl: localUrl(adminPort),
      shard,
    })),
    contracts: deployment.contracts,
    startBlock: deployment.block,
    account: { address: deployment.deployer },
    ports,
    ...shape,
  }
  writeDevnetFile({ file: layout.devnetFile, devnet: file })
  const minerUrls = miners.map(({ name, port }) => ({ name, url: localUrl(port) }))
  return { file, resumed: before !== undefined, targets, miners: minerUrls }
}

function startChain({
  layout,
  processes,
  port,
}: {
  layout: DevnetLayout
  processes: DevnetProcesses
  port: number
}): HealthTarget {
  const supervised = processes.start('chain', [
    path.join(import.meta.dirname, 'chain-process.ts'),
    ...['--port', String(port)],
    ...['--state', layout.chainStateFile],
  ])
  return {
    name: 'chain',
    check: async (signal) => void (await jsonRpc({ url: localUrl(port), method: 'eth_blockNumber', signal })),
    processState: () => stateOf(supervised),
    logFile: layout.logFile('chain'),
  }
}

/**
 * A new devnet with miners has short epochs, because data is sealed only when its epoch is over. Without miners they are
 * long: a client that sends no more gas than its estimate fails where an epoch ends in between.
 */
function contractsOf({ miners = 0, contracts }: DevnetParameters): Partial<DeployParametersInput> {
  const forMining = { blocksPerEpoch: 30, mineWindowBlocks: 24 }
  return { ...(miners === 0 ? {} : forMining), ...contracts }
}
