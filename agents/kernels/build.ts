import { randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { blake2bSource } from './codegen/blake2b.ts'
import { keccakSource } from './codegen/keccak.ts'
import { KernelError } from './error.ts'
import { BUILD_FOLDER, hashSources, isBuilt, STAMP_FILE, WASM_FILE } from './sources.ts'

/**
 * Statics begin at 1024 and end below 64 KiB, where callers' regions begin. The imported memory is shared, of any size:
 * shared memories cost the kernels nothing, and one module serves this thread and the workers. Optimisation makes no
 * difference to the speed of code as straight as this, only to its size.
 */
const FLAGS = [
  ...['-O3', '--noAssert', '--runtime', 'stub', '--memoryBase', '1024'],
  ...['--enable', 'simd', '--enable', 'threads'],
  ...['--importMemory', '--sharedMemory', '--initialMemory', '1', '--maximumMemory', '65536'],
]

/** Sources written by a script, imported as `../build/generated/<name>`. */
const GENERATED = new Map([
  ['keccak', keccakSource],
  ['blake2b', blake2bSource],
])

/**
 * Writes the generated sources and compiles the kernels into `build/`, unless what is there came from the same sources.
 * Several processes may build at once: each file is replaced in one step. Takes about three seconds.
 *
 * @throws KernelError `KERNELS_NOT_BUILT` with the compiler's words
 */
export async function buildKernels({ force = false }: { force?: boolean } = {}): Promise<{ built: boolean }> {
  if (!force && isBuilt()) return { built: false }
  const sources = hashSources()
  mkdirSync(new URL('generated/', BUILD_FOLDER), { recursive: true })
  for (const [name, write] of GENERATED) replaceFile(generatedFile(name), write())
  replaceFile(WASM_FILE, await compile())
  replaceFile(STAMP_FILE, `${JSON.stringify({ sources })}\n`)
  return { built: true }
}

async function compile(): Promise<Uint8Array> {
  const { main, createMemoryStream } = await loadCompiler()
  const stderr = createMemoryStream()
  let wasm: Uint8Array | undefined
  const { error } = await main(
    ['assembly/index.ts', '--baseDir', fileURLToPath(new URL('.', import.meta.url)), '-o', 'kernels.wasm', ...FLAGS],
    {
      stderr,
      readFile: readSource,
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
function readSource(name: string, baseDir: string): string | null {
  const generated = /(?:^|\/)build\/generated\/(\w+)\.ts$/.exec(name)?.[1]
  try {
    return readFileSync(generated === undefined ? resolve(baseDir, name) : generatedFile(generated), 'utf8')
  } catch {
    return null // not there: the compiler tries other names
  }
}

function generatedFile(name: string): URL {
  return new URL(`generated/${name}.as`, BUILD_FOLDER)
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
