import type { Command } from 'commander'
import { type Address, formatEther } from 'viem'
import { lockSeconds } from '#client/da/accounts.ts'
import type { DaClient, DaListener } from '#client/da/da-client.ts'
import type { DisperseThroughReturnType } from '#client/da/disperser/disperse-through.ts'
import { type DisperserQuote, fetchQuote } from '#client/da/disperser/disperser-http.ts'
import { defaultBookDir, VoucherBook } from '#client/da/disperser/voucher-book.ts'
import { WeightlessError } from '#protocol/error.ts'
import { coins } from '../arguments.ts'
import type { CliIo } from '../io.ts'
import { type DaOptions, disperserOf, openDa, withAccounts } from '../open-da.ts'
import { readOptions } from '../options.ts'
import { formatBytes } from '../progress.ts'

interface AccountOptions extends DaOptions {
  disperser?: string
  cancel?: boolean
}

/** Adds `da deposit|balance|withdraw`. */
export function registerAccounts(group: Command, io: CliIo): void {
  pays(withDisperser(group.command('deposit')))
    .description('deposit coins for a disperser: it can claim what your vouchers say, and you get the rest back')
    .argument('<amount>', 'coins, such as 0.1', coins)
    .action((amountWei: bigint, _: unknown, command: Command) =>
      deposit(amountWei, readOptions<AccountOptions>(command), io),
    )
  pays(withDisperser(group.command('balance')))
    .description('what you have with a disperser')
    .action((_: unknown, command: Command) => balance(readOptions<AccountOptions>(command), io))
  pays(withDisperser(group.command('withdraw')))
    .description('take coins back from a disperser: announce it, and run the same again after the lock time')
    .argument('[amount]', 'coins to announce (default: all that is there)', coins)
    .option('--cancel', 'take the announcement back')
    .action((amountWei: bigint | undefined, _: unknown, command: Command) =>
      withdraw(amountWei, readOptions<AccountOptions>(command), io),
    )
}

function withDisperser(command: Command): Command {
  return withAccounts(command).option(
    '--disperser <url|address>',
    'the disperser (also WEIGHTLESS_DA_DISPERSER; default: that of the local network)',
  )
}

function pays(command: Command): Command {
  return command
    .option('--keystore <file>', 'keystore of your account')
    .option('--password-file <file>', 'file with its password')
}

/** `da put --disperser`: shows the quote, hands the blob over, and waits until the chain has it. */
export async function putThrough(
  da: DaClient,
  {
    url,
    data,
    maxFeeWei,
    onEvent,
  }: { url: string; data: Uint8Array; maxFeeWei: bigint | undefined; onEvent: DaListener },
  io: CliIo,
): Promise<DisperseThroughReturnType> {
  const book = VoucherBook.open({ dir: defaultBookDir(io.env) })
  try {
    const onQuote = (quote: DisperserQuote): void => io.info(quoteText(quote))
    return await da.disperseThrough({ url, data, maxFeeWei, book, onQuote, signal: io.signal, onEvent })
  } catch (error) {
    const { code, message, details } = error instanceof WeightlessError ? error : {}
    if (code !== 'DEPOSIT_INSUFFICIENT' || message === undefined) throw error
    const missing = formatEther(BigInt(String(details?.missingWei ?? '0')))
    throw new WeightlessError({
      ...{ code, message, details },
      fix: `weightless da deposit ${missing} --disperser ${url}, then wait for a few blocks`,
    })
  } finally {
    book.close()
  }
}

/** `da quote --disperser`. */
export async function quoteAt(url: string, sizeBytes: number, io: CliIo): Promise<void> {
  const quote = await fetchQuote({ url, sizeBytes, signal: io.signal })
  io.result({ json: quote, text: [quoteText(quote)] })
}

function quoteText({ sizeBytes, retentionEpochs, chainFeeWei, serviceFeeWei, totalWei, payment }: DisperserQuote) {
  const what = `${formatBytes(sizeBytes)}, kept for ${retentionEpochs} epochs`
  if (payment === null) return `free for ${what}`
  const parts = `${formatEther(chainFeeWei)} for the chain and ${formatEther(serviceFeeWei)} for the disperser`
  return `${formatEther(totalWei)} for ${what}: ${parts}${payment.mode === 'optional' ? '; paying is optional' : ''}`
}

async function deposit(amountWei: bigint, options: AccountOptions, io: CliIo): Promise<void> {
  await using da = await openDa(options, io, { pays: true, needsAccounts: true })
  const disperser = await disperserAddress(da, options, io)
  const txHash = await da.deposit({ disperser, amountWei, signal: io.signal })
  const account = await da.disperserAccount({ disperser })
  io.result({
    json: { ...account, amountWei, txHash },
    text: [`deposited ${formatEther(amountWei)} for ${disperser}`, `there ${formatEther(account.balanceWei)}`],
  })
}

