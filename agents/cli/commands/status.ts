import type { Command } from 'commander'
import { formatEther } from 'viem'
import { type StorageStatusReturnType, storageStatus } from '#client/storage/storage-status.ts'
import { EXIT_CODE } from '../exit-code.ts'
import type { CliIo } from '../io.ts'
import type { NetworkSettings } from '../network.ts'
import { openClient, type SignerOptions, signer } from '../open-client.ts'
import { type GlobalOptions, readOptions } from '../options.ts'

interface StatusOptions extends GlobalOptions, SignerOptions {}

/** `weightless status` */
export function register(program: Command, io: CliIo): void {
  program
    .command('status')
    .description('what works and what does not: chain, contracts, indexer, storage nodes, balance')
    .option('--keystore <file>', 'keystore of the account whose balance to show')
    .option('--password-file <file>', 'file with the password of the keystore')
    .action((_options: unknown, command: Command) => runStatus({ options: readOptions<StatusOptions>(command), io }))
}

async function runStatus({ options, io }: { options: StatusOptions; io: CliIo }): Promise<void> {
  const { client, network } = await openClient({ io, options })
  try {
    const account = await signer({ io, options, network }).catch(() => undefined)
    const status = await storageStatus(client.storage.connection, { address: account?.address, signal: io.signal })
    io.result({ json: { ...status, settings: settingsOf(network) }, text: statusLines({ status, network }) })
    if (!status.ok) io.exitCode = EXIT_CODE.network
  } finally {
    await client.close()
  }
}

function settingsOf({ rpcUrl, indexerUrl, nodes, flow, origin }: NetworkSettings): Record<string, unknown> {
  return { rpcUrl, indexerUrl: indexerUrl ?? null, nodes, flow: flow ?? null, origin }
}

function statusLines({ status, network }: { status: StorageStatusReturnType; network: NetworkSettings }): string[] {
  const { chain, flow, indexer, nodes, account } = status
  const lines: string[] = []
  const row = (name: string, ok: boolean | undefined, text: string) =>
    lines.push(`${ok === undefined ? '-  ' : ok ? 'ok ' : 'BAD'} ${name.padEnd(8)} ${text}`)
  if (chain === undefined) row('chain', undefined, 'not set (--rpc)')
  else row('chain', chain.ok, chain.ok ? `${chain.id} at block ${chain.head}` : chain.reason)
  if (flow !== undefined) {
    row(
      'flow',
      flow.ok,
      flow.ok
        ? `${flow.address}, ${flow.submissions} submissions, ${flow.pricePerSectorWei} wei per sector`
        : flow.reason,
    )
  }
  if (indexer === undefined)
    row('indexer', undefined, network.nodes.length > 0 ? 'not used: nodes are named' : 'not set (--indexer)')
  else row('indexer', indexer.ok, indexer.ok ? `${indexer.url} lists ${indexer.nodes} nodes` : indexer.reason)
  for (const node of nodes) {
    row(
      'node',
      node.ok,
      node.ok
        ? `${node.url} ${node.front ? 'front of all shards' : `shard ${node.shard}`}, at block ${node.block}${node.behind > 0 ? ` (${node.behind} behind)` : ''}`
        : `${node.url}: ${node.reason}`,
    )
  }
  row(
    'cover',
    status.replicas > 0,
    status.replicas > 0 ? `the nodes hold everything ${status.replicas} time(s)` : 'the nodes do not cover every shard',
  )
  if (account === undefined) row('account', undefined, 'not set (--keystore)')
  else
    row(
      'account',
      account.ok,
      account.ok ? `${account.address} has ${formatEther(account.balanceWei)} coins` : account.reason,
    )
  return lines
}
