import { type SamplingSettings, samplingSettings } from '#protocol/sampling/sample.ts'
import type { SamplingRequest } from './requests.ts'

/** The settings of a request as receipts state them; `seed` where the request has none. */
export function requestSettings(
  { temperature = 1, minP = 0, ...request }: SamplingRequest,
  seed: bigint,
): SamplingSettings {
  return samplingSettings({ temperature, minP, seed: request.seed ?? seed })
}
