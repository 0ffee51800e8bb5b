import { confirm, isCancel } from '@clack/prompts'
import { type GpuSetupPlan, type SetupGpuParameters, setupGpu } from '#compute/engines/setup-gpu.ts'
import { WeightlessError } from '#protocol/error.ts'
import type { CliIo } from '../io.ts'
import { formatBytes } from '../progress.ts'

export interface FetchGpuBuildsParameters extends Pick<SetupGpuParameters, 'packages' | 'registry' | 'library'> {
  io: CliIo
  /** Consent was given on the command line. */
  agreed: boolean
}

/** Fetches the GPU builds of llama.cpp after saying what they are and how large, as far as the registry says. */
export async function fetchGpuBuilds({ io, agreed, ...where }: FetchGpuBuildsParameters): Promise<void> {
  const fetched: string[] = []
  const done = await setupGpu({
    ...where,
    signal: io.signal,
    onStep: (step) => io.info(step),
    confirm: async (plan) => {
      fetched.push(...plan.packages.map(({ name, version }) => `${name}@${version}`))
      io.info(`${fetched.join(', ') || 'nothing'}: ${sizeText(plan)} in ${plan.folder}`)
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

function sizeText({ unpackedBytes, archiveBytes }: GpuSetupPlan): string {
  if (unpackedBytes !== undefined) return formatBytes(unpackedBytes)
  if (archiveBytes !== undefined) return `${formatBytes(archiveBytes)} to fetch, and more once unpacked,`
  return 'of a size that the registry does not say (several hundred MB are usual)'
}
