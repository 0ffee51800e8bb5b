import type { Engine } from '#compute/engines/engine.ts'
import { createUpstreamEngine } from '#compute/engines/upstream-engine.ts'
import { readSmallFile } from '#kit/files.ts'
import type { Hash } from '#protocol/hex.ts'
import { ProviderSetupError } from './account.ts'
import type { ProviderConfig } from './config.ts'

/**
 * The engine that a configuration names: a model file in this process, or an upstream.
 *
 * @throws ProviderSetupError `PROVIDER_ENGINE` when neither or both are named; EngineError `ENGINE_LOAD`
 */
export async function openEngine(config: ProviderConfig): Promise<Engine> {
  const { model, upstream, upstreamKeyFile, upstreamModel, contextTokens } = config
  if ((model === undefined) === (upstream === undefined)) {
    throw new ProviderSetupError({
      code: 'PROVIDER_ENGINE',
      message: model === undefined ? 'no engine is named' : 'both a model file and an upstream are named',
      fix: 'give --model FILE.gguf, or --upstream URL of an OpenAI-compatible server',
    })
  }
  const modelId = config.modelRoot as Hash | undefined
  if (upstream !== undefined) {
    const apiKey =
      upstreamKeyFile === undefined
        ? undefined
        : (await readSmallFile({ path: upstreamKeyFile, maxBytes: 4_096 })).trim()
    return createUpstreamEngine({
      ...{ url: withVersion(upstream), apiKey, model: upstreamModel, modelId },
      ...{ maxRunning: config.limits.concurrent, headTimeoutMs: config.firstTokenTimeoutMs },
      ...{ idleTimeoutMs: config.stallTimeoutMs, tokenIds: config.upstreamTokenIds },
      ...(contextTokens === 0 ? {} : { contextTokens }),
      adapters: new Map(config.adapters.map(({ name, upstreamModel: id = name }) => [name, id])),
    })
  }
  // Loaded on demand: it brings a native library that providers with an upstream do not need.
  const { createLlamaEngine } = await import('#compute/engines/llama-engine.ts')
  return await createLlamaEngine({
    ...{ modelPath: model ?? '', modelId, ...config.engine },
    ...(config.modelName === undefined ? {} : { name: config.modelName }),
    adapterContexts: config.adapterLimits.contexts,
    adapterSequences: config.adapterLimits.sequences,
    maxAdapterBytes: config.adapterLimits.maxBytes,
    ...(contextTokens === 0 ? {} : { contextTokens }),
  })
}

/** Addresses are usually given without the version that all of these servers have in their paths. */
function withVersion(url: string): string {
  const { pathname } = new URL(url)
  return pathname === '/' ? `${url.replace(/\/+$/, '')}/v1` : url
}
