import type { Command } from 'commander'
import { formatEther } from 'viem'
import type { StoredReceipt } from '#client/compute/book.ts'
import type { ShownReceipt } from '#client/compute/receipts.ts'
import { wholeNumber } from '../arguments.ts'
import { EXIT_CODE } from '../exit-code.ts'
import type { CliIo } from '../io.ts'
import { type ComputeOptions, computeOptions, openBook } from '../open-compute.ts'
import { readOptions } from '../options.ts'

interface ReceiptOptions extends ComputeOptions {
  limit: number
}

/** `weightless receipt show|list` */
export function register(program: Command, io: CliIo): void {
  const group = program.command('receipt').description('signed receipts of the answers you were given')
  const show = group
    .command('show')
    .description('show one receipt; its signature and token roots are checked anew')
    .argument('<id>', 'the receipt, as the chat named it, or the chat id')
    .action((id: string, _options: unknown, at: Command) =>
      runShow({ id, options: readOptions<ReceiptOptions>(at), io }),
    )
  const list = group
    .command('list')
    .description('list the newest receipts')
    .option('--limit <n>', 'how many', wholeNumber, 20)
    .action((_options: unknown, at: Command) => runList({ options: readOptions<ReceiptOptions>(at), io }))
  for (const command of [show, list]) {
    for (const option of computeOptions({ signs: false })) command.addOption(option)
  }
}

async function runShow({ id, options, io }: { id: string; options: ReceiptOptions; io: CliIo }): Promise<void> {
  const { showReceipt } = await import('#client/compute/receipts.ts')
  const book = openBook({ io, options })
  try {
    const shown = showReceipt({ book }, { id })
    const { signed: _, ...json } = shown
    io.result({ json: { ...json }, text: describe(shown) })
    if (!shown.intact) io.exitCode = EXIT_CODE.failure
  } finally {
    book.close()
  }
}

async function runList({ options, io }: { options: ReceiptOptions; io: CliIo }): Promise<void> {
  const book = openBook({ io, options })
  try {
    const receipts = book.receipts({ limit: options.limit })
    io.result({
      json: { receipts: receipts.map(({ json: _, ...receipt }) => receipt) },
      text: receipts.length === 0 ? ['no receipts yet'] : receipts.map(line),
    })
  } finally {
    book.close()
  }
}

function line({ receivedMs, digest, model, feeWei, verified, provider }: StoredReceipt): string {
  const when = new Date(receivedMs).toISOString().slice(0, 19)
  return `${when}  ${digest}  ${verified ? 'verified  ' : 'unverified'}  ${formatEther(feeWei)}  ${model}  ${provider}`
}

function describe(shown: ShownReceipt): string[] {
  const { signed, digest, chatId, signer, verified, intact, checks, chainId, contract } = shown
  const { receipt, engine, outputTokens } = signed
  const { settings } = receipt
  const ids = outputTokens === undefined ? 'no token ids' : 'token ids kept'
  return [
    `receipt      ${digest} (chain ${chainId}, ${contract})`,
    `signature    ${intact ? 'holds' : 'DOES NOT HOLD'}, by ${signer}`,
    `verified     ${verified ? 'yes' : 'NO'}, when it came`,
    ...checks.map(({ name, ok, detail }) => `  ${ok ? 'ok ' : 'BAD'} ${name.padEnd(9)} ${detail}`),
    `chat         ${chatId}, ${new Date(receipt.issuedAtS * 1_000).toISOString()}`,
    `provider     ${receipt.provider}`,
    `user         ${receipt.user}`,
    `model        ${shown.model}, weights ${receipt.modelId}`,
    `engine       ${engine}`,
    `request      ${receipt.requestHash}`,
    `prompt       ${receipt.promptLen} tokens, root ${receipt.promptRoot}`,
    `output       ${receipt.outputLen} tokens, root ${receipt.outputRoot}, ended by ${receipt.stopReason} (${ids})`,
    `sampling     ${receipt.profile}, temperature ${settings.temperatureQ16 / 65_536}, seed ${settings.seed}, at most ${settings.maxTokens} tokens`,
    `fee          ${formatEther(receipt.feeWei)} (${receipt.feeWei} wei)`,
    `level        ${receipt.level}, nonce ${receipt.nonce}`,
  ]
}
