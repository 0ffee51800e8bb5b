import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { chown, mkdtemp, rm } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'

/** A database server of the test's own on a loopback port. */
export interface TestServer {
  readonly url: string
  stop(): Promise<void>
}

const START_TIMEOUT_MS = 20_000

/** Where a program is installed: the PATH, then Debian's folders for PostgreSQL. */
export function findProgram(name: string): string | undefined {
  const base = '/usr/lib/postgresql'
  const versions = existsSync(base) ? readdirSync(base).map((version) => join(base, version, 'bin')) : []
  return [...(process.env.PATH ?? '').split(delimiter), ...versions]
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path))
}

/** Starts a Redis that keeps everything in memory. */
export async function startRedis(program: string): Promise<TestServer> {
  const folder = await mkdtemp(join(tmpdir(), 'queue-redis-'))
  const port = await freePort()
  const options = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', folder]
  const child = spawn(program, options, { stdio: ['ignore', 'pipe', 'pipe'] })
  return started({ child, folder, url: `redis://127.0.0.1:${port}`, ready: /Ready to accept connections/ })
}

/** Starts a PostgreSQL with a fresh database; as an unprivileged user when we are root, because it refuses root. */
export async function startPostgres(programs: { postgres: string; initdb: string }): Promise<TestServer> {
  const folder = await mkdtemp(join(tmpdir(), 'queue-postgres-'))
  const user = process.getuid?.() === 0 ? unprivilegedUser() : undefined
  if (user !== undefined) await chown(folder, user.uid, user.gid)
  const data = join(folder, 'data')
  const options = ['-D', data, '-U', 'weightless', '-A', 'trust', '--no-sync', '-E', 'UTF8', '--locale=C']
  await promisify(execFile)(programs.initdb, options, { ...user, cwd: folder })
  const port = await freePort()
  const settings = ['listen_addresses=127.0.0.1', 'unix_socket_directories=', 'fsync=off', 'shared_buffers=16MB']
  const child = spawn(
    programs.postgres,
    ['-D', data, '-p', String(port), ...settings.flatMap((value) => ['-c', value])],
    {
      ...user,
      cwd: folder,
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  const url = `postgres://weightless@127.0.0.1:${port}/postgres`
  return started({ child, folder, url, ready: /ready to accept connections/ })
}

async function started(parameters: {
  child: ChildProcess
  folder: string
  url: string
  ready: RegExp
}): Promise<TestServer> {
  const { child, folder, url, ready } = parameters
  const exited = once(child, 'exit')
  const killNow = () => child.kill('SIGKILL')
  process.once('exit', killNow)
  const stop = async () => {
    // SIGINT: PostgreSQL then ends without waiting for its clients.
    child.kill('SIGINT')
    await exited
    process.removeListener('exit', killNow)
    await rm(folder, { recursive: true, force: true })
  }
  let output = ''
  const listening = new Promise<void>((resolve) => {
    const take = (chunk: Buffer) => {
      output = (output + chunk.toString('utf8')).slice(-8192)
      if (ready.test(output)) resolve()
    }
    child.stdout?.on('data', take)
    child.stderr?.on('data', take)
  })
  const timeout = AbortSignal.timeout(START_TIMEOUT_MS)
  const failed = Promise.race([exited, once(timeout, 'abort')]).then(() => {
    throw new Error(`the server did not start: ${output}`)
  })
  try {
    await Promise.race([listening, failed])
  } catch (error) {
    if (child.exitCode === null) await stop()
    throw error
  }
  failed.catch(() => undefined)
  return { url, stop }
}

function unprivilegedUser(): { uid: number; gid: number } {
  const lines = readFileSync('/etc/passwd', 'utf8').split('\n')
  for (const name of ['postgres', 'nobody']) {
    const fields = lines.find((line) => line.startsWith(`${name}:`))?.split(':')
    if (fields !== undefined) return { uid: Number(fields[2]), gid: Number(fields[3]) }
  }
  throw new Error('PostgreSQL refuses to run as root, and there is no user postgres or nobody')
}

async function freePort(): Promise<number> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
