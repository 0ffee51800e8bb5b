import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { after, before, beforeEach, describe, it } from 'node:test'
import { fetchGpuBuilds } from '#cli/commands/provider-gpu.ts'
import { createIo } from '#cli/io.ts'
import { gpuPackages, installedBackends } from '#compute/engines/gpu-packages.ts'
import { setupGpu } from '#compute/engines/setup-gpu.ts'

const VERSION = '9.9.9'
const NAMES = [
  '@node-llama-cpp/linux-x64-cuda',
  '@node-llama-cpp/linux-x64-cuda-ext',
  '@node-llama-cpp/linux-x64-vulkan',
]
const archives = new Map<string, Buffer>()
let root: string
let library: string
let server: Server
let registry: string
/** What the registry says of sizes. */
let says = { unpacked: true, length: true, publicName: false }
let heads = 0

/** An archive as the registry has it: everything in a folder called package. */
async function pack(name: string, { real = name, bins = true } = {}): Promise<void> {
  const folder = await mkdtemp(join(root, 'pack-'))
  const content = join(folder, 'package')
  await mkdir(join(content, bins ? 'bins' : 'other'), { recursive: true })
  await writeFile(join(content, 'package.json'), JSON.stringify({ name: real, version: VERSION }))
  await writeFile(join(content, bins ? 'bins' : 'other', 'llama.node'), 'binary')
  execFileSync('tar', ['-czf', 'out.tgz', 'package'], { cwd: folder })
  archives.set(name, await readFile(join(folder, 'out.tgz')))
}

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'weightless-gpu-'))
  server = createServer((request, response) => {
    const path = decodeURIComponent(request.url ?? '')
    const name = NAMES.find((known) => path.endsWith(`/${known}`) || path.endsWith(`/${known}/tarball.tgz`))
    const archive = name === undefined ? undefined : archives.get(name)
    if (name === undefined || archive === undefined) response.writeHead(404).end('{}')
    else if (path.endsWith('.tgz') && request.method === 'HEAD') {
      heads += 1
      response.writeHead(says.length ? 200 : 405, says.length ? { 'content-length': archive.length } : {}).end()
    } else if (path.endsWith('.tgz')) response.end(archive)
    else {
      const integrity = `sha512-${createHash('sha512').update(archive).digest('base64')}`
      const tarball = `${says.publicName ? 'https://registry.npmjs.org' : registry}/${name}/tarball.tgz`
      const dist = { tarball, integrity, ...(says.unpacked ? { unpackedSize: 1000 } : {}) }
      const version = { name, version: VERSION, dist }
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ name, 'dist-tags': { latest: VERSION }, versions: { [VERSION]: version } }))
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  registry = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  process.env.npm_config_cache = join(root, 'cache')
})
after(async () => {
  delete process.env.npm_config_cache
  server.closeAllConnections()
  server.close()
  await rm(root, { recursive: true, force: true })
})
beforeEach(async () => {
  says = { unpacked: true, length: true, publicName: false }
  heads = 0
  await rm(join(root, 'cache'), { recursive: true, force: true })
  await rm(join(root, 'node_modules'), { recursive: true, force: true })
  library = join(root, 'node_modules', 'node-llama-cpp')
  await mkdir(library, { recursive: true })
  const optionalDependencies = Object.fromEntries(NAMES.map((name) => [name, VERSION]))
  await writeFile(join(library, 'package.json'), JSON.stringify({ name: 'node-llama-cpp', optionalDependencies }))
  // The stand-in of an ordinary installation.
  await mkdir(join(root, 'node_modules', NAMES[0] ?? ''), { recursive: true })
  await writeFile(join(root, 'node_modules', NAMES[0] ?? '', 'index.d.ts'), '')
})

const signal = () => AbortSignal.timeout(60_000)
const linux = (backend: 'cuda' | 'vulkan') => gpuPackages({ backend, platform: 'linux', arch: 'x64', library })

describe('GPU packages', () => {
  it('are named for platform and backend, in the version of the library', () => {
    assert.deepEqual(
      linux('cuda').map(({ name, version }) => [name, version]),
      [
        [NAMES[0], VERSION],
        [NAMES[1], VERSION],
      ],
    )
    assert.deepEqual(
      linux('vulkan').map(({ name }) => name),
      [NAMES[2]],
    )
    assert.throws(() => gpuPackages({ platform: 'aix', arch: 'ppc64', library }), { code: 'GPU_PLATFORM' })
    assert.ok(gpuPackages({ backend: 'vulkan', platform: 'linux', arch: 'x64' })[0]?.version.match(/^\d+\.\d+\.\d+/))
  })

  // The empty stand-ins of an ordinary installation do not count.
  it('are installed only when they hold binaries', () => {
    assert.deepEqual(installedBackends({ library }), [])
    assert.ok(installedBackends().includes(process.platform === 'darwin' ? 'metal' : 'cpu'))
  })
})

