import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { privateKeyToAccount } from 'viem/accounts'
import { connectChain } from '#kit/chain/client.ts'
import { DEV_ACCOUNTS, LOCAL_CHAIN_ID } from '#kit/chain/local-chain.ts'
import { deployWeightless } from '../deploy/deploy.ts'
import { DeployError } from '../deploy/error.ts'
import { type DeployParametersInput, presets } from '../deploy/parameters.ts'
import { type Deployment, readDeployment } from '../deploy/record.ts'
import { agentEnvironment } from '../process/agent-environment.ts'
import {
  localUrl,
  type MinerPlan,
  minerNames,
  type NodePlan,
  planMiners,
  planNodes,
  writeIndexerConfig,
  writeMinerConfig,
  writeNodeConfig,
} from './agent-config.ts'
import { type DevnetFile, readDevnetFile, writeDevnetFile } from './devnet-file.ts'
import { DevnetError } from './error.ts'
import { claimDirectory } from './fresh.ts'
import { checkHealthz, type HealthTarget, jsonRpc, waitHealthy } from './health.ts'
import { type DevnetLayout, devnetLayout } from './layout.ts'
import { endLeftovers, ProcessRecord } from './leftovers.ts'
import { takeDevnet } from './lock.ts'
import { choosePorts } from './ports.ts'
import { fillFirstPool } from './seed-data.ts'
import { type ProcessEvent, type SupervisedProcess, superviseProcess } from './supervised-process.ts'

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

