import type { Command } from 'commander'
import { formatEther } from 'viem'
import { coins } from '../arguments.ts'
import type { CliIo } from '../io.ts'
import { type ComputeOptions, computeOptions, openCompute } from '../open-compute.ts'
import { readOptions } from '../options.ts'

interface DepositOptions extends ComputeOptions {
  withdraw?: boolean
}

/** `weightless deposit AMOUNT` */
export function register(program: Command, io: CliIo): void {
  const command = program
    .command('deposit')
    .description('put coins into your ledger: chats are paid from there; without an amount, show what is there')
    .argument('[amount]', 'coins, such as 3 or 0.5', coins)
    .option('--withdraw', 'take the amount out of the ledger instead')
    .addHelpText(
      'after',
      '\nThe first deposit has a minimum (3 coins unless the network says otherwise). Coins move on to a provider at the\nfirst chat with it, and come back on request; see: weightless providers',
    )
    .action((amount: bigint | undefined, _options: unknown, at: Command) =>
      runDeposit({ amountWei: amount, options: readOptions<DepositOptions>(at), io }),
    )
  for (const option of computeOptions({ signs: true })) command.addOption(option)
}

async function runDeposit({
  amountWei,
  options,
  io,
}: {
  amountWei: bigint | undefined
  options: DepositOptions
  io: CliIo
}): Promise<void> {
  const { compute } = await openCompute({ io, options })
  try {
    const { signal } = io
    let txHash: string | null = null
    if (amountWei !== undefined) {
      txHash = options.withdraw
        ? await compute.withdraw({ amountWei, signal })
        : (await compute.deposit({ amountWei, signal })).txHash
    }
    const [ledger, accounts] = await Promise.all([compute.ledger(), compute.accounts()])
    const { availableWei = 0n, totalWei = 0n } = ledger ?? {}
    const moved =
      amountWei === undefined ? [] : [`${options.withdraw ? 'withdrew' : 'deposited'} ${formatEther(amountWei)}`]
    io.result({
      json: { txHash, amountWei: amountWei ?? null, availableWei, totalWei, accounts },
      text: [
        ...moved,
        ledger === undefined
          ? 'no ledger yet; open it with: weightless deposit 3'
          : `free ${formatEther(availableWei)}`,
        ...accounts.map(({ provider, balanceWei, pendingRefundWei }) => {
          const back = pendingRefundWei > 0n ? `, ${formatEther(pendingRefundWei)} of it on the way back` : ''
          return `at ${provider} ${formatEther(balanceWei)}${back}`
        }),
      ],
    })
  } finally {
    await compute.close()
  }
}