describe('GPU setup', () => {
  // With consent, told the sizes, the real packages take the place of the stand-ins; nothing else is left behind.
  it('puts the packages where the library looks for them', async () => {
    for (const name of NAMES) await pack(name)
    const steps: string[] = []
    const done = await setupGpu({
      ...{ packages: linux('cuda'), library, registry, signal: signal(), onStep: (step) => steps.push(step) },
      confirm: async (plan) => {
        assert.equal(plan.unpackedBytes, 2000)
        assert.deepEqual(
          plan.packages.map(({ name }) => name),
          NAMES.slice(0, 2),
        )
        return true
      },
    })
    assert.equal(done, true)
    const folder = join(root, 'node_modules', '@node-llama-cpp')
    assert.deepEqual((await readdir(folder)).sort(), ['linux-x64-cuda', 'linux-x64-cuda-ext'])
    assert.equal(await readFile(join(folder, 'linux-x64-cuda', 'bins', 'llama.node'), 'utf8'), 'binary')
    assert.ok(!existsSync(join(folder, 'linux-x64-cuda', 'index.d.ts')))
    if (process.platform === 'linux' && process.arch === 'x64')
      assert.deepEqual(installedBackends({ library }), ['cuda'])
    assert.equal(steps.length, 6)
  })

  // A registry that does not say the size costs nobody the setup: the archive's length is asked for, also where the
  // description names the public registry's server, and failing that consent is asked for without a number.
  it('goes on where the registry does not say the size', async () => {
    for (const name of NAMES) await pack(name)
    const sum = (archives.get(NAMES[0] ?? '')?.length ?? 0) + (archives.get(NAMES[1] ?? '')?.length ?? 0)
    for (const [length, publicName] of [
      [true, false],
      [true, true],
      [false, false],
    ] as const) {
      says = { unpacked: false, length, publicName }
      await rm(join(root, 'cache'), { recursive: true, force: true })
      let asked: (number | undefined)[] = []
      const done = await setupGpu({
        ...{ packages: linux('cuda'), library, registry, signal: signal() },
        confirm: async ({ unpackedBytes, archiveBytes }) => {
          asked = [unpackedBytes, archiveBytes]
          return true
        },
      })
      assert.equal(done, true)
      assert.deepEqual(asked, [undefined, length ? sum : undefined])
    }
    assert.equal(heads, 6)
  })

  it('changes nothing without consent', async () => {
    await pack(NAMES[2] ?? '')
    const done = await setupGpu({
      packages: linux('vulkan'),
      library,
      registry,
      signal: signal(),
      confirm: async () => false,
    })
    assert.equal(done, false)
    assert.deepEqual(await readdir(join(root, 'node_modules', '@node-llama-cpp')), ['linux-x64-cuda'])
  })

  // A package that is another one, or holds no binaries, is refused, and the stand-in stays.
  it('refuses what is not the package', async () => {
    const attempt = () =>
      setupGpu({ packages: linux('cuda'), library, registry, signal: signal(), confirm: async () => true })
    await pack(NAMES[1] ?? '')
    await rm(join(root, 'cache'), { recursive: true, force: true })
    await pack(NAMES[0] ?? '', { real: '@node-llama-cpp/other' })
    await assert.rejects(attempt(), { code: 'GPU_PACKAGE' })
    await rm(join(root, 'cache'), { recursive: true, force: true })
    await pack(NAMES[0] ?? '', { bins: false })
    await assert.rejects(attempt(), { code: 'GPU_PACKAGE' })
    const folder = join(root, 'node_modules', '@node-llama-cpp')
    assert.deepEqual(await readdir(folder), ['linux-x64-cuda'])
    assert.ok(existsSync(join(folder, 'linux-x64-cuda', 'index.d.ts')))
  })

  it('says when the registry does not have it', async () => {
    archives.clear()
    await rm(join(root, 'cache'), { recursive: true, force: true })
    const attempt = setupGpu({
      packages: linux('vulkan'),
      library,
      registry,
      signal: signal(),
      confirm: async () => true,
    })
    await assert.rejects(attempt, { code: 'GPU_REGISTRY' })
  })
})

describe('weightless provider setup --gpu', () => {
  /** Runs it without a terminal; what it said, and how it ended. */
  async function run(agreed: boolean): Promise<{ said: string; told: string; error: unknown }> {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()]
    const io = createIo({ argv: [], env: {}, cwd: root, stdin: new PassThrough(), stdout, stderr })
    const error = await fetchGpuBuilds({ io, agreed, packages: linux('vulkan'), library, registry }).then(
      () => undefined,
      (thrown: unknown) => thrown,
    )
    io.dispose()
    stdout.end()
    stderr.end()
    return { said: await text(stderr), told: await text(stdout), error }
  }

  // It says what it is about to fetch and how large that is as well as it can, and fetches nothing that nobody agreed to.
  it('says the size as well as it is known, and wants consent', async () => {
    await pack(NAMES[2] ?? '')
    const folder = join(root, 'node_modules', '@node-llama-cpp')
    for (const [unpacked, length, wanted] of [
      [true, true, /linux-x64-vulkan@9\.9\.9: 1000 B in /],
      [false, true, /linux-x64-vulkan@9\.9\.9: \d+ B to fetch, and more once unpacked, in /],
      [false, false, /linux-x64-vulkan@9\.9\.9: of a size that the registry does not say/],
    ] as const) {
      says = { unpacked, length, publicName: false }
      await rm(join(root, 'cache'), { recursive: true, force: true })
      const { said, error } = await run(false)
      assert.match(said, wanted)
      assert.equal(Reflect.get(Object(error), 'code'), 'CLI_USAGE')
      assert.deepEqual(await readdir(folder), ['linux-x64-cuda'])
    }
    const { told, error } = await run(true)
    assert.equal(error, undefined)
    assert.match(told, /ready: @node-llama-cpp\/linux-x64-vulkan@9\.9\.9/)
    assert.ok(existsSync(join(folder, 'linux-x64-vulkan', 'bins')))
  })
})
