import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { freeDiskBytes } from '#kit/files.ts'
import { type GpuPackage, GpuSetupError, gpuPackages, libraryFolder } from './gpu-packages.ts'

/** Bytes of the package manager's words that are kept. */
const MAX_OUTPUT = 1024 * 1024
const PUBLIC_REGISTRY = 'registry.npmjs.org'
const HEAD_TIMEOUT_MS = 15_000

export interface SetupGpuParameters {
  packages?: readonly GpuPackage[] | undefined
  /** Asked before anything is fetched; false leaves everything as it is. */
  confirm: (plan: GpuSetupPlan) => Promise<boolean>
  /** Told what happens. */
  onStep?: ((step: string) => void) | undefined
  signal: AbortSignal
  /** Registry other than the package manager's own. */
  registry?: string | undefined
  /** Folder of node-llama-cpp; default the installed one. */
  library?: string | undefined
}

/** A package, and how large it is as far as its registry says. */
export interface SizedPackage extends GpuPackage {
  unpackedBytes: number | undefined
  /** Bytes to fetch; asked for where the other is not known. */
  archiveBytes: number | undefined
}

/** What the setup is about to do. */
export interface GpuSetupPlan {
  packages: readonly SizedPackage[]
  /** Bytes on disk when all is done; undefined where the registry does not say it. */
  unpackedBytes: number | undefined
  /** Bytes to fetch; undefined where nobody says that, or it was not asked. */
  archiveBytes: number | undefined
  /** Where the packages go. */
  folder: string
}

/**
 * Puts GPU packages beside node-llama-cpp, where an ordinary installation holds empty stand-ins. They come from the registry
 * through npm, which checks their integrity, and take the place of the stand-in only when they are complete; no script of
 * theirs runs. A later `npm install` may put the stand-ins back: run the setup again then.
 *
 * @returns false when `confirm` said no
 * @throws GpuSetupError; the signal's reason
 */
export async function setupGpu(parameters: SetupGpuParameters): Promise<boolean> {
  const { confirm, onStep, signal, library = libraryFolder() } = parameters
  const packages = parameters.packages ?? gpuPackages({ library })
  const folder = join(dirname(library), '@node-llama-cpp')
  const sized: SizedPackage[] = []
  for (const wanted of packages) {
    onStep?.(`asking for the size of ${wanted.name}`)
    sized.push({ ...wanted, ...(await sizeOf(wanted, parameters)) })
  }
  const unpackedBytes = total(sized.map((size) => size.unpackedBytes))
  const archiveBytes = total(sized.map((size) => size.archiveBytes))
  if (!(await confirm({ packages: sized, unpackedBytes, archiveBytes, folder }))) return false
  signal.throwIfAborted()
  await mkdir(folder, { recursive: true })
  // Archive and content lie there together for a while. Libraries shrink to a third or so; what nobody knows is tried.
  const neededBytes = unpackedBytes === undefined ? 4 * (archiveBytes ?? 0) : 2 * unpackedBytes
  const free = await freeDiskBytes(folder)
  if (free < neededBytes) {
    throw new GpuSetupError({
      code: 'GPU_DISK',
      message: `the packages need ${neededBytes} bytes for a while, and ${free} are free`,
      fix: 'free some space and try again',
      details: { neededBytes, freeBytes: free },
    })
  }
  for (const wanted of sized) await install(wanted, { ...parameters, folder })
  return true
}

