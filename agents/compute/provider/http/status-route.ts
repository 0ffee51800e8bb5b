import type { FastifyInstance } from 'fastify'
import type { Attestor } from '#compute/attestation/attestor.ts'
import type { Hex } from '#protocol/hex.ts'
import { ProviderError } from '../error.ts'
import type { Serving } from '../serve/serving.ts'
import type { ProviderStatus } from '../status.ts'

/**
 * `GET /v1/provider`: who serves here, for clients. `GET /v1/provider/status`: the operator's figures, for calls from
 * this machine only.
 */
export function registerStatus(parameters: {
  app: FastifyInstance
  chainId: number
  contract: Hex
  attestor: Attestor
  serving: Serving
  status: () => ProviderStatus
}): void {
  const { app, chainId, contract, attestor, serving, status } = parameters
  app.get('/v1/provider', async () => {
    const info = await serving.engineInfo()
    const service = await serving.view.service()
    return {
      ...{ provider: serving.provider, chainId, contract, signer: status().signer, attestation: attestor.kind },
      ...(attestor.kind === 'simulated' ? { simulated: true } : {}),
      model: service?.model ?? info.model,
      ...{ modelRoot: info.modelId, engine: `${info.kind} ${info.build}`, contextTokens: serving.contextTokens(info) },
      inputPriceWei: String(service?.inputPriceWei ?? 0n),
      outputPriceWei: String(service?.outputPriceWei ?? 0n),
      ...{ profiles: info.profiles, capabilities: info.capabilities, running: serving.limits.running },
      vouchers: true,
    }
  })
  app.get('/v1/provider/status', async (request) => {
    const { remoteAddress } = request.socket
    const local = remoteAddress === '127.0.0.1' || remoteAddress === '::1' || remoteAddress === '::ffff:127.0.0.1'
    if (!local || request.headers['x-forwarded-for'] !== undefined) {
      throw new ProviderError({
        ...{ statusCode: 403, type: 'permission_error', code: 'local_only' },
        message: "the operator's figures are for calls from this machine",
      })
    }
    return Object.fromEntries(
      Object.entries(status()).map(([key, value]) => [key, typeof value === 'bigint' ? String(value) : value]),
    )
  })
}
