import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { WeightlessError } from '#protocol/error.ts'

/**
 * No GPU package can be put in place. Codes: `GPU_PLATFORM` (none exists for this machine), `GPU_REGISTRY` (the package
 * manager failed), `GPU_PACKAGE` (what came is not the package), `GPU_DISK`.
 */
export class GpuSetupError extends WeightlessError {}

/** What llama.cpp computes on. */
export type Backend = 'cpu' | 'cuda' | 'vulkan' | 'metal'

/** A package with prebuilt binaries of llama.cpp. */
export interface GpuPackage {
  name: string
  /** The version that fits the installed node-llama-cpp. */
  version: string
  backend: Backend
}

export interface GpuPackagesParameters {
  /** `auto`, the default: CUDA where an NVIDIA driver is loaded, else Vulkan. */
  backend?: 'auto' | 'cuda' | 'vulkan' | undefined
  platform?: NodeJS.Platform | undefined
  arch?: string | undefined
  /** Folder of node-llama-cpp; default the installed one. */
  library?: string | undefined
}

/**
 * The packages that a GPU of this machine needs; an ordinary installation leaves them out for their size. Macs have Metal in
 * their ordinary package.
 *
 * @throws GpuSetupError `GPU_PLATFORM`
 */
export function gpuPackages({
  backend = 'auto',
  platform = process.platform,
  arch = process.arch,
  library = libraryFolder(),
}: GpuPackagesParameters = {}): readonly GpuPackage[] {
  const wanted = backend === 'auto' ? (hasNvidiaDriver() ? 'cuda' : 'vulkan') : backend
  const system = platform === 'win32' ? 'win' : platform
  // The CUDA binaries are split over two packages.
  const suffixes = wanted === 'cuda' ? ['cuda', 'cuda-ext'] : ['vulkan']
  const names = suffixes.map((suffix) => `@node-llama-cpp/${system}-${arch}-${suffix}`)
  const versions = optionalVersions(library)
  return names.map((name) => {
    const version = versions[name]
    if (version !== undefined) return { name, version, backend: wanted }
    throw new GpuSetupError({
      code: 'GPU_PLATFORM',
      message: `there is no ${wanted} package for ${platform} ${arch}`,
      fix:
        platform === 'darwin'
          ? 'nothing is needed: Metal comes with the ordinary package'
          : 'use the CPU, or an upstream',
      details: { platform, arch, backend: wanted },
    })
  })
}

/** Backends whose binaries are installed, best first. An empty stand-in for a package does not count. */
export function installedBackends({ library = libraryFolder() }: { library?: string } = {}): Backend[] {
  const folder = join(dirname(library), '@node-llama-cpp')
  const system = process.platform === 'win32' ? 'win' : process.platform === 'darwin' ? 'mac' : process.platform
  const base = `${system}-${process.arch}`
  const packages: [Backend, string[]][] = [
    ['cuda', [`${base}-cuda`, `${base}-cuda-ext`]],
    ['vulkan', [`${base}-vulkan`]],
    ['metal', [`${base}-metal`]],
    ['cpu', [base]],
  ]
  return packages
    .filter(([, names]) => names.every((name) => existsSync(join(folder, name, 'bins'))))
    .map(([backend]) => backend)
}

/** Folder of the installed node-llama-cpp. */
export function libraryFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.resolve('node-llama-cpp')))
  while (!existsSync(join(folder, 'package.json')) && dirname(folder) !== folder) folder = dirname(folder)
  return folder
}

function optionalVersions(library: string): Record<string, string> {
  const description: unknown = JSON.parse(readFileSync(join(library, 'package.json'), 'utf8'))
  return Object(Reflect.get(Object(description), 'optionalDependencies'))
}

function hasNvidiaDriver(): boolean {
  return existsSync('/proc/driver/nvidia/version') || existsSync('C:\\Windows\\System32\\nvidia-smi.exe')
}
