import type { Command } from 'commander'
import { formatEther } from 'viem'
import { quoteStorage } from '#client/storage/quote-storage.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { CliIo } from '../io.ts'
import { openClient } from '../open-client.ts'
import { type GlobalOptions, readOptions } from '../options.ts'
import { formatBytes } from '../progress.ts'

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
}
const SECONDS_PER_HOUR = 3_600

/** `weightless storage cost SIZE` */
export function register(program: Command, io: CliIo): void {
  const group = program.command('storage').description('prices of storage')
  group
    .command('cost')
    .description('what storing a file of a size costs now; nothing is paid')
    .argument('<size>', 'bytes, or with a unit: 500, 10MiB, 1.5GB')
    .action((size: string, _options: unknown, command: Command) =>
      runCost({ size, options: readOptions<GlobalOptions>(command), io }),
    )
}

async function runCost({ size, options, io }: { size: string; options: GlobalOptions; io: CliIo }): Promise<void> {
  const sizeBytes = parseSize(size)
  const { client } = await openClient({ io, options })
  try {
    const quote = await quoteStorage(client.storage.connection, { sizeBytes, signal: io.signal })
    const { sectors, chargedBytes, pricePerSectorWei, feeWei, lifetimeSeconds } = quote
    io.result({
      json: { ...quote },
      text: [
        `size      ${sizeBytes} bytes (${formatBytes(sizeBytes)}), charged as ${sectors} sectors (${formatBytes(chargedBytes)})`,
        `price     ${pricePerSectorWei} wei per sector`,
        `fee       ${feeWei} wei (${formatEther(feeWei)} coins), gas apart`,
        ...(lifetimeSeconds === undefined ? [] : [`pays for  ${lifetimeText(lifetimeSeconds)}`]),
      ],
    })
  } finally {
    await client.close()
  }
}

function lifetimeText(seconds: number): string {
  const hours = seconds / SECONDS_PER_HOUR
  return hours < 48 ? `${hours.toFixed(1)} hours` : `${(hours / 24).toFixed(1)} days`
}

function parseSize(text: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,16}(?:\.\d{1,6})?)\s*([A-Za-z]*)$/.exec(text.trim()) ?? []
  const factor = UNITS[unit]
  if (digits === '' || factor === undefined) {
    throw new WeightlessError({
      code: 'CLI_USAGE',
      message: `${text} is no size`,
      fix: `give a number of bytes, or one with a unit: ${Object.keys(UNITS).filter(Boolean).join(', ')}`,
      details: { size: text },
    })
  }
  return Math.ceil(Number(digits) * factor)
}
