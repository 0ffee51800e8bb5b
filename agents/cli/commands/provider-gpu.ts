import { confirm, isCancel } from '@clack/prompts'
import { setupGpu } from '#compute/engines/setup-gpu.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { CliIo } from '../io.ts'
import { formatBytes } from '../progress.ts'

/** Fetches the GPU builds of llama.cpp after saying what they are and how large. */
export async function fetchGpuBuilds({ io, agreed }: { io: CliIo; agreed: boolean }): Promise<void> {
  const fetched: string[] = []
  const done = await setupGpu({
    signal: io.signal,
    onStep: (step) => io.info(step),
    confirm: async ({ packages, unpackedBytes, folder }) => {
      fetched.push(...packages.map(({ name, version }) => `${name}@${version}`))
      io.info(`${fetched.join(', ') || 'nothing'}: ${formatBytes(unpackedBytes)} in ${folder}`)
      if (agreed) return true
      if (!io.isTty || io.json) {
        throw new WeightlessError({
          code: 'CLI_USAGE',
          message: 'nobody is there to agree to the download',
          fix: 'give --yes to fetch what is listed',
        })
      }
      const answer = await confirm({
        message: 'Fetch them?',
        input: io.stdin as NodeJS.ReadStream,
        output: io.stderr as NodeJS.WriteStream,
      })
      return !isCancel(answer) && answer
    },
  })
  if (!done) throw new DOMException('declined', 'AbortError')
  io.result({ json: { packages: fetched }, text: [`ready: ${fetched.join(', ')}`] })
}
