import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { z } from 'zod'
import { DevnetError } from './error.ts'

const hex = z.string().regex(/^0x[0-9a-fA-F]{40}$/)

const devnetFileSchema = z.object({
  chainId: z.int(),
  rpcUrl: z.url(),
  indexerUrl: z.url(),
  /** The key-value node, where one runs. */
  kvUrl: z.url().optional(),
  nodes: z.array(z.object({ name: z.string(), url: z.url(), adminUrl: z.url(), shard: z.string() })),
  contracts: z.record(z.string(), hex),
  /** Block from which on the contracts exist. */
  startBlock: z.int(),
  account: z.object({ address: hex }),
  ports: z.record(z.string(), z.int()),
  /** Nodes that hold the data together once. */
  nodesPerReplica: z.int(),
  replicas: z.int(),
  /** What runs besides the chain and storage. */
  services: z.array(z.enum(['kv', 'da', 'compute'])).default([]),
})

/** `devnet.json`: what there is and where, for the command line and for people. */
export type DevnetFile = z.output<typeof devnetFileSchema>

/** Undefined when there is none yet. Throws {@link DevnetError} `DEVNET_DIRECTORY` when it cannot be understood. */
export function readDevnetFile(file: string): DevnetFile | undefined {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
  try {
    return devnetFileSchema.parse(JSON.parse(text))
  } catch (cause) {
    throw new DevnetError({
      code: 'DEVNET_DIRECTORY',
      message: `${file} cannot be understood`,
      fix: 'start over with `weightless up --fresh`',
      details: { file },
      cause,
    })
  }
}

export function writeDevnetFile({ file, devnet }: { file: string; devnet: DevnetFile }): void {
  const aside = `${file}.${process.pid}.tmp`
  writeFileSync(aside, `${JSON.stringify(devnet, null, 2)}\n`)
  renameSync(aside, file)
}
