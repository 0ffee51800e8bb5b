import { text as readAll } from 'node:stream/consumers'
import { type Command, InvalidArgumentError } from 'commander'
import { formatEther } from 'viem'
import type { ChatEvent, ChatMessage } from '#client/compute/chat.ts'
import { type ProviderSort, SORTS } from '#client/compute/preferences.ts'
import type { Verification } from '#client/compute/verify-exchange.ts'
import { WeightlessError } from '#protocol/error.ts'
import { wholeNumber } from '../arguments.ts'
import { EXIT_CODE } from '../exit-code.ts'
import type { CliIo } from '../io.ts'
import { type ComputeOptions, computeOptions, openCompute } from '../open-compute.ts'
import { readOptions } from '../options.ts'

interface ChatOptions extends ComputeOptions {
  model?: string
  provider?: string
  sort?: ProviderSort
  system?: string
  maxTokens?: number
  temperature?: number
  seed?: number
  modelFile?: string[]
}

const MAX_PROMPT_BYTES = 8 * 2 ** 20

/** `weightless chat PROMPT` */
export function register(program: Command, io: CliIo): void {
  const command = program
    .command('chat')
    .description('ask a model of the network; streams the answer, then tells its cost and whether it verified')
    .argument('[prompt]', 'what to ask; - or nothing reads it from standard input')
    .option(
      '--model <name>',
      'model to ask, MODEL:0xROOT for one with an adapter (default: what the chosen provider serves)',
    )
    .option('--provider <name>', 'provider by address, host or name (default: chosen by price, speed and health)')
    .option('--sort <figure>', `choose by ${SORTS.join(', ')} alone`, sort)
    .option('--system <text>', 'system message')
    .option('--max-tokens <n>', 'tokens the answer may have', wholeNumber)
    .option('--temperature <t>', 'sampling temperature; 0 always takes the likeliest token', temperature)
    .option('--seed <n>', 'seed of the sampling (default: made of the request and 32 random bytes)', wholeNumber)
    .option('--model-file <file...>', 'weights (GGUF) to compare the text with the tokens of the receipt')
    .addHelpText('after', '\nThe first chat with a provider opens an account there out of your deposit.')
    .action((prompt: string | undefined, _options: unknown, at: Command) =>
      runChat({ prompt, options: readOptions<ChatOptions>(at), io }),
    )
  for (const option of computeOptions({ signs: true })) command.addOption(option)
}

async function runChat({
  prompt,
  options,
  io,
}: {
  prompt: string | undefined
  options: ChatOptions
  io: CliIo
}): Promise<void> {
  const question = prompt === undefined || prompt === '-' ? await readPrompt(io) : prompt
  const system: ChatMessage[] = options.system === undefined ? [] : [{ role: 'system', content: options.system }]
  const { compute } = await openCompute({ io, options, modelFiles: options.modelFile })
  try {
    const { model, provider, maxTokens, temperature: heat, seed } = options
    const answer = await compute.chat({
      messages: [...system, { role: 'user', content: question }],
      ...{ model, provider, maxTokens, temperature: heat, seed, signal: io.signal },
      preferences: options.sort === undefined ? {} : { sort: options.sort },
      onEvent: (event) => io.info(describe(event)),
    })
    let text = ''
    for await (const part of answer.text) {
      text += part
      if (!io.json) io.stdout.write(part)
    }
    if (!io.json && !text.endsWith('\n')) io.stdout.write('\n')
    const checked = await answer.verification
    showVerdict(io, checked)
    if (io.json) {
      const { provider: from, url, model: served } = answer.service
      const { firstTokenMs } = answer
      io.result({
        json: { text, provider: from, url, model: served, firstTokenMs: Math.round(firstTokenMs), ...checked },
        text: [],
      })
    }
    if (!checked.verified) io.exitCode = EXIT_CODE.failure
  } finally {
    await compute.close()
  }
}

function describe(event: ChatEvent): string {
  switch (event.type) {
    case 'quote': {
      const { service, model, estimatedFeeWei, maxFeeWei } = event
      const price = `about ${formatEther(estimatedFeeWei)}, at most ${formatEther(maxFeeWei)}`
      return `asking ${model} at ${service.provider} (${URL.parse(service.url)?.host}): ${price}`
    }
    case 'account-guard':
      return `binding ${event.provider} to charge only what you sign`
    case 'account-open':
      return `opening an account at ${event.provider} with ${formatEther(event.amountWei)} of your deposit`
    case 'account-top-up':
      return `topping up the account at ${event.provider} with ${formatEther(event.amountWei)} of your deposit`
    case 'fail-over':
      return `${event.service.provider} failed (${event.reason}); asking the next provider`
  }
}

function showVerdict(io: CliIo, { verified, feeWei, usage, digest, checks, level }: Verification): void {
  const tokens = usage === undefined ? '' : ` for ${usage.promptTokens} + ${usage.completionTokens} tokens`
  if (feeWei !== undefined) io.info(`cost ${formatEther(feeWei)}${tokens}`)
  if (verified) {
    io.info(`verified: signed receipt, level ${level}; show it with: weightless receipt show ${digest}`)
    return
  }
  const failed = checks.filter(({ ok }) => !ok).map(({ name, detail }) => `${name}: ${detail}`)
  io.warn(`this answer is NOT verified (${failed.join('; ')})`)
}

async function readPrompt(io: CliIo): Promise<string> {
  const prompt = io.stdin.isTTY ? '' : (await readAll(io.stdin)).trim()
  if (prompt !== '' && Buffer.byteLength(prompt) <= MAX_PROMPT_BYTES) return prompt
  throw new WeightlessError({
    code: 'CLI_USAGE',
    message: prompt === '' ? 'there is nothing to ask' : `the prompt is longer than ${MAX_PROMPT_BYTES} bytes`,
    fix: 'give the question: weightless chat "Why is the sky blue?"',
  })
}

function sort(text: string): ProviderSort {
  const found = SORTS.find((name) => name === text)
  if (found !== undefined) return found
  throw new InvalidArgumentError(`give one of ${SORTS.join(', ')}`)
}

function temperature(text: string): number {
  const value = Number(text)
  if (text.trim() !== '' && value >= 0 && value <= 16) return value
  throw new InvalidArgumentError('give a number from 0 to 16')
}
