import { realpath, rename } from 'node:fs/promises'
import { isAbsolute, join, relative } from 'node:path'
import { TrainerError } from '#compute/trainer/error.ts'
import type { TrainerResult } from '#compute/trainer/protocol.ts'
import { fileSource } from '#kit/files.ts'
import { readGgufHead } from '#protocol/gguf/read.ts'

/** Files of a trainer's output that are delivered, by the names under which they are. */
export const DELIVERED_FILES = {
  adapterPath: 'adapter.gguf',
  safetensorsPath: 'adapter_model.safetensors',
  configPath: 'adapter_config.json',
  curvePath: 'loss-curve.json',
} as const

/**
 * Puts what a trainer names as its result where deliveries take it from, after a look at it: inside the output folder, and an
 * adapter in GGUF for the base's architecture.
 *
 * @throws TrainerError `TRAINER_PROTOCOL`
 */
export async function collectOutputs(parameters: {
  folder: string
  basePath: string
  result: TrainerResult
}): Promise<void> {
  const { folder, basePath, result } = parameters
  if (result.adapterPath === undefined) throw wrong('it names no adapter')
  const home = await realpath(folder)
  for (const what of ['adapterPath', 'safetensorsPath', 'curvePath'] as const) {
    const given = result[what]
    if (given === undefined) continue
    const path = await realpath(given).catch((cause: unknown) => {
      throw wrong(`its ${what} is not there`, cause)
    })
    const inside = relative(home, path)
    if (inside === '' || inside.startsWith('..') || isAbsolute(inside)) throw wrong(`its ${what} lies elsewhere`)
    if (inside !== DELIVERED_FILES[what]) await rename(path, join(home, DELIVERED_FILES[what]))
  }
  const [adapter, base] = [await headOf(join(home, DELIVERED_FILES.adapterPath)), await headOf(basePath)]
  const isAdapter = adapter?.get('general.type') === 'adapter' && adapter.get('adapter.type') === 'lora'
  if (!isAdapter) throw wrong('its adapter is not a LoRA in GGUF')
  if (adapter.get('general.architecture') === base?.get('general.architecture')) return
  throw wrong('its adapter is for another architecture than the base')
}

async function headOf(path: string): Promise<ReadonlyMap<string, unknown> | undefined> {
  await using source = await fileSource(path)
  return await readGgufHead(source).then(
    ({ metadata }) => metadata,
    () => undefined,
  )
}

function wrong(why: string, cause?: unknown): TrainerError {
  return new TrainerError({
    code: 'TRAINER_PROTOCOL',
    message: `the result of the trainer cannot be delivered: ${why}`,
    fix: 'see docs/training.md for what a trainer leaves',
    cause,
  })
}