async function install(wanted: GpuPackage, parameters: SetupGpuParameters & { folder: string }): Promise<void> {
  const { folder, onStep, signal } = parameters
  const place = join(folder, wanted.name.slice(wanted.name.indexOf('/') + 1))
  const work = await mkdtemp(join(folder, '.setup-'))
  try {
    onStep?.(`fetching ${wanted.name} ${wanted.version}`)
    await npm(['pack', `${wanted.name}@${wanted.version}`, '--ignore-scripts', '--pack-destination', work], parameters)
    const archive = (await readdir(work)).find((name) => name.endsWith('.tgz'))
    if (archive === undefined) throw notThePackage(wanted, 'nothing was fetched')
    onStep?.(`unpacking ${wanted.name}`)
    await run('tar', ['-xzf', archive], { cwd: work, signal })
    await checkPackage(join(work, 'package'), wanted)
    const old = join(work, 'old')
    if (existsSync(place)) await rename(place, old)
    await rename(join(work, 'package'), place)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function checkPackage(folder: string, wanted: GpuPackage): Promise<void> {
  const text = await readFile(join(folder, 'package.json'), 'utf8').catch(() => '{}')
  const found = z.object({ name: z.string(), version: z.string() }).safeParse(JSON.parse(text))
  const isIt = found.success && found.data.name === wanted.name && found.data.version === wanted.version
  if (!isIt) throw notThePackage(wanted, 'another package came')
  if (!existsSync(join(folder, 'bins'))) throw notThePackage(wanted, 'it holds no binaries')
}

const bytes = z.number().int().min(0)
const distSchema = z.object({ unpackedSize: bytes.optional().catch(undefined), tarball: z.url() })

/** Some registries leave out the unpacked size: then the archive's length has to do, where its server says it. */
async function sizeOf(
  wanted: GpuPackage,
  parameters: SetupGpuParameters,
): Promise<Pick<SizedPackage, 'unpackedBytes' | 'archiveBytes'>> {
  const text = await npm(['view', `${wanted.name}@${wanted.version}`, 'dist', '--json'], parameters)
  const dist = distSchema.safeParse(jsonOf(text))
  if (!dist.success) throw notThePackage(wanted, 'the registry does not have it')
  const { unpackedSize: unpackedBytes, tarball } = dist.data
  if (unpackedBytes !== undefined) return { unpackedBytes, archiveBytes: undefined }
  return { unpackedBytes, archiveBytes: await archiveLength(tarball, parameters) }
}

async function archiveLength(tarball: string, parameters: SetupGpuParameters): Promise<number | undefined> {
  const { signal } = parameters
  try {
    const url = new URL(tarball)
    // As npm does itself: registries that mirror the public one often leave its name in their descriptions.
    if (url.host === PUBLIC_REGISTRY) {
      const registry = parameters.registry ?? (await npm(['config', 'get', 'registry'], parameters)).trim()
      const { protocol, host, pathname } = new URL(registry)
      Object.assign(url, { protocol, host, pathname: pathname.replace(/\/$/, '') + url.pathname })
    }
    const limit = AbortSignal.any([signal, AbortSignal.timeout(HEAD_TIMEOUT_MS)])
    const response = await fetch(url, { method: 'HEAD', headers: { 'accept-encoding': 'identity' }, signal: limit })
    const length = bytes.safeParse(Number(response.headers.get('content-length') ?? Number.NaN))
    return response.ok && length.success ? length.data : undefined
  } catch {
    signal.throwIfAborted()
    return undefined
  }
}

function total(sizes: readonly (number | undefined)[]): number | undefined {
  return sizes.reduce<number | undefined>(
    (sum, size) => (sum === undefined || size === undefined ? undefined : sum + size),
    0,
  )
}

function npm(args: readonly string[], { registry, signal }: SetupGpuParameters): Promise<string> {
  const isWindows = process.platform === 'win32'
  const settings = ['--no-audit', '--no-fund', '--no-update-notifier', ...(registry ? ['--registry', registry] : [])]
  return run(isWindows ? 'npm.cmd' : 'npm', [...args, ...settings], { signal, shell: isWindows })
}

async function run(
  command: string,
  args: readonly string[],
  { cwd, signal, shell = false }: { cwd?: string; signal: AbortSignal; shell?: boolean },
): Promise<string> {
  const child = spawn(command, args, { signal, shell, stdio: ['ignore', 'pipe', 'pipe'], ...(cwd ? { cwd } : {}) })
  let output = ''
  let errors = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-MAX_OUTPUT)
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-4096)
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  }).catch((cause: unknown) => {
    signal.throwIfAborted()
    throw failed(command, errors, cause)
  })
  signal.throwIfAborted()
  if (code !== 0) throw failed(command, errors)
  return output
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function failed(command: string, errors: string, cause?: unknown): GpuSetupError {
  return new GpuSetupError({
    code: 'GPU_REGISTRY',
    message: `${command} failed${errors === '' ? '' : `: ${errors.trim().split('\n').slice(-3).join(' ').slice(0, 300)}`}`,
    fix: 'check the network and that npm and tar are installed, then try again',
    cause,
  })
}

function notThePackage({ name, version }: GpuPackage, what: string): GpuSetupError {
  return new GpuSetupError({
    code: 'GPU_PACKAGE',
    message: `${name} ${version}: ${what}`,
    fix: 'check which registry npm uses',
    details: { name, version },
  })
}
