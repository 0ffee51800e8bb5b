import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { privateKeyToAccount } from 'viem/accounts'
import { connectChain } from '#kit/chain/client.ts'
import { DEV_ACCOUNTS, LOCAL_CHAIN_ID } from '#kit/chain/local-chain.ts'
import { deployWeightless } from '../deploy/deploy.ts'
import { DeployError } from '../deploy/error.ts'
import { presets } from '../deploy/parameters.ts'
import { type Deployment, readDeployment } from '../deploy/record.ts'
import { localUrl, type NodePlan, planNodes, writeIndexerConfig, writeNodeConfig } from './agent-config.ts'
import { type DevnetFile, readDevnetFile, writeDevnetFile } from './devnet-file.ts'
import { DevnetError } from './error.ts'
import { claimDirectory } from './fresh.ts'
import { checkHealthz, type HealthTarget, jsonRpc, waitHealthy } from './health.ts'
import { devnetLayout } from './layout.ts'
import { endLeftovers, ProcessRecord } from './leftovers.ts'
import { takeDevnet } from './lock.ts'
import { choosePorts } from './ports.ts'
import { type ProcessEvent, type SupervisedProcess, superviseProcess } from './supervised-process.ts'

/** What a devnet is to be. */
export interface DevnetParameters {
  /** Holds everything; made when it is not there. */
  directory: string
  /** Storage nodes of one replica: each holds one shard. A power of two. Default 2, or as it was. */
  nodesPerReplica?: number | undefined
  /** How many times the data is held. Default 1, or as it was. */
  replicas?: number | undefined
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
  readonly processes: readonly SupervisedProcess[]
  readonly targets: readonly HealthTarget[]
  /** Ends everything in order: indexer, nodes, chain. Never rejects. */
  stop(): Promise<void>
}

const repository = path.join(import.meta.dirname, '..', '..')
const defaultPortBase = 26_700

/**
 * Starts a chain, puts the contracts on it, starts storage nodes and an indexer, and waits until all are well. Data of
 * an earlier run in the directory is gone on with.
 *
 * @throws {DevnetError} see its codes; everything that was started has been ended then
 */
