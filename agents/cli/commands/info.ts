import type { Command } from 'commander'
import { parseRoot } from '../arguments.ts'
import type { CliIo } from '../io.ts'
import { openClient } from '../open-client.ts'
import { type GlobalOptions, readOptions } from '../options.ts'
import { formatBytes } from '../progress.ts'

/** `weightless info ROOT` */
export function register(program: Command, io: CliIo): void {
  program
    .command('info')
    .description('what the storage nodes know of a file')
    .argument('<root>', 'root of the file, or the number of its submission')
    .action((file: string, _options: unknown, command: Command) =>
      runInfo({ file, options: readOptions<GlobalOptions>(command), io }),
    )
}

async function runInfo({ file, options, io }: { file: string; options: GlobalOptions; io: CliIo }): Promise<void> {
  const query = /^\d{1,15}$/.test(file) ? { txSeq: Number(file) } : { root: parseRoot(file) }
  const { client } = await openClient({ io, options })
  try {
    const info = await client.storage.fileInfo({ ...query, signal: io.signal })
    io.result({
      json: { ...info },
      text: [
        `root        ${info.root}`,
        `size        ${info.sizeBytes} bytes (${formatBytes(info.sizeBytes)})`,
        `submission  ${info.txSeq}, from sector ${info.startSector}`,
        ...info.nodes.map(
          ({ url, shard, finalized, pruned, uploadedSegments }) =>
            `node        ${url} shard ${shard}: ${pruned ? 'pruned' : finalized ? 'final' : `${uploadedSegments} segments so far`}`,
        ),
        ...info.failed.map(({ url, reason }) => `node        ${url}: ${reason}`),
      ],
    })
  } finally {
    await client.close()
  }
}