const repository = path.join(import.meta.dirname, '..', '..')
const cli = path.join(repository, 'agents', 'cli', 'main.ts')
const defaultPortBase = 26_700
const agentStopLimitMs = 25_000

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
  const shape = shapeOf({ parameters, before })
  const { ports, moved } = await choosePorts({ wanted: wantedPorts({ parameters, before, shape }) })
  for (const { name, wanted, port } of moved) say(`port ${wanted} is taken: ${name} uses ${port}`)
  const urlOf = (name: string) => localUrl(ports[name] ?? 0)

  const chain = startChain({ layout, processes, port: ports.chain ?? 0 })
  await waitHealthy({ targets: [chain], timeoutMs: readyTimeoutMs, signal })
  const rpcUrl = urlOf('chain')
  say(`chain ${LOCAL_CHAIN_ID} at ${rpcUrl}`)
  const deployment = await deploy({
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
  const targets = [
    chain,
    ...nodes.map((node) => startNode({ layout, processes, node, nodes, rpcUrl, deployment })),
    startIndexer({ layout, processes, port: ports.indexer ?? 0, nodes, deployment }),
  ]
  await waitHealthy({ targets, timeoutMs: readyTimeoutMs, signal })
  const miners = planMiners({ nodes, names: minerNamesOf({ parameters, shape }), port: (name) => ports[name] ?? 0 })
  if (miners.length > 0) {
    const poolSectors = Number(deployment.parameters.poolSectors)
    const indexerUrl = urlOf('indexer')
    await fillFirstPool({ rpcUrl, indexerUrl, flow: deployment.contracts.Flow, poolSectors, say, signal })
    targets.push(...miners.map((miner) => startMiner({ layout, processes, miner, nodes, rpcUrl, deployment })))
    await waitHealthy({ targets, timeoutMs: readyTimeoutMs, signal })
  }

  const file: DevnetFile = {
    chainId: LOCAL_CHAIN_ID,
    rpcUrl,
    indexerUrl: urlOf('indexer'),
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

/** The processes of one devnet, written down while they live. */
class DevnetProcesses {
  readonly #layout: DevnetLayout
  readonly #record: ProcessRecord
  readonly #onProcess: (event: ProcessEvent) => void
  readonly #started: SupervisedProcess[] = []

  constructor({ layout, onProcess }: { layout: DevnetLayout; onProcess: (event: ProcessEvent) => void }) {
    this.#layout = layout
    this.#record = new ProcessRecord(layout.processesFile)
    this.#onProcess = onProcess
  }

  start(name: string, args: readonly string[]): SupervisedProcess {
    const cwd = this.#layout.agentDirectory(name)
    mkdirSync(cwd, { recursive: true })
    const logFile = this.#layout.logFile(name)
    const supervised = superviseProcess({
      plan: { name, args, cwd, env: agentEnvironment(), logFile, stopLimitMs: agentStopLimitMs },
      onEvent: (event) => {
        if (event.type === 'started') this.#record.started(event)
        if (event.type === 'ended') this.#record.ended(event.name)
        this.#onProcess(event)
      },
    })
    this.#started.push(supervised)
    return supervised
  }

  /** Agents first, so that none of them sees the chain go away. */
  async stop(): Promise<void> {
    const [chain, ...agents] = this.#started
    await Promise.all(agents.map((agent) => agent.stop()))
    await chain?.stop()
  }
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

function startNode({
  layout,
  processes,
  node,
  nodes,
  rpcUrl,
  deployment,
}: {
  layout: DevnetLayout
  processes: DevnetProcesses
  node: NodePlan
  nodes: readonly NodePlan[]
  rpcUrl: string
  deployment: Deployment
}): HealthTarget {
  writeNodeConfig({ layout, node, nodes, rpcUrl, deployment })
  const { name, port } = node
  const supervised = processes.start(name, [cli, 'node', 'start', '--config', layout.agentConfigFile(name)])
  return {
    name,
    check: (signal) => checkHealthz({ url: localUrl(port), signal }),
    processState: () => stateOf(supervised),
    logFile: layout.logFile(name),
  }
}

function startMiner({
  layout,
  processes,
  miner,
  nodes,
  rpcUrl,
  deployment,
}: {
  layout: DevnetLayout
  processes: DevnetProcesses
  miner: MinerPlan
  nodes: readonly NodePlan[]
  rpcUrl: string
  deployment: Deployment
}): HealthTarget {
  writeMinerConfig({ layout, miner, nodes, rpcUrl, deployment })
  const { name, port } = miner
  const supervised = processes.start(name, [cli, 'miner', 'start', '--config', layout.agentConfigFile(name)])
  return {
    name,
    check: (signal) => checkHealthz({ url: localUrl(port), signal }),
    processState: () => stateOf(supervised),
    logFile: layout.logFile(name),
  }
}

function startIndexer({
  layout,
  processes,
  port,
  nodes,
  deployment,
}: {
  layout: DevnetLayout
  processes: DevnetProcesses
  port: number
  nodes: readonly NodePlan[]
  deployment: Deployment
}): HealthTarget {
  writeIndexerConfig({ layout, port, nodes, deployment })
  const supervised = processes.start('indexer', [
    cli,
    'indexer',
    'start',
    '--config',
    layout.agentConfigFile('indexer'),
  ])
  return {
    name: 'indexer',
    check: async (signal) => {
      await checkHealthz({ url: localUrl(port), signal })
      await checkNodesListed({ indexerUrl: localUrl(port), nodes, signal })
    },
    processState: () => stateOf(supervised),
    logFile: layout.logFile('indexer'),
  }
}

async function deploy({
  rpcUrl,
  record,
  contracts,
  say,
  signal,
}: {
  rpcUrl: string
  record: string
  contracts: Partial<DeployParametersInput> | undefined
  say: (line: string) => void
  signal: AbortSignal
}): Promise<Deployment> {
  const chain = await connectChain({ rpcUrls: [rpcUrl], chainId: LOCAL_CHAIN_ID, pollingIntervalMs: 100, signal })
  try {
    const [developer] = DEV_ACCOUNTS
    if (developer === undefined) throw new DevnetError({ code: 'DEVNET_SHAPE', message: 'no development account' })
    const account = privateKeyToAccount(developer.privateKey)
    // An existing devnet keeps its parameters, whatever the preset has become since.
    const parameters = readDeployment(record)?.parameters ?? {
      ...presets.local,
      governor: account.address,
      ...contracts,
    }
    return await deployWeightless({
      chain,
      account,
      parameters: parameters as Parameters<typeof deployWeightless>[0]['parameters'],
      record,
      network: 'devnet',
      signal,
      onEvent: (event) => {
        if (event.type === 'done') say('contracts deployed')
        if (event.type === 'resumed') say('going on with an interrupted deployment')
        if (event.type === 'unchanged' && event.outdated.length > 0) {
          const names = event.outdated.join(', ')
          say(`note: the sources of ${names} have changed since they were deployed here; --fresh deploys them anew`)
        }
      },
    })
  } catch (cause) {
    if (!(cause instanceof DeployError) || cause.code !== 'DEPLOY_CODE') throw cause
    throw new DevnetError({
      code: 'DEVNET_DIRECTORY',
      message: `the chain of this devnet has lost its contracts: ${cause.message}`,
      fix: 'start over with --fresh',
      cause,
    })
  } finally {
    chain.close()
  }
}

/** The indexer has found every node well: from then on it sends clients to all of them. */
async function checkNodesListed({
  indexerUrl,
  nodes,
  signal,
}: {
  indexerUrl: string
  nodes: readonly NodePlan[]
  signal: AbortSignal
}): Promise<void> {
  const answer = await jsonRpc({ url: indexerUrl, method: 'indexer_getShardedNodes', signal })
  const listed = JSON.stringify(answer)
  const missing = nodes.filter(({ port }) => !listed.includes(`:${port}"`)).map(({ name }) => name)
  if (missing.length > 0) throw new Error(`does not list ${missing.join(', ')} yet`)
}

function shapeOf({
  parameters,
  before,
}: {
  parameters: DevnetParameters
  before: DevnetFile | undefined
}): Pick<DevnetFile, 'nodesPerReplica' | 'replicas'> {
  const nodesPerReplica = parameters.nodesPerReplica ?? before?.nodesPerReplica ?? 2
  const replicas = parameters.replicas ?? before?.replicas ?? 1
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
  return { nodesPerReplica, replicas }
}

function wantedPorts({
  parameters,
  before,
  shape,
}: {
  parameters: DevnetParameters
  before: DevnetFile | undefined
  shape: Pick<DevnetFile, 'nodesPerReplica' | 'replicas'>
}): Record<string, number> {
  const base = parameters.portBase ?? defaultPortBase
  const remembered = parameters.portBase === undefined ? before?.ports : undefined
  const names = planNodes(shape).flatMap(({ name }) => [name, `${name} admin`])
  const entries = [
    ['chain', base] as const,
    ['indexer', base + 1] as const,
    ...names.map((name, index) => [name, base + 10 + index] as const),
    ...minerNamesOf({ parameters, shape }).map((name, index) => [name, base + 500 + index] as const),
  ]
  return Object.fromEntries(entries.map(([name, port]) => [name, remembered?.[name] ?? port]))
}

/**
 * A new devnet with miners has short epochs, because data is sealed only when its epoch is over. Without miners they are
 * long: a client that sends no more gas than its estimate fails where an epoch ends in between.
 */
function contractsOf({ miners = 0, contracts }: DevnetParameters): Partial<DeployParametersInput> {
  const forMining = { blocksPerEpoch: 30, mineWindowBlocks: 24 }
  return { ...(miners === 0 ? {} : forMining), ...contracts }
}

function minerNamesOf({
  parameters: { miners = 0 },
  shape,
}: {
  parameters: DevnetParameters
  shape: Pick<DevnetFile, 'nodesPerReplica'>
}): string[] {
  return minerNames(miners === 'shards' ? shape.nodesPerReplica : miners)
}

function stateOf({ pid, restarts, lastEnd }: SupervisedProcess): string | undefined {
  if (lastEnd === undefined) return undefined
  return `${pid === undefined ? 'not running' : 'running'}, last ended with ${lastEnd}, started again ${restarts} times`
}