async function balance(options: AccountOptions, io: CliIo): Promise<void> {
  await using da = await openDa(options, io, { pays: true, needsAccounts: true })
  const disperser = await disperserAddress(da, options, io)
  const account = await da.disperserAccount({ disperser })
  const { balanceWei, claimedWei, withdrawingWei, unlockAtS } = account
  io.result({
    json: { ...account },
    text: [
      `there    ${formatEther(balanceWei)}`,
      `claimed  ${formatEther(claimedWei)} by ${disperser}, in all`,
      ...(unlockAtS === 0 ? [] : [`leaving  ${formatEther(withdrawingWei)}, free from ${timeText(unlockAtS)} on`]),
    ],
  })
}

async function withdraw(amountWei: bigint | undefined, options: AccountOptions, io: CliIo): Promise<void> {
  await using da = await openDa(options, io, { pays: true, needsAccounts: true })
  const disperser = await disperserAddress(da, options, io)
  const before = await da.disperserAccount({ disperser })
  const { signal } = io
  if (options.cancel === true) {
    const txHash = await da.requestWithdrawal({ disperser, amountWei: 0n, signal })
    io.result({ json: { step: 'cancelled', txHash }, text: ['the announcement is taken back'] })
    return
  }
  const { client } = await da.connection.chain()
  const now = Number((await client.getBlock()).timestamp)
  if (amountWei === undefined && before.unlockAtS !== 0 && now >= before.unlockAtS) {
    const txHash = await da.withdraw({ disperser, signal })
    const after = await da.disperserAccount({ disperser })
    const paidWei = before.balanceWei - after.balanceWei
    io.result({ json: { step: 'withdrawn', amountWei: paidWei, txHash }, text: [`withdrew ${formatEther(paidWei)}`] })
    return
  }
  if (amountWei === undefined && before.unlockAtS !== 0) {
    const { withdrawingWei, unlockAtS } = before
    io.result({
      json: { step: 'waiting', amountWei: withdrawingWei, unlockAtS },
      text: [`${formatEther(withdrawingWei)} are free from ${timeText(unlockAtS)} on: run the same command then`],
    })
    return
  }
  const wantedWei = amountWei ?? before.balanceWei
  if (wantedWei === 0n) throw empty(disperser)
  const txHash = await da.requestWithdrawal({ disperser, amountWei: wantedWei, signal })
  const { unlockAtS } = await da.disperserAccount({ disperser })
  io.result({
    json: { step: 'announced', amountWei: wantedWei, unlockAtS, txHash },
    text: [
      `announced: ${formatEther(wantedWei)} are free in ${await lockSeconds(da.connection)} seconds (${timeText(unlockAtS)})`,
      'run weightless da withdraw again then; until then the disperser may claim what you signed for',
    ],
  })
}

/** The account of a disperser that is given by address, or by the URL at which it says what it is. */
async function disperserAddress(da: DaClient, options: AccountOptions, io: CliIo): Promise<Address> {
  const given = disperserOf(options.disperser, options, io)
  if (/^0x[0-9a-fA-F]{40}$/.test(given)) return given.toLowerCase() as Address
  if (!/^https?:$/.test(URL.parse(given)?.protocol ?? '')) {
    throw new WeightlessError({
      code: 'SETTING_INVALID',
      message: `--disperser ${given.slice(0, 100)} is neither a URL nor an address`,
      fix: 'give the HTTP address of the disperser, such as http://127.0.0.1:51002, or its account',
      details: { setting: '--disperser' },
    })
  }
  const { payment } = await fetchQuote({ url: given, sizeBytes: 1, signal: io.signal })
  if (payment === null) {
    throw new WeightlessError({
      code: 'DISPERSER_FREE',
      message: `${given} disperses for free: there is nothing to deposit`,
      fix: 'give the address of the disperser’s account to look at deposits of earlier',
      details: { url: given },
    })
  }
  if (payment.contract === da.connection.contracts.accounts) return payment.disperser
  throw new WeightlessError({
    code: 'SETTING_INVALID',
    message: `${given} is paid at the contract ${payment.contract}, this network’s is ${da.connection.contracts.accounts}`,
    fix: 'nothing was sent; give the right --accounts, or another disperser',
    details: { setting: '--accounts', named: payment.contract },
  })
}

function timeText(seconds: number): string {
  return new Date(seconds * 1_000).toISOString()
}

function empty(disperser: Address): WeightlessError {
  return new WeightlessError({
    code: 'ACCOUNT_EMPTY',
    message: `there is nothing to withdraw from ${disperser}`,
    fix: 'look at it with: weightless da balance',
    details: { disperser },
  })
}
