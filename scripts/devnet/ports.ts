import { createServer } from 'node:net'
import { DevnetError } from './error.ts'

const triedPorts = 200

/** A port that was found taken, and what is used instead. */
export interface MovedPort {
  name: string
  wanted: number
  port: number
}

/**
 * Gives every name a free TCP port on `host`: the wanted one, or the next free one above it. No port is given twice.
 *
 * @throws {DevnetError} `DEVNET_PORTS` when 200 ports in a row are taken, or a port is outside 1024..65535
 */
export async function choosePorts({
  wanted,
  host = '127.0.0.1',
}: {
  wanted: Readonly<Record<string, number>>
  host?: string
}): Promise<{ ports: Record<string, number>; moved: MovedPort[] }> {
  const ports: Record<string, number> = {}
  const moved: MovedPort[] = []
  const given = new Set<number>()
  // Ports that others want come last as replacements, so that one taken port does not shift all the rest.
  const reserved = new Set(Object.values(wanted))
  for (const [name, first] of Object.entries(wanted)) {
    let port: number | undefined
    for (let candidate = first; candidate < first + triedPorts && port === undefined; candidate += 1) {
      if (candidate < 1024 || candidate > 65535) break
      if (given.has(candidate) || (candidate !== first && reserved.has(candidate))) continue
      if (await isFree({ port: candidate, host })) port = candidate
    }
    if (port === undefined) {
      throw new DevnetError({
        code: 'DEVNET_PORTS',
        message: `no free port for ${name} from ${first} on`,
        fix: 'give another start with --port-base (1024 to 65000)',
        details: { name, first },
      })
    }
    given.add(port)
    ports[name] = port
    if (port !== first) moved.push({ name, wanted: first, port })
  }
  return { ports, moved }
}

function isFree({ port, host }: { port: number; host: string }): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const server = createServer()
  server.once('error', () => resolve(false))
  server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)))
  return promise
}