export async function startDevnet(parameters: DevnetParameters): Promise<Devnet> {
  const { directory, readyTimeoutMs = 60_000, say, onProcess = () => {}, signal } = parameters
  const layout = devnetLayout(directory)
  claimDirectory(layout)
  mkdirSync(layout.chainDirectory, { recursive: true })
  mkdirSync(layout.logsDirectory, { recursive: true })
  const lock = takeDevnet(layout)
  const processes: SupervisedProcess[] = []
  const record = new ProcessRecord(layout.processesFile)
  const stop = async () => {
    // Agents first, so that none of them sees the chain go away.
    const [chain, ...agents] = processes
    await Promise.all(agents.map((agent) => agent.stop()))
    await chain?.stop()
    lock.release()
  }
  const supervise = (name: string, args: readonly string[]) => {
    const agentDirectory = layout.agentDirectory(name)
    mkdirSync(agentDirectory, { recursive: true })
    const supervised = superviseProcess({
      plan: {
        name,
        args,
        cwd: agentDirectory,
        env: agentEnvironment(),
        logFile: layout.logFile(name),
        stopLimitMs: 25_000,
      },
      onEvent: (event) => {
        if (event.type === 'started') record.started(event)
        if (event.type === 'ended') record.ended(event.name)
        onProcess(event)
      },
    })
    processes.push(supervised)
    return supervised
  }

  try {
    await endLeftovers({ file: layout.processesFile, say })
    const before = readDevnetFile(layout.devnetFile)
    const shape = shapeOf({ parameters, before })
    const { ports, moved } = await choosePorts({ wanted: wantedPorts({ parameters, before, shape }) })
    for (const { name, wanted, port } of moved) say(`port ${wanted} is taken: ${name} uses ${port}`)
    const port = (name: string) => ports[name] ?? 0
    const rpcUrl = localUrl(port('chain'))

    const chainProcess = supervise('chain', [
      path.join(import.meta.dirname, 'chain-process.ts'),
      ...['--port', String(port('chain'))],
      ...['--state', layout.chainStateFile],
    ])
    const chainTarget: HealthTarget = {
      name: 'chain',
      check: async (stopped) => void (await jsonRpc({ url: rpcUrl, method: 'eth_blockNumber', signal: stopped })),
      processState: () => stateOf(chainProcess),
      logFile: layout.logFile('chain'),
    }
    await waitHealthy({ targets: [chainTarget], timeoutMs: readyTimeoutMs, signal })
    say(`chain ${LOCAL_CHAIN_ID} at ${rpcUrl}`)
    const deployment = await deploy({ rpcUrl, record: layout.deploymentFile, say, signal })

    const nodes: NodePlan[] = planNodes(shape).map((node) => ({
      ...node,
      port: port(node.name),
      adminPort: port(`${node.name} admin`),
    }))
    const cli = path.join(repository, 'agents', 'cli', 'main.ts')
    const targets: HealthTarget[] = [chainTarget]
    for (const node of nodes) {
      writeNodeConfig({ layout, node, nodes, rpcUrl, deployment })
      const supervised = supervise(node.name, [cli, 'node', 'start', '--config', layout.agentConfigFile(node.name)])
      targets.push({
        name: node.name,
        check: (stopped) => checkHealthz({ url: localUrl(node.port), signal: stopped }),
        processState: () => stateOf(supervised),
        logFile: layout.logFile(node.name),
      })
    }
    const indexerUrl = localUrl(port('indexer'))
    writeIndexerConfig({ layout, port: port('indexer'), nodes, deployment })
    const indexer = supervise('indexer', [cli, 'indexer', 'start', '--config', layout.agentConfigFile('indexer')])
    targets.push({
      name: 'indexer',
      check: async (stopped) => {
        await checkHealthz({ url: indexerUrl, signal: stopped })
        await checkNodesListed({ indexerUrl, nodes, signal: stopped })
      },
      processState: () => stateOf(indexer),
      logFile: layout.logFile('indexer'),
    })
    await waitHealthy({ targets, timeoutMs: readyTimeoutMs, signal })

    const file: DevnetFile = {
      chainId: LOCAL_CHAIN_ID,
      rpcUrl,
      indexerUrl,
      nodes: nodes.map((node) => ({
        name: node.name,
        url: localUrl(node.port),
        adminUrl: localUrl(node.adminPort),
        shard: node.shard,
      })),
      contracts: deployment.contracts,
      startBlock: deployment.block,
      account: { address: deployment.deployer },
      ports,
      ...shape,
    }
    writeDevnetFile({ file: layout.devnetFile, devnet: file })
    return { file, resumed: before !== undefined, processes, targets, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function deploy({
  rpcUrl,
  record,
  say,
  signal,
}: {
  rpcUrl: string
  record: string
  say: (line: string) => void
  signal: AbortSignal
}): Promise<Deployment> {
  const chain = await connectChain({ rpcUrls: [rpcUrl], chainId: LOCAL_CHAIN_ID, pollingIntervalMs: 100, signal })
  try {
    const [developer] = DEV_ACCOUNTS
    if (developer === undefined) throw new DevnetError({ code: 'DEVNET_SHAPE', message: 'no development account' })
    const account = privateKeyToAccount(developer.privateKey)
    // An existing devnet keeps its parameters, whatever the preset has become since.
    const parameters = readDeployment(record)?.parameters ?? { ...presets.local, governor: account.address }
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
  ]
  return Object.fromEntries(entries.map(([name, port]) => [name, remembered?.[name] ?? port]))
}

/** Agents are configured by their files alone: what is set for other agents in this shell is not for them. */
function agentEnvironment(): Record<string, string | undefined> {
  const foreign = /^(WEIGHTLESS_|ZGS_NODE__|NODE_TEST_)/
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name)))
}

function stateOf({ pid, restarts, lastEnd }: SupervisedProcess): string | undefined {
  if (lastEnd === undefined) return undefined
  return `${pid === undefined ? 'not running' : 'running'}, last ended with ${lastEnd}, started again ${restarts} times`
}
