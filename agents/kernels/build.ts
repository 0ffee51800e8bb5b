import { randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { blake2bSource } from './codegen/blake2b.ts'
import { blake2bWideSource } from './codegen/blake2b-wide.ts'
import { keccakSource } from './codegen/keccak.ts'
import { sha256Source } from './codegen/sha256.ts'
import { KernelError } from './error.ts'
import {
  BUILD_FOLDER,
  ERASURE_FILE,
  ERASURE_WIDE_FILE,
  hashSources,
  isBuilt,
  PORTABLE_FILE,
  STAMP_FILE,
  WIDE_FILE,
  WIDE_PORA_FILE,
} from './sources.ts'

/**
 * Statics of all modules lie below 64 KiB, where callers' regions begin, and apart from each other, because an
 * instance has several over one memory. The imported memory is shared, of any size: shared memories cost the kernels
 * nothing, and the same modules serve this thread and the workers. Optimisation makes no difference to the speed of
 * code as straight as this, only to its size.
 */
const FLAGS = [
  ...['-O3', '--noAssert', '--runtime', 'stub'],
  ...['--enable', 'simd', '--enable', 'threads', '--enable', 'relaxed-simd'],
  ...['--importMemory', '--sharedMemory', '--initialMemory', '1', '--maximumMemory', '65536'],
]

/** What is compiled: an entry in `assembly/`, the sources a script writes for it, and where its statics begin. */
const MODULES: KernelModule[] = [
  {
    entry: 'index',
    memoryBase: 1024,
    wasm: PORTABLE_FILE,
    generated: { keccak: () => keccakSource({ wide: false }), blake2b: blake2bSource },
  },
  { entry: 'wide', memoryBase: 49152, wasm: WIDE_FILE, generated: { keccak: () => keccakSource({ wide: true }) } },
  { entry: 'wide-pora', memoryBase: 57344, wasm: WIDE_PORA_FILE, generated: { 'blake2b-wide': blake2bWideSource } },
  {
    entry: 'erasure',
    memoryBase: 1024,
    wasm: ERASURE_FILE,
    generated: { sha256: () => sha256Source({ wide: false }) },
  },
  {
    entry: 'erasure-wide',
    memoryBase: 32768,
    wasm: ERASURE_WIDE_FILE,
    generated: { sha256: () => sha256Source({ wide: true }) },
  },
]

interface KernelModule {
  entry: string
  memoryBase: number
  wasm: URL
  /** Imported as `../build/generated/<name>`. */
  generated: Record<string, () => string>
}

/**
 * Writes the generated sources and compiles the kernels into `build/`, unless what is there came from the same sources.
 * Several processes may build at once: each file is replaced in one step. Takes about three seconds.
 *
 * @throws KernelError `KERNELS_NOT_BUILT` with the compiler's words
 */
export async function buildKernels({ force = false }: { force?: boolean } = {}): Promise<{ built: boolean }> {
  if (!force && isBuilt()) return { built: false }
  const sources = hashSources()
  for (const module of MODULES) {
    mkdirSync(generatedFolder(module), { recursive: true })
    for (const [name, write] of Object.entries(module.generated)) replaceFile(generatedFile(module, name), write())
    replaceFile(module.wasm, await compile(module))
  }
  replaceFile(STAMP_FILE, `${JSON.stringify({ sources })}\n`)
  return { built: true }
}

async function compile(module: KernelModule): Promise<Uint8Array> {
  const { main, createMemoryStream } = await loadCompiler()
  const stderr = createMemoryStream()
  let wasm: Uint8Array | undefined
  const { error } = await main(
    [
      `assembly/${module.entry}.ts`,
      ...['--baseDir', fileURLToPath(new URL('.', import.meta.url)), '--memoryBase', String(module.memoryBase)],
      ...['-o', 'kernels.wasm', ...FLAGS],
    ],
    {
      stderr,
      readFile: (name, baseDir) => readSource({ module, name, baseDir }),
      writeFile: (name, contents) => {
        if (name.endsWith('.wasm') && typeof contents !== 'string') wasm = contents
      },
    },
  )
  if (wasm && !error) return wasm
  throw new KernelError({
    code: 'KERNELS_NOT_BUILT',
    message: `the kernels do not compile: ${stderr.toString().trim()}`,
    cause: error ?? undefined,
  })
}

/** Generated sources lie under `.as`, so that nothing takes them for TypeScript; the compiler asks for `.ts`. */
function readSource({ module, name, baseDir }: ReadSourceParameters): string | null {
  const generated = /(?:^|\/)build\/generated\/([\w-]+)\.ts$/.exec(name)?.[1]
  try {
    return readFileSync(generated === undefined ? resolve(baseDir, name) : generatedFile(module, generated), 'utf8')
  } catch {
    return null // not there: the compiler tries other names
  }
}

interface ReadSourceParameters {
  module: KernelModule
  name: string
  baseDir: string
}

function generatedFolder({ entry }: KernelModule): URL {
  return new URL(`generated/${entry}/`, BUILD_FOLDER)
}

function generatedFile(module: KernelModule, name: string): URL {
  return new URL(`${name}.as`, generatedFolder(module))
}

async function loadCompiler() {
  try {
    return await import('assemblyscript/asc')
  } catch (cause) {
    throw new KernelError({
      code: 'KERNELS_NOT_BUILT',
      message: 'the AssemblyScript compiler is not installed',
      fix: 'install with development dependencies (npm ci), then run: npm run build:kernels',
      cause,
    })
  }
}

function replaceFile(file: URL, contents: string | Uint8Array): void {
  const fresh = new URL(`${file.href}.${randomUUID()}`)
  writeFileSync(fresh, contents)
  renameSync(fresh, file)
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { built } = await buildKernels({ force: process.argv.includes('--force') })
  console.log(built ? 'Kernels compiled.' : 'Kernels are up to date.')
}
