import { join } from 'node:path'
import type { Engine } from '#compute/engines/engine.ts'
import type { Logger } from '#kit/log.ts'
import type { Metrics } from '#kit/metrics.ts'
import type { ProviderConfig } from '../config.ts'
import { AdapterCache } from './adapter-cache.ts'
import { storageAdapterSource } from './adapter-source.ts'
import type { KnownAdapter } from './configured-adapters.ts'
import { isAdapterEngine, ProviderAdapters } from './provider-adapters.ts'

/**
 * The adapters of a configuration over an engine. The cache is a folder of the data folder.
 *
 * @throws errors of the file system
 */
export async function openAdapters(parameters: {
  config: ProviderConfig
  configured: ReadonlyMap<string, KnownAdapter>
  engine: Engine
  log: Logger
  now: () => number
  metrics: Metrics
}): Promise<ProviderAdapters> {
  const { config, engine, ...context } = parameters
  const { adapterLimits: limits, storage } = config
  const source = isAdapterEngine(engine) ? storageAdapterSource(storage) : undefined
  const cache =
    source === undefined
      ? undefined
      : await AdapterCache.open({ folder: join(config.dataDir, 'adapters'), maxBytes: limits.cacheBytes })
  return new ProviderAdapters({ engine, limits, cache, source, ...context })
}
