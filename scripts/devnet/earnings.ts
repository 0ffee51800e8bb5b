import { formatEther } from 'viem'
import { z } from 'zod'

const statusSchema = z.object({
  state: z.string(),
  reason: z.string().optional(),
  sealing: z.object({ sealedChunks: z.number(), sealableChunks: z.number() }),
  answers: z.object({ accepted: z.number() }),
  money: z.object({ earnedWei: z.string(), withdrawnWei: z.string() }),
})

/** What a miner has to show, in one line. Rejects when it does not answer. */
export async function minerEarnings({ url, signal }: { url: string; signal: AbortSignal }): Promise<string> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(5_000)])
  const response = await fetch(`${url}/v1/status`, { signal: limit })
  const { state, reason, sealing, answers, money } = statusSchema.parse(await response.json())
  const doing = state === 'waiting' && reason !== undefined ? `waiting: ${reason}` : state
  const earned = formatEther(BigInt(money.earnedWei))
  return `${doing}, ${sealing.sealedChunks} of ${sealing.sealableChunks} chunks sealed, ${answers.accepted} answers accepted, ${earned} earned`
}
